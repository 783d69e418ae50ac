"""Tasks done beside the caller, in order: compressing and storing while the next thing is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Queue
from typing import Any

WAITING = 1  # tasks that may wait for the one that is worked on


class Behind:
    """A thread that does tasks in the order in which they are given; few wait, so memory is bounded.

    It is started with the first task, and belongs to the call that gives it: its beats are those of the call.
    """

    def __init__(self) -> None:
        self._tasks: Queue[Callable[[], Any] | None] = Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def do(self, task: Callable[[], Any]) -> None:
        """Have a task done; wait if too many do. Raises the error of an earlier one."""
        self._raise()
        if self._thread is None:
            context = copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._work,), daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def finish(self) -> None:
        """Wait until all tasks are done; raises the error of one of them."""
        self._end()
        self._raise()

    def give_up(self) -> None:
        """Do no further task; wait for the one that is worked on."""
        self._error = self._error or GivenUp()
        self._end()

    def _end(self) -> None:
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._error is None:  # after an error, tasks are only taken, so that nobody waits for ever
                try:
                    task()
                except BaseException as error:
                    self._error = error


class GivenUp(RuntimeError):
    """Tasks were given up."""
