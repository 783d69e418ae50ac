"""Points that are followed through pictures: where they are, where they are not, and cuts."""

import numpy as np
import pytest
from support.photo_scene import Motion, intrinsics, shoot

from recapture.models.cameras.estimate import Lens, estimate_shot
from recapture.models.cameras.tracks import Follower, follow

FRAMES, HEIGHT, WIDTH = 9, 96, 128


@pytest.fixture(scope="module")
def filmed():
    lens = intrinsics(HEIGHT, WIDTH, FRAMES)
    pose = Motion("pan", pan=0.8).cameras(FRAMES)
    video, depth = shoot(lens, pose, HEIGHT, WIDTH)
    rgb = ((video.movedim(1, -1).numpy() + 1) * 127.5).round().astype(np.uint8)
    return rgb, depth.numpy(), lens.numpy(), pose.numpy()


def everywhere(frames):
    return [np.ones(one.shape[:2], bool) for one in frames]


def test_points_are_where_the_geometry_says(filmed):
    rgb, depth, lens, pose = filmed
    seen = follow(zip(rgb, depth, everywhere(rgb)))
    first = seen.first[seen.track]
    start, anchor = seen.xy[first], seen.frame[first]
    z = depth[anchor, start[:, 1].astype(int), start[:, 0].astype(int)]
    rays = np.column_stack([start, np.ones(len(start))]) @ np.linalg.inv(lens[0]).T
    local = np.column_stack([z[:, None] * rays, np.ones(len(z))])
    there = np.einsum("nij,nj->ni", pose[seen.frame] @ np.linalg.inv(pose[anchor]), local)[:, :3]
    at = there @ lens[0].T
    error = np.linalg.norm(at[:, :2] / at[:, 2:] - seen.xy, axis=1)
    known = np.isfinite(seen.disparity[first])
    assert len(seen) > 100
    assert np.median(error[known]) < 0.2
    assert (error[known] < 0.5).mean() > 0.9
    assert seen.disparity[first][known] == pytest.approx(1 / z[known])
    assert not seen.cuts


def test_a_cut_is_found_where_it_is_and_ends_all_tracks(filmed):
    rgb, depth, _, _ = filmed
    other = rgb[:, ::-1, :, ::-1]
    frames = [*rgb[:5], *other[:4]]
    seen = follow(zip(frames, depth, everywhere(frames)))
    assert seen.cuts == (5,)
    for track in range(len(seen)):
        own = seen.frame[seen.track == track]
        assert own.max() < 5 or own.min() >= 5


def test_a_flash_or_a_fast_pan_is_no_cut(filmed):
    rgb, depth, _, _ = filmed
    flash = [*rgb[:4], np.clip(rgb[4].astype(int) + 60, 0, 255).astype(np.uint8), *rgb[5:]]
    assert not follow(zip(flash, depth, everywhere(rgb))).cuts
    fast = rgb[::4]
    assert not follow(zip(fast, depth, everywhere(fast))).cuts


def test_no_point_begins_where_it_may_not(filmed):
    rgb, depth, _, _ = filmed
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[:, : WIDTH // 2] = True
    seen = follow(zip(rgb[:2], depth, [left, left]))
    assert len(seen) > 20
    assert seen.xy[seen.first][:, 0].max() < WIDTH / 2 + 1


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_without_texture_has_no_points_and_no_cameras(value):
    follower = Follower()
    for _ in range(4):
        follower.add(
            np.full((64, 96, 3), value, np.uint8), np.ones((64, 96), np.float32), np.ones((64, 96), bool)
        )
    seen = follower.tracks()
    assert len(seen) == 0 and not seen.cuts
    found = estimate_shot(seen, Lens(80.0, (48.0, 32.0)), 0.2, regain=True)
    assert found.motion == "unknown" and "points per frame" in found.reason


def test_one_frame_stands_still():
    seen = follow([(np.zeros((64, 96, 3), np.uint8), np.ones((64, 96)), np.ones((64, 96), bool))])
    assert estimate_shot(seen, Lens(80.0, (48.0, 32.0)), 0.2, regain=True).motion == "still"
