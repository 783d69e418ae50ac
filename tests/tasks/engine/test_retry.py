"""How long a failed item waits before it is tried again."""

import pytest

from recapture.tasks.engine.retry import LONGEST_PAUSE, RetryPolicy
from recapture.tasks.engine.stage import Outcome


def failed(kind, attempts):
    return Outcome("a", "a", "0" * 32, "s", "error", error_type=kind, attempts=attempts)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 2), (2, 8), (3, 32), (4, LONGEST_PAUSE), (9, LONGEST_PAUSE)]
)
def test_pauses_grow_fourfold_up_to_the_longest(attempts, seconds):
    assert RetryPolicy().pause(failed("Throttled", attempts)) == seconds
    assert RetryPolicy(pause_seconds=0.01).pause(failed("Throttled", 3)) == pytest.approx(0.16)


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "DeviceLost", "WorkerLost", "WorkerHung"])
def test_what_a_pause_does_not_help_is_tried_again_at_once(kind):
    assert RetryPolicy().pause(failed(kind, 3)) == 0
