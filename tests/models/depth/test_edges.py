"""Soft depth edges, made sharp."""

import math

import pytest
import torch
from torch.nn.functional import conv2d, pad

from recapture.datasets.scenes.assemble import make_scene
from recapture.datasets.scenes.layout import Room, SceneObject, SourceCamera
from recapture.datasets.scenes.render import co_visible, render_scene
from recapture.models.depth import edges
from recapture.models.depth.edges import SharpEdges
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.geometry.trajectories import preset_path

HEIGHT, WIDTH = 60, 80
SHARE = 4 / WIDTH
SURFACE = SurfaceSettings(break_ratio=0.05, shell=0.3, max_stretch=16.0)


def soften(depth, width):
    """Blur disparity so that an edge becomes a ramp about `width` pixels wide."""
    sigma = width / 2.5
    reach = int(3 * sigma) + 1
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    disparity = pad(1 / depth[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = conv2d(disparity, kernel[None, None, None])
    return 1 / conv2d(rows, kernel[None, None, :, None])[:, 0]


def disc(frames=1, near=2.0, far=5.0):
    """Return the depth of a disc before a wall, and a picture in which the disc has a colour of its own."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    inside = (x - 40) ** 2 + (y - 30) ** 2 < 15**2
    depth = torch.where(inside, near, far).expand(frames, -1, -1)
    picture = torch.where(inside, 0.6, -0.4).expand(frames, 3, -1, -1)
    random = torch.Generator().manual_seed(0)
    return depth, picture + 0.05 * torch.randn(picture.shape, generator=random)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_ramp_becomes_the_edge_that_the_picture_shows(width):
    depth, picture = disc()
    soft = soften(depth, width)
    sharp = SharpEdges(SHARE).sharpen(soft, picture)
    wrong = lambda found: (torch.log(found / depth).abs() > 0.05).float().mean()  # noqa: E731
    assert wrong(soft) > 0.01
    assert wrong(sharp) < 0.08 * wrong(soft)


def test_a_sharp_edge_stays_bit_for_bit():
    depth, picture = disc()
    assert torch.equal(SharpEdges(SHARE).sharpen(depth, picture), depth)


@pytest.mark.parametrize("slope", [0.0, 0.002, 0.02])
def test_a_slanted_plane_stays_bit_for_bit(slope):
    disparity = 0.2 + slope * torch.arange(HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    depth = (1 / disparity)[None]
    assert torch.equal(SharpEdges(SHARE).sharpen(depth, torch.zeros(1, 3, HEIGHT, WIDTH)), depth)


def test_a_share_of_zero_changes_nothing():
    depth, picture = disc()
    soft = soften(depth, 3)
    assert torch.equal(SharpEdges(0.0).sharpen(soft, picture), soft)


def test_the_scale_of_depth_does_not_matter():
    depth, picture = disc()
    soft = soften(depth, 3)
    once, scaled = SharpEdges(SHARE).sharpen(soft, picture), SharpEdges(SHARE).sharpen(soft * 250, picture)
    torch.testing.assert_close(scaled, once * 250, rtol=1e-4, atol=0)


def test_chunks_do_not_matter():
    depth, picture = disc(7)
    random = torch.Generator().manual_seed(1)
    soft = soften(depth, 3) * torch.exp(0.02 * torch.randn(7, HEIGHT, WIDTH, generator=random))
    whole, parts = SharpEdges(SHARE).sharpen(soft, picture), SharpEdges(SHARE)
    found = [parts.sharpen(soft[part], picture[part]) for part in (slice(0, 3), slice(3, 4), slice(4, 7))]
    assert torch.equal(torch.cat(found), whole)


@pytest.mark.parametrize("nothing", [0.0, -1.0, math.inf, math.nan])
def test_unusable_depth_stays_and_is_not_spread(nothing):
    depth, picture = disc()
    soft = soften(depth, 3)
    soft[:, 20:35, 30:40] = nothing
    sharp = SharpEdges(SHARE).sharpen(soft, picture)
    hole = torch.zeros_like(soft, dtype=torch.bool)
    hole[:, 20:35, 30:40] = True
    torch.testing.assert_close(sharp[hole], soft[hole], equal_nan=True, rtol=0, atol=0)
    assert ((sharp[~hole] >= 1.9) & (sharp[~hole] <= 5.1)).all()


def test_an_edge_that_the_picture_hides_does_not_flicker():
    depth, picture = disc(12)
    random = torch.Generator().manual_seed(2)
    noisy = soften(depth, 3) * torch.exp(0.01 * torch.randn(12, HEIGHT, WIDTH, generator=random))
    grey = torch.zeros_like(picture)

    def switches(sharp):
        side = sharp > math.sqrt(2 * 5)
        return int((side[1:] != side[:-1]).sum())

    alone = torch.cat(
        [SharpEdges(SHARE).sharpen(one[None], grey[:1]) for one in noisy]
    )  # without the frame before
    assert switches(SharpEdges(SHARE).sharpen(noisy, grey)) < 0.7 * switches(alone)


def test_votes_are_those_of_a_loop_over_pixels():
    depth, picture = disc()
    soft = soften(depth, 3)
    sharp = SharpEdges(SHARE).sharpen(soft, picture)[0]
    nearness, reach = -torch.log(soft[0]), 4
    steps = [round((reach + 1) * step / 4) for step in range(-4, 5)]
    steepness = torch.zeros(HEIGHT, WIDTH)
    square = lambda r, y, x: (  # noqa: E731
        slice(max(0, y - r), y + r + 1),
        slice(max(0, x - r), x + r + 1),
    )
    for y in range(HEIGHT):
        for x in range(WIDTH):
            part = nearness[square(1, y, x)]
            steepness[y, x] = part.max() - part.min()
    firm = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            firm[y, x] = steepness[y, x] <= edges.FIRM * steepness[square(reach, y, x)].max()
    changed = 0
    for y in range(HEIGHT):
        for x in range(WIDTH):
            around = square(reach + 1, y, x)
            surfaces = nearness[around][firm[around]]
            own = nearness[y, x]
            expected = own
            if not firm[y, x] and len(surfaces) and surfaces.max() - surfaces.min() > edges.JUMP:
                low, span = surfaces.min(), surfaces.max() - surfaces.min()
                share = (own - low) / span
                if edges.BETWEEN < share < 1 - edges.BETWEEN:
                    expected = _voted(nearness, picture[0], firm, (y, x), low + span / 2, share, steps, reach)
                    changed += 1
            assert torch.isclose(-torch.log(sharp[y, x]), expected, atol=1e-4), (y, x)
    assert changed > 100


def _voted(nearness, picture, firm, place, middle, share, steps, reach):
    sums = {True: [0.0, 0.0, 0.0], False: [0.0, 0.0, 0.0]}
    for down in steps:
        for right in steps:
            y = min(max(place[0] + down, 0), HEIGHT - 1)
            x = min(max(place[1] + right, 0), WIDTH - 1)
            if not firm[y, x]:
                continue
            near = math.exp(-1.125 * (down**2 + right**2) / reach**2)
            change = float((picture[:, y, x] - picture[:, place[0], place[1]]).square().sum())
            weight = near * (math.exp(-change / (2 * edges.COLOUR**2)) + 1e-9)
            found = sums[bool(nearness[y, x] > middle)]
            found[0] += weight
            found[1] += near
            found[2] += weight * float(nearness[y, x])
    near, far = sums[True], sums[False]
    share = min(max(float(share), 0.02), 0.98)
    odds = math.log((near[0] / max(near[1], 1e-9) + 1e-4) / (far[0] / max(far[1], 1e-9) + 1e-4))
    odds += edges.WITHIN_RAMP * math.log(share / (1 - share))
    chosen = near if far[0] == 0 or (near[0] > 0 and odds > 0) else far
    return torch.tensor(chosen[2] / chosen[0])


@pytest.mark.parametrize("width", [2, 4])
def test_a_softened_scene_is_filmed_almost_as_with_its_true_depth(width):
    """Combs: what a new camera shows although the source did not see it."""
    scene = make_scene(
        [
            SceneObject("box", (0.7, 0.7, 0.7), (-0.6, 0.4, 3.2)),
            SceneObject("sphere", (0.7, 0.0, 0.0), (1.0, 0.4, 5.0)),
        ],
        Room(low=(-6.0, -4.0, -6.0), high=(6.0, 1.2, 9.0)),
        SourceCamera(position=(0.0, 0.0, 0.0), target=(0.0, 0.0, 4.0)),
    )
    height, width_ = 150, 200
    lens, pose, time = default_intrinsics(height, width_, 55.0)[None], torch.eye(4)[None], torch.zeros(1)
    seen = render_scene(scene, lens, pose, time, height, width_, antialias=1)
    path = preset_path("orbit_right", lens, pose, 4.0, mode="direct", angle_degrees=20.0)
    target = path.intrinsics.float(), path.world_to_camera.float()
    truth = co_visible(scene, *target, lens, pose, time, height, width_)

    def invented(depth):
        shown = render(seen.video, depth.float(), lens, pose, *target, surface=SURFACE).visible
        return float((shown & ~truth).sum() / shown.sum())

    soft = soften(seen.depth.float(), width)
    sharp = SharpEdges(4 / width_).sharpen(soft, seen.video)
    assert invented(soft) > 0.01
    assert invented(sharp) < 0.4 * invented(soft)
