"""What goes wrong in a job without stopping it, and what stops it with one message."""

from fractions import Fraction

import numpy as np
import pytest

from recapture.conf.errors import UserError
from recapture.datasets.media.video import write_video
from recapture.flows.commands.plan import forecast
from recapture.flows.jobs import surveyed
from recapture.flows.recapture_dataset import recapture
from recapture.flows.run_job import TooManyMissing

pytestmark = pytest.mark.integration
ONE_FAILS = (
    "--trajectories",
    "[{preset: static, name: ok}, {preset: static, mode: bullet_time, freeze_frame: 99, name: late}]",
)


def delivered(tmp_path):
    root = tmp_path / "outputs/small"
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob("recapture.mp4"))


@pytest.fixture
def clips(tmp_path):
    """A folder dataset of two short real files."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    for number, name in enumerate(["a.mp4", "sub/b.mp4"]):
        frames = [np.stack([np.roll(ramp, 3 * t + number)[None].repeat(40, 0)] * 3, -1) for t in range(6)]
        write_video(str(folder / name), frames, fps=Fraction(12))
    return folder


def test_a_store_that_cannot_be_written_is_named_before_anything_starts(job, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"store .*/file/below cannot be written: .*; set store to a place"):
        recapture(job("--store", f"{tmp_path}/file/below"))


def test_files_that_are_no_videos_are_named_and_the_others_are_finished(job, tmp_path, clips):
    whole = (clips / "a.mp4").read_bytes()
    (clips / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "notes.mp4").write_text("this is not a video")
    (clips / "empty").mkdir()
    summary = recapture(job("--dataset.uri", str(clips), "--execution.max_failure_share", "0.2"))
    assert delivered(tmp_path) == ["a/orbit_right_10", "sub/b/orbit_right_10"]
    named = {failure.item: failure.error for failure in summary.failures}
    assert {"truncated", "notes"} <= named.keys()
    assert all(item in error for item, error in named.items())
    assert not summary.acceptable


def test_a_clip_with_broken_depth_is_quarantined_and_the_others_are_finished(job, tmp_path, clips):
    depth = np.full((6, 40, 64), 3.0, dtype=np.float32)
    depth[4] = np.nan
    np.savez(clips / "a.depth.npz", depth=depth)
    summary = recapture(job("--dataset.uri", str(clips)))
    assert delivered(tmp_path) == ["sub/b/orbit_right_10"]
    (failure,) = summary.failures
    assert (failure.item, failure.stage) == ("a", "depth")
    assert "clip 'a': depth has 1 frames (4)" in failure.error
    assert summary.counts["depth"] == {"ok": 1, "quarantined": 1}
    assert summary.counts["render"] == {"ok": 1, "blocked": 1}
    rows = {row.stage: row for row in forecast(*surveyed(job("--dataset.uri", str(clips))))}
    assert (rows["depth"].reused, rows["depth"].quarantined, rows["depth"].new) == (1, 1, 0)


def test_a_dataset_without_clips_is_one_message(job, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"nothing.*has no clip to work on"):
        recapture(job("--dataset.uri", str(tmp_path / "nothing")))


def test_a_trajectory_that_does_not_fit_fails_its_items_and_names_the_way_out(job, monkeypatch):
    summary = recapture(job(*ONE_FAILS))
    assert summary.delivered == 1
    (failure,) = summary.failures
    assert failure.item.endswith("@late")
    assert "freeze_frame is 99; the clip has frames 0 to 4" in failure.error
    # A deployment's run has no exit code: it fails when too much is missing.
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
    with pytest.raises(TooManyMissing, match="50% of 2 videos are missing"):
        recapture(job(*ONE_FAILS))
    assert recapture(job(*ONE_FAILS, "--execution.max_failure_share", "0.5")).delivered == 1
