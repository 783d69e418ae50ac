"""The summary counts what is missing and averages what was measured."""

import math

import pytest

from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Failure
from recapture.tasks.jobs.summary import JobSummary, format_value, method_table

VIDEOS = {f"{clip}@{label}": clip for clip in "ab" for label in ("left", "right")}


def summary(*ready, **changes):
    values = {
        "dataset": "d",
        "clips": 2,
        "videos": VIDEOS,
        "last_stage": "deliver",
        "max_failure_share": 0.25,
    }
    return JobSummary(**{**values, "ready": set(ready), **changes})


def outcome(item, status, **more):
    return Outcome(item, item.split("@")[0], "k", "s", status, **more)


def test_the_job_is_acceptable_up_to_the_configured_share():
    assert summary(*list(VIDEOS)[:3]).acceptable
    assert not summary(*list(VIDEOS)[:2]).acceptable


def test_an_unreadable_clip_lacks_every_one_of_its_videos():
    job = summary(*VIDEOS, unreadable=4)
    assert (job.wanted, job.delivered) == (8, 4)
    assert job.failure_share == pytest.approx(0.5)


def test_nothing_wanted_is_nothing_missing():
    assert summary(videos={}).failure_share == 0


@pytest.mark.parametrize(("dropped", "wanted"), [("a@left", 3), ("a", 2)])
def test_what_somebody_dropped_is_neither_wanted_nor_missing(dropped, wanted):
    job = summary()
    job.add("render", [outcome(dropped, "dropped")])
    assert job.wanted == wanted
    assert job.failures == []


def test_only_the_last_stage_delivers():
    job = summary()
    job.add("render", [outcome("a@left", "ok")])
    assert job.delivered == 0
    job.add("deliver", [outcome("a@left", "ok"), outcome("a@right", "reused"), outcome("b@left", "blocked")])
    assert job.delivered == 2


def test_damaged_sound_is_a_warning_in_the_report_and_nothing_missing():
    job = summary()
    healthy = {"frames": 5.0, "sound_lost": 0.0, "sound_damaged_packets": 0.0}
    job.add("deliver", [outcome("a@left", "ok", metrics=healthy)])
    assert job.warnings == [] and "Warnings" not in job.markdown()
    job.add("deliver", [outcome("a@right", "reused", metrics=healthy | {"sound_damaged_packets": 3.0})])
    job.add("deliver", [outcome("b@left", "ok", metrics=healthy | {"sound_lost": 1.0})])
    assert job.delivered == 3 and not job.failures
    assert "- a@right: 3 packets of the source's sound are damaged; silence instead" in job.markdown()
    assert "- b@left: none of the source's sound can be decoded; the video has no sound" in job.markdown()


def test_a_quarantined_item_is_named_once_and_what_it_blocks_is_only_counted():
    job = summary()
    job.add("depth", [outcome("a", "quarantined", error="no depth")])
    job.add("deliver", [outcome("a@left", "blocked"), outcome("a@right", "blocked")])
    assert job.failures == [Failure("a", "depth", "no depth")]
    assert job.counts == {"depth": {"quarantined": 1}, "deliver": {"blocked": 2}}


def test_shards_add_up():
    job = summary()
    for item in ("a", "b"):
        job.add("measure", [outcome(item, "ok", metrics={"x/psnr": 20.0})])
    assert job.counts == {"measure": {"ok": 2}}
    assert job.metrics == {"a": {"x/psnr": 20.0}, "b": {"x/psnr": 20.0}}


def test_reused_means_that_every_stage_reused_everything():
    assert summary(counts={"ingest": {"reused": 2}, "depth": {"reused": 1, "ok": 0}}).reused_everything
    assert not summary(counts={"ingest": {"reused": 2}, "depth": {"ok": 1}}).reused_everything
    assert not summary().reused_everything


def test_an_item_whose_parent_was_lost_on_the_way_is_named_and_one_blocked_by_an_earlier_failure_is_not():
    job = summary()
    job.add("fill", [Outcome("a@left", "a", "k", "fill", "blocked", "ArtifactDamaged", "render is damaged")])
    job.add("fill", [Outcome("b@left", "b", "k", "fill", "blocked", "Blocked", "render has made nothing")])
    assert job.failures == [Failure("a@left", "fill", "render is damaged")]
    assert job.counts["fill"] == {"blocked": 2}


def test_the_table_averages_what_is_defined_and_leaves_out_the_rest():
    table = method_table({"a": {"x/psnr": 20.0, "x/ssim": math.nan, "seconds": 3.0}, "b": {"x/psnr": 30.0}})
    assert table == {"x": {"psnr": 25.0}}


def test_the_report_names_every_missing_item_and_every_method():
    job = summary(
        *list(VIDEOS)[:3],
        failures=[Failure("b@right", "render", "no depth")],
        metrics={"a@left": {"classical/psnr": 21.25, "copy_source/psnr": 15.0}},
        counts={"render": {"ok": 3, "quarantined": 1}},
    )
    lines = job.markdown().splitlines()
    assert lines[0] == "# d: 3 of 4 videos"
    for line in (
        "| render | 3 | 0 | 1 | 0 |",
        "| mean over 1 videos | classical | copy_source |",
        "| psnr | 21.2 | 15.0 |",
        "- `b@right` at render: no depth",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (12.345, "12.3"), (0.01234, "0.0123"), (-30.04, "-30.0")],
)
def test_values_are_short(value, text):
    assert format_value(value) == text


def test_a_video_whose_measurement_was_dropped_hides_no_other_that_is_missing():
    job = summary("a@left", "a@right", "b@left")
    job.add("measure", [outcome("a@left", "dropped")])
    assert (job.wanted, job.delivered) == (4, 3)


def test_the_report_says_which_clips_without_cameras_move_and_that_nothing_is_taken_from_their_other_frames():
    job = summary()
    assert "no cameras" not in job.markdown()
    for item, share in (("a", 1.0), ("b", 0.0), ("c", 0.4), ("d", 0.0)):
        job.add("ingest", [outcome(item, "reused", metrics={"frames": 9.0, "camera_still": share})])
    job.add("ingest", [outcome("e", "ok", metrics={"frames": 9.0})])
    (line,) = [line for line in job.markdown().splitlines() if "no cameras" in line]
    assert line.startswith("4 clips have no cameras: 1 are measured to stand still, 1 in parts, 2 to move.")


def test_the_report_says_what_became_of_cameras_that_were_estimated():
    job = summary()
    for item, known, still, shots in (("a", 1, 1, 1), ("b", 1, 0, 1), ("c", 0, 0, 1), ("d", 0, 0, 3)):
        metrics = {"camera_known": float(known), "camera_still": float(still), "camera_shots": float(shots)}
        job.add("cameras", [outcome(item, "ok", metrics=metrics)])
    (line,) = [line for line in job.markdown().splitlines() if "were estimated" in line]
    assert line.startswith(
        "The cameras of 4 clips were estimated: 1 stand still, 1 move and are known, 1 are cut into shots, "
        "1 are not known. Where they are not known, holes are not filled from other frames"
    )


def test_a_caption_that_is_too_long_is_a_warning_of_the_job_once_per_clip():
    job = summary()
    for item in ("a@left", "a@right"):
        job.add("fill", [outcome(item, "ok", metrics={"windows": 1.0, "caption_tokens_left_out": 189.0})])
    job.add("fill", [outcome("b@left", "ok", metrics={"windows": 1.0})])
    assert len(job.warnings) == 1
    assert "the last 189 tokens of the caption" in job.warnings[0]
    assert job.warnings[0] in job.markdown().replace("- ", "")
