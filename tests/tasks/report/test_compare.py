"""Paired differences of two jobs: against SciPy's bootstrap, a slow twin, and cases with a known answer."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from support.results_site import site_report

from recapture.tasks.report.compare import difference, differences, interval, most_changed, pairs


def test_an_interval_of_single_videos_is_that_of_scipy():
    steps = np.random.default_rng(5).normal(0.4, 1, 60)
    found = interval(steps, np.arange(60), resamples=20000)
    theirs = bootstrap(
        (steps,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_clips_are_drawn_with_all_their_videos():
    """Against resampling by hand; drawn one by one, ten equal videos of a clip would count as ten."""
    draws = np.random.default_rng(2)
    group = np.repeat(np.arange(12), 10)
    steps = np.repeat(draws.normal(0, 1, 12), 10)
    clips = [steps[group == clip] for clip in range(12)]
    means = [np.concatenate([clips[at] for at in draws.integers(12, size=12)]).mean() for _ in range(5000)]
    low, high = interval(steps, group, resamples=5000)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.06)
    one_by_one = interval(steps, np.arange(120), resamples=5000)
    assert high - low > 2 * (one_by_one[1] - one_by_one[0])


def test_only_videos_with_a_value_in_both_count():
    before = np.array([1.0, np.nan, 3.0, 5.0, np.inf])
    after = np.array([2.0, 4.0, np.nan, 4.0, 7.0])
    found = difference("psnr", before, after, np.array(["a", "b", "c", "d", "e"]))
    assert (found.videos, found.clips, found.rose, found.fell) == (2, 2, 1, 1)
    assert (found.before, found.after, found.mean) == (3.0, 3.0, 0.0)
    assert found.low is None, "two clips are too few for an interval"


def test_jobs_are_paired_by_clip_and_trajectory_and_by_what_fills_them():
    before, after = site_report(("a", "b", "c", "d")), site_report(("b", "c", "d", "e"), better=-1.5)
    before.videos.metrics = {
        name.replace("base/", "inverse/"): column for name, column in before.videos.metrics.items()
    }
    both = pairs(before, after)
    assert [(before.videos.clip[one.before], after.videos.clip[one.after]) for one in both] == [
        (clip, clip) for clip in "bbccdd"
    ]
    found = {one.metric: one for one in differences(before, after)}
    # each is two places further in the first job: 6 dB more than in the second
    assert found["psnr"].mean == pytest.approx(-7.5) and found["psnr"].videos == 5
    assert found["psnr"].low == found["psnr"].high == pytest.approx(-7.5)
    assert found["hole_share"].mean == pytest.approx(0.02)


def test_what_changed_most_comes_first():
    before, after = site_report(("a", "b", "c")), site_report(("a", "b", "c"))
    after.videos.metrics["base/psnr"][3] -= 5
    after.videos.metrics["base/psnr"][1] += 2
    assert [one.after for one in most_changed(before, after, "psnr", 2)] == [3, 1]
