"""The worker thread of the studio: does the newest of each kind of request, and drops those it replaces."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials

logger = logging.getLogger(__name__)
Work = Callable[[], None]


class Painter:
    """One thread that works on requests by name; a newer request takes the place of a waiting one.

    All work on a session goes through it, so that no two threads use it at once. say: shows an error.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._waiting = say, dict[str, Work]()
        self._changed, self._open, self._busy = threading.Condition(), True, False
        self._thread = threading.Thread(target=self._loop, name="studio", daemon=True)
        self._thread.start()

    def ask(self, name: str, work: Work) -> None:
        """Have work done after what waits already."""
        with self._changed:
            self._waiting.pop(name, None)
            self._waiting[name] = work
            self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """Return whether anything waits: long work ends early for it."""
        return bool(self._waiting)

    def settle(self, timeout: float = 60.0) -> bool:
        """Wait until nothing waits and nothing is at work; return whether that came within `timeout`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self) -> None:
        """End the thread after what it is working on."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._open:
                    return
                work, self._busy = self._waiting.pop(next(iter(self._waiting))), True
            try:
                work()
            except UserError as error:
                self._say(without_credentials(str(error)))
            except Exception as error:  # the viewer goes on; the log has the rest
                logger.exception("studio")
                self._say(without_credentials(f"{type(error).__name__}: {error}"))
