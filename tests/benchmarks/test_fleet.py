"""The simulation of jobs agrees with closed forms, loses no clip, and adds up."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.fleet import Clock, Fleet, queue_wait, simulate


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_events_happen_in_the_order_of_their_times_and_ties_in_that_of_setting() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()

    def noted(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, clock.now))

    for name, delay in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
        clock.after(delay, noted(name))
    clock.run()
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 2.0)]


@pytest.mark.parametrize(("clips", "gpus"), [(1, 1), (10, 3), (12, 4), (3, 8), (1000, 7)])
def test_equal_clips_on_equal_gpus_take_whole_rounds(clips: int, gpus: int) -> None:
    ran = simulate([5.0] * clips, Fleet(gpus), random())
    assert ran.seconds == pytest.approx(math.ceil(clips / gpus) * 5)
    assert (ran.done, ran.busy, ran.wasted, ran.losses) == (clips, 5.0 * clips, 0.0, 0)


def test_a_driver_that_takes_longer_than_the_gpus_sets_the_pace() -> None:
    ran = simulate([1.0] * 500, Fleet(10, driver=0.4), random())
    assert ran.seconds == pytest.approx(500 * 0.4 + 1.0)  # the last clip follows the last hand-out
    ran = simulate([1.0] * 500, Fleet(2, driver=0.1), random())
    assert ran.seconds == pytest.approx(0.1 + 500 / 2, rel=0.01)


def test_any_job_does_every_clip_once_and_every_gpu_second_is_accounted_for() -> None:
    draw = random()
    for gpus, lost in ((1, 0.3), (5, 0.0), (40, 0.5)):
        clips = draw.lognormal(5, 0.6, 800)
        fleet = Fleet(gpus, driver=0.01, lost_per_hour=lost, replaced_after=200)
        ran = simulate(clips, fleet, draw)
        assert ran.done == len(clips) and ran.busy == pytest.approx(clips.sum())
        assert ran.busy + ran.wasted <= gpus * ran.seconds * (1 + 1e-12)
        assert (ran.losses > 0) == (lost > 0) and ran.until_tail <= ran.seconds
        assert ran.seconds >= max(clips.max(), clips.sum() / gpus)


def test_no_order_beats_the_bound_and_longest_first_is_within_four_thirds_of_it() -> None:
    clips = random().lognormal(3, 1, 200)
    bound = max(clips.max(), clips.sum() / 16)
    longest = simulate(np.sort(clips)[::-1], Fleet(16), random()).seconds
    assert bound <= longest <= 4 / 3 * bound  # Graham's bound for longest first


def test_losses_cost_what_renewal_theory_says() -> None:
    # One GPU, clips of s seconds, losses at rate r, replacement after R: (1/r + R)(exp(r s) - 1) per clip.
    share, clip, replaced = 0.9, 1800.0, 600.0
    rate = -math.log1p(-share) / 3600
    ran = simulate([clip] * 4000, Fleet(1, lost_per_hour=share, replaced_after=replaced), random())
    expected = (1 / rate + replaced) * (math.exp(rate * clip) - 1)
    assert ran.seconds / 4000 == pytest.approx(expected, rel=0.06)
    assert ran.losses / ran.done == pytest.approx(math.exp(rate * clip) - 1, rel=0.06)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_random_arrivals_wait_as_in_an_m_d_1_queue(load: float) -> None:
    arrivals = np.cumsum(random().exponential(1.0, 400_000))
    expected = load * load / (2 * (1 - load))  # rho s / (2 (1 - rho)) with arrivals of rate 1
    assert queue_wait(arrivals, load) == pytest.approx(expected, rel=0.06)
