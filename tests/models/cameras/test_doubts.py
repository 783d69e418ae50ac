"""Estimates that explain the picture and are not believed: travel without depth, a lens without end."""

import numpy as np
import pytest
from support.point_world import CENTRE, FOCAL, tracks, walk

from recapture.models.cameras.bundle import LENS_RANGE
from recapture.models.cameras.doubts import LENS, PLANE
from recapture.models.cameras.estimate import Lens, estimate_shot
from recapture.models.cameras.shots import estimate_clip
from recapture.models.cameras.tracks import Tracks

FRAMES = 13


def flattened(seen, share):
    """The tracks with depth that shows only a share of the true differences, as poor models predict it."""
    middle = np.median(seen.disparity)
    return Tracks(**{**seen.__dict__, "disparity": middle * (seen.disparity / middle) ** share})


def test_a_zoom_before_rough_depth_does_not_travel():
    focal = FOCAL * np.exp(np.linspace(0, 0.3, FRAMES))
    seen = tracks(walk(FRAMES, turn=3), points=150, focal=focal, moving=0.3, depth_error=0.15)
    clip = estimate_clip(
        seen,
        Lens(FOCAL, CENTRE),
        spread=0.2,
        regain=True,
        groups=np.arange(FRAMES),
        least_confidence=0.0,
    )
    # disparities of their own would let every point of a zoom travel: the depth does not bear it out
    assert clip.motions == ("zooms",)
    assert not clip.arrays["world_to_camera"][:, :3, 3].any()


@pytest.mark.parametrize(("share", "error"), [(1.0, 0.0), (1.0, 0.2), (0.5, 0.0)])
def test_travel_is_believed_with_depth_that_is_roughly_right(share, error):
    seen = flattened(tracks(walk(FRAMES, turn=5, travel=0.8), points=150, depth_error=error), share)
    found = estimate_shot(seen, Lens(FOCAL, CENTRE), 0.2, regain=True)
    assert found.motion == "travels"
    assert found.doubt == ""


def test_travel_by_a_parallax_without_depth_is_not_believed():
    # every point moves as if it were equally far away, and depth says that they are not
    pose = walk(FRAMES, travel=0.8)
    seen = tracks(pose, points=150)
    rng = np.random.default_rng(1)
    depth = np.exp(0.4 * rng.normal(size=len(seen)))[seen.track]
    anchor, own = (
        seen.xy[seen.first][seen.track],
        pose[seen.frame] @ np.linalg.inv(pose[seen.frame[seen.first]])[seen.track],
    )
    ray = np.column_stack([(anchor - CENTRE) / FOCAL, np.ones(len(anchor))])
    moved = np.einsum("nij,nj->ni", own[:, :3, :3], ray) + 0.25 * own[:, :3, 3]
    wall = Tracks(
        **{**seen.__dict__, "xy": FOCAL * moved[:, :2] / moved[:, 2:] + CENTRE, "disparity": 0.25 * depth}
    )
    found = estimate_shot(wall, Lens(FOCAL, CENTRE), 0.2, regain=True)
    assert found.motion in ("turns", "zooms")
    assert PLANE in found.doubt
    assert not found.cameras.translation.any()


def test_a_picture_that_is_shifted_does_not_make_the_lens_endless():
    # electronic stabilisation moves the crop: a camera whose lens is ever longer explains it ever better
    seen = tracks(walk(FRAMES), points=150, noise=0.05)
    rng = np.random.default_rng(2)
    shift = np.cumsum(rng.normal(0, 9, (FRAMES, 2)), axis=0)
    moved = Tracks(**{**seen.__dict__, "xy": seen.xy + shift[seen.frame]})
    found = estimate_shot(moved, Lens(FOCAL, CENTRE), 0.2, regain=True)
    assert LENS in found.doubt
    assert np.median(found.cameras.focal) <= 1.001 * LENS_RANGE * FOCAL
