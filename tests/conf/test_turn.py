"""Turns: one call at a time has the device, in the order in which they came, whatever happens inside."""

import threading
import time

import pytest
import torch

from recapture.conf import turn as turns
from recapture.conf.heartbeat import call, seconds_since_beat
from recapture.conf.turn import FairLock, Withdrawn, counted_turns, turn, withdraw


def in_threads(*works):
    """Run each in a thread of its own; raise the first error of any."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_only_one_call_at_a_time_has_its_turn():
    inside, most = [], []

    def work():
        for _ in range(20):
            with turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    in_threads(work, work, work)
    assert most == [1] * 60


def test_turns_are_given_in_the_order_in_which_calls_came():
    lock, order, callers = FairLock(), [], ["a", "b", "c", "d"]
    lock.acquire("first")

    def caller(name):
        def work():
            wait_until(lambda: len(lock._queue) == callers.index(name))
            lock.acquire(name)
            order.append(name)
            lock.release()

        return work

    def first():
        wait_until(lambda: len(lock._queue) == len(callers))
        order.append("first")
        lock.release()

    in_threads(*map(caller, callers), first)
    assert order == ["first", *callers]


def test_a_call_that_takes_turn_after_turn_lets_those_who_wait_in_between():
    order, go = [], threading.Event()

    def greedy():
        for _ in range(3):
            with turn():
                order.append("greedy")
                go.set()
                wait_until(lambda: "other" in order or turns._device._queue)

    def other():
        go.wait(30)
        with turn():
            order.append("other")

    in_threads(greedy, other)
    assert order == ["greedy", "other", "greedy", "greedy"]


def test_a_turn_within_a_turn_is_part_of_it():
    with call("a"), counted_turns() as counted:
        with turn():
            with turn():
                pass
            assert turns._device._owner is not None  # the inner one has not given it away
        assert turns._device._owner is None
    assert counted.taken == 1


def test_an_error_inside_gives_the_turn_back():
    with pytest.raises(ValueError, match="inside"), turn():
        raise ValueError("inside")
    assert turns._device._owner is None


def test_an_interrupt_while_waiting_leaves_no_one_waiting_for_ever(monkeypatch):
    lock = FairLock()
    lock.acquire("a")

    class Interrupting:
        def __enter__(self):
            raise KeyboardInterrupt

        def __exit__(self, *error):
            """Do nothing."""

    monkeypatch.setattr(turns, "waiting", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire("b")
    lock.release()
    lock.acquire("c")  # it would wait for the turn of b
    assert lock.held_by("c")


def test_the_seconds_of_a_turn_are_those_of_its_call_without_the_wait():
    waited = threading.Event()
    found = {}

    def holds():
        with call("holds"), counted_turns() as counted, turn():
            waited.set()
            time.sleep(1.0)
        found["holds"] = counted

    def waits():
        waited.wait(30)
        with call("waits"), counted_turns() as counted, turn():
            time.sleep(0.05)
        found["waits"] = counted

    in_threads(holds, waits)
    assert found["holds"].seconds >= 1.0
    assert 0.05 <= found["waits"].seconds < 1.0
    assert found["waits"].taken == 1


def test_a_call_that_waits_for_its_turn_is_not_silent_and_the_one_that_has_it_is():
    released, began = threading.Event(), []

    def holds():
        with call("holds"), turn():
            released.wait(30)

    def waits():
        wait_until(lambda: turns._device._owner is not None)
        with call("waits"), turn():
            began.append(seconds_since_beat("waits"))

    def watches():
        wait_until(lambda: turns._device._queue)
        time.sleep(0.5)
        assert seconds_since_beat("holds") >= 0.5
        assert seconds_since_beat("waits") == 0.0
        released.set()

    in_threads(holds, waits, watches)
    assert began[0] < 0.5  # its silence begins with its turn


def test_the_device_is_waited_for_and_its_peak_is_that_of_the_turn(monkeypatch):
    class Device:
        """CUDA as far as turns use it: work is done only when it is waited for."""

        peak, did = 0, []

        def is_initialized(self):
            return True

        def current_stream(self):
            return self

        def synchronize(self):
            self.did.append("waited")

        def reset_peak_memory_stats(self):
            self.peak = 0

        def max_memory_allocated(self):
            return self.peak

    device = Device()
    monkeypatch.setattr(torch, "cuda", device)
    with counted_turns() as counted:
        device.peak = 50 * 2**20  # of another call
        for peak in (7, 3):
            with turn():
                device.peak = peak * 2**20
                device.did.append("launched")
    assert counted.peak_mb == 7
    assert device.did == ["waited", "launched", "waited"] * 2


def test_a_call_that_is_withdrawn_while_it_waits_has_no_turn_and_those_behind_it_have_theirs():
    lock, order = FairLock(), []
    lock.acquire("first")
    calls, waiting = {}, []

    def caller(name):
        with call(name) as calls[name]:
            waiting.append(name)
            try:
                lock.acquire(calls[name])
            except Withdrawn:
                order.append(f"{name} withdrawn")
                return
            order.append(name)
            lock.release()

    threads = []
    for number, name in enumerate("abc", 1):
        threads.append(threading.Thread(target=caller, args=(name,), daemon=True))
        threads[-1].start()
        wait_until(lambda number=number: len(lock._queue) == number)
    assert lock.withdraw(calls["b"])
    wait_until(lambda: order == ["b withdrawn"])
    lock.release()
    for thread in threads:
        thread.join(30)
    assert order == ["b withdrawn", "a", "c"]


def test_a_call_that_is_withdrawn_before_it_asks_fails_at_its_first_turn_alone():
    with call("one"):
        assert withdraw("one")
        with pytest.raises(Withdrawn), turn():
            raise AssertionError("it has its turn")
    with call("two"), turn():
        assert not withdraw("two")  # it is at work
    with call("two"):
        with turn():
            pass
        assert not withdraw("two")
        with turn():  # the next ones are its own too
            pass
    assert not withdraw("nobody")
