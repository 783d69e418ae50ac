import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene


def one(uri: str) -> Clip:
    (clip,), rejected = scan(uri)
    assert not rejected
    return clip


def test_a_uri_names_consecutive_scenes_whose_own_uris_say_all_about_them() -> None:
    clips, rejected = scan(
        "scenes://?count=3&seed=41&frames=9&height=32&width=48&fps=30000/1001&camera=moving"
    )
    assert not rejected
    assert [clip.id for clip in clips] == ["scene-000041", "scene-000042", "scene-000043"]
    assert {(clip.frames, clip.height, clip.width, clip.fps) for clip in clips} == {(9, 32, 48, "30000/1001")}
    for clip in clips:
        assert one(clip.uri) == clip
    assert len({clip.content_hash for clip in clips}) == 3
    assert one("scenes://?seed=41&frames=10").content_hash != one("scenes://?seed=41&frames=9").content_hash


def test_the_source_view_is_the_truth_at_the_source_camera() -> None:
    clip = one("scenes://?seed=3&frames=6&height=32&width=48&camera=moving")
    source = open_clip(clip)
    cameras = source.cameras()
    assert cameras is not None
    truth = source.truth(*cameras, np.arange(6), 32, 48)
    depth = source.depth()
    assert truth is not None and depth is not None
    # Cameras pass through other precisions; a texture's edge may round differently.
    difference = np.abs(truth["video"].astype(int) - np.stack(list(source.frames())).astype(int))
    assert np.mean(difference > 2) < 0.002
    assert truth["video"].shape == (6, 32, 48, 3) and truth["video"].dtype == np.uint8
    np.testing.assert_allclose(truth["depth"], depth, rtol=1e-4)
    assert truth["visible"].all()
    assert truth["object_id"].max() >= 2


def test_ranges_of_frames_and_depth_are_slices() -> None:
    clip = one("scenes://?seed=3&frames=7&height=24&width=24")
    source = open_clip(clip)
    everything, depth = list(source.frames()), source.depth()
    assert depth is not None and depth.shape == (7, 24, 24) and depth.dtype == np.float32
    for start, stop in ((0, 7), (2, 5), (6, 20), (7, 9)):
        part = list(source.frames(start, stop))
        assert len(part) == len(everything[start:stop])
        assert all(np.array_equal(a, b) for a, b in zip(part, everything[start:stop]))
        maps = source.depth(start, stop)
        assert maps is not None
        assert np.array_equal(maps, depth[start:stop])


def test_large_clips_are_rendered_a_few_frames_at_a_time_with_the_same_result() -> None:
    clip = one("scenes://?seed=8&frames=40&height=128&width=192")
    source = open_clip(clip)
    everything = list(source.frames())
    assert len(everything) == 40
    scene = sample_scene(8)
    intrinsics, pose = source_cameras(scene, 40, 128, 192)
    single = render_scene(scene, intrinsics[39:], pose[39:], torch.tensor([39.0]), 128, 192)
    expected = ((single.video[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.abs(everything[39] - expected).max() <= 1


def test_truth_of_a_moved_camera_has_another_size_holes_and_depth() -> None:
    clip = one("scenes://?seed=10&frames=9&height=48&width=64&camera=still")
    source = open_clip(clip)
    cameras = source.cameras()
    assert cameras is not None
    intrinsics, pose = (array[[0, 4, 8]].copy() for array in cameras)
    intrinsics[:, :2] *= 0.5
    pose[:, 0, 3] -= 1.0  # the camera moves one unit to its right
    truth = source.truth(intrinsics, pose, [0, 4, 8], 24, 32)
    assert truth is not None
    assert {name: array.shape for name, array in truth.items()} == {
        "video": (3, 24, 32, 3),
        "depth": (3, 24, 32),
        "object_id": (3, 24, 32),
        "visible": (3, 24, 32),
    }
    assert truth["visible"].dtype == bool
    assert 0.4 < truth["visible"].mean() < 0.98
    # What came in from the right was outside of the source's image.
    assert truth["visible"][:, :, -1].mean() < 0.2 < truth["visible"][:, :, 8].mean()


def test_truth_refuses_moments_outside_the_clip_and_counts_that_differ() -> None:
    clip = one("scenes://?seed=1&frames=4&height=16&width=16")
    source = open_clip(clip)
    cameras = source.cameras()
    assert cameras is not None
    with pytest.raises(ClipError, match=r"clip 'scene-000001': .*frames 1 to 4 of 4"):
        source.truth(*cameras, np.arange(1, 5), 16, 16)
    with pytest.raises(ClipError, match=r"4 intrinsics, 4 cameras and 3 times"):
        source.truth(*cameras, np.arange(3), 16, 16)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("scenes://?cuont=4", "unknown key 'cuont'; use seed, frames"),
        ("scenes://?frames=0", "frames='0'.*greater than or equal to 1"),
        ("scenes://?frames=many", "frames='many'"),
        ("scenes://?seed=-1", "seed='-1'"),
        ("scenes://?camera=drunk", "camera='drunk': must be one of any, still, moving"),
        ("scenes://?fps=0", "fps='0': must be a rate"),
        ("scenes://?fps=1/0", "fps='1/0': must be a rate"),
        ("scenes://?seed=1&seed=2", "given twice"),
        ("scenes://host/path?seed=1", "must start with"),
    ],
)
def test_a_uri_that_says_nonsense_is_one_readable_error(uri: str, reason: str) -> None:
    with pytest.raises(ClipError, match=reason) as caught:
        scan(uri)
    assert "\n" not in str(caught.value)


def test_a_scenes_file_gives_clips_below_its_folder_and_rejects_entries_one_by_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "rooms"
    folder.mkdir()
    (folder / "scenes.yaml").write_text(
        """
defaults: {frames: 5, height: 16, width: 32}
scenes:
  - {seed: 7}
  - {id: wide/one, seed: 8, width: 48, caption: A wide room}
  - {id: ../up, seed: 9}
  - {seed: 10, colour: red}
"""
    )
    clips, rejected = scan(str(tmp_path))
    assert [(clip.id, clip.frames, clip.width) for clip in clips] == [
        ("rooms/scene-000007", 5, 32),
        ("rooms/wide/one", 5, 48),
    ]
    assert clips[1].caption == "A wide room"
    assert "sphere" in clips[0].caption or "box" in clips[0].caption or "cylinder" in clips[0].caption
    assert len(rejected) == 2
    assert any("'..'" in item.error and "entry 2" in item.error for item in rejected)
    assert any("unknown key 'colour'" in item.error and "entry 3" in item.error for item in rejected)
    alone, _ = scan(str(folder / "scenes.yaml"))
    assert [clip.id for clip in alone] == ["scene-000007", "wide/one"]


@pytest.mark.parametrize("text", ["{", "- 1", "", "scenes: 3", "scene: []", "scenes: [1]", "\x00"])
def test_a_scenes_file_that_is_none_is_rejected_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "scenes.yaml").write_text(text)
    clips, (rejected,) = scan(str(tmp_path))
    assert not clips
    assert "scenes.yaml" in rejected.error and "write it as in" in rejected.error
    assert "\n" not in rejected.error


def test_a_scenes_file_may_be_json(tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text(json.dumps({"scenes": [{"seed": 2}]}))
    assert one(str(tmp_path / "scenes.json")).id == "scene-000002"
    assert one(str(tmp_path)).id == "scene-000002"
