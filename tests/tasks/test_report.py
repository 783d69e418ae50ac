"""The summary counts what is missing and averages what was measured."""

import math

import pytest

from recapture.datasets.clips import Rejected
from recapture.tasks.report import Failure, JobSummary, format_value, markdown, method_table


def summary(**changes):
    values = {"dataset": "d", "clips": 2, "wanted": 4, "delivered": 3, "max_failure_share": 0.25}
    return JobSummary(**values | changes)


def test_the_job_is_acceptable_up_to_the_configured_share():
    assert summary().acceptable
    assert not summary(delivered=2).acceptable


def test_a_rejected_clip_counts_once_a_trajectory():
    job = summary(wanted=2, delivered=2)
    job.reject([Rejected("bad", "/d/bad.mp4", "scan", "VideoError", "it is empty")], trajectories=2)
    assert job.failure_share == pytest.approx(0.5)
    assert job.failures == [Failure("bad", "scan", "it is empty")]


def test_nothing_wanted_is_nothing_missing():
    assert summary(wanted=0, delivered=0).failure_share == 0


def test_reused_means_that_every_stage_reused_everything():
    assert summary(counts={"ingest": {"reused": 2}, "depth": {"reused": 1, "ok": 0}}).reused_everything
    assert not summary(counts={"ingest": {"reused": 2}, "depth": {"ok": 1}}).reused_everything


def test_the_table_averages_what_is_defined_and_leaves_out_the_rest():
    table = method_table({"a": {"x/psnr": 20.0, "x/ssim": math.nan, "seconds": 3.0}, "b": {"x/psnr": 30.0}})
    assert table == {"x": {"psnr": 25.0}}


def test_the_report_names_every_missing_item_and_every_method():
    job = summary(
        failures=[Failure("bad@left", "render", "no depth")],
        metrics={"a@left": {"classical/psnr": 21.25, "copy_source/psnr": 15.0}},
        counts={"render": {"ok": 3, "quarantined": 1}},
    )
    text = markdown(job)
    for part in (
        "3 of 4 videos",
        "`bad@left` at render: no depth",
        "| classical | 21.2 |",
        "| copy_source | 15.0 |",
    ):
        assert part in text
    assert "| render | 3 | 0 | 1 | 0 |" in text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (math.nan, "–"), (12.345, "12.3"), (0.01234, "0.0123")]
)
def test_values_are_short(value, text):
    assert format_value(value) == text
