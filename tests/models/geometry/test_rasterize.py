import math

import numpy as np
import pytest
import torch
from skimage.data import stereo_motorcycle
from support.surface import render

from recapture.datasets.scenes.render import look_at
from recapture.models.geometry.cameras import (
    default_intrinsics,
    invert_rigid,
    rigid,
    rotation_degrees,
)
from recapture.models.geometry.rasterize import Rendered

SIZE = (40, 52)


def picture(frames=1, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (frames, 3, *size), generator=generator)
    return frames.float() / 127.5 - 1


def lens(size=SIZE, frames=1):
    return default_intrinsics(*size).double().expand(frames, 3, 3).clone()


def shifted(x=0.0, y=0.0, z=0.0):
    """Return the world_to_camera of a camera at (x, y, z), looking along +z."""
    return rigid(torch.eye(3)[None].double(), -torch.tensor([[x, y, z]]).double())


HERE = shifted()


def plane(depth, size=SIZE):
    return torch.full((1, *size), float(depth))


def bumpy(size=SIZE, frames=1, seed=0):
    """Return depth with smooth hills and a near block, so that quads tear."""
    v, u = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    hills = 4 + torch.sin(u / 7 + seed) * torch.cos(v / 5)
    hills[size[0] // 4 : size[0] // 2, size[1] // 3 : size[1] // 2] = 2.0
    return hills.expand(frames, *size).clone()


def as_bytes(video):
    return (video.add(1) * 127.5).round().to(torch.uint8)


@pytest.mark.parametrize("depth", [plane(3.0), bumpy()], ids=["plane", "bumpy"])
@pytest.mark.parametrize("shell", [0.0, 0.3])
def test_the_source_view_returns_the_picture_and_is_fully_visible(depth, shell):
    video = picture()
    same = render(video, depth, lens(), HERE, lens(), HERE, shell=shell)
    torch.testing.assert_close(same.video, video, atol=2e-4, rtol=0)
    assert torch.equal(as_bytes(same.video), as_bytes(video))
    assert same.visible.all()
    torch.testing.assert_close(same.stretch, torch.ones_like(same.stretch), atol=1e-3, rtol=0)


def test_the_same_view_from_anywhere_in_the_world_returns_the_picture():
    video, away = (
        picture(),
        rigid(rotation_degrees("y", 70.0)[None], torch.tensor([[3.0, -1.0, 2.0]]).double()),
    )
    same = render(video, bumpy(), lens(), away, lens(), away)
    assert torch.equal(as_bytes(same.video), as_bytes(video)) and same.visible.all()


@pytest.mark.parametrize(("x", "y"), [(1, 0), (-2, 0), (0, 3), (4, -5)])
def test_a_plane_shifts_against_the_cameras_travel_by_focal_times_travel_over_depth(x, y):
    video, depth = picture(), 3.0
    travel = depth / float(lens()[0, 0, 0])  # moves the plane by one pixel
    seen = render(video, plane(depth), lens(), HERE, lens(), shifted(x * travel, y * travel))
    moved = torch.roll(video, (-y, -x), (2, 3))
    inside = torch.roll(torch.ones(1, *SIZE), (-y, -x), (1, 2)).bool()
    rows, columns = torch.arange(SIZE[0])[:, None] + y, torch.arange(SIZE[1]) + x
    inside &= (rows >= 0) & (rows < SIZE[0]) & (columns >= 0) & (columns < SIZE[1])
    assert torch.equal(seen.visible, inside)
    torch.testing.assert_close(seen.video[0][:, inside[0]], moved[0][:, inside[0]], atol=1e-3, rtol=0)
    assert (seen.video[0][:, ~inside[0]] == 0).all()
    torch.testing.assert_close(seen.depth[inside], torch.full_like(seen.depth[inside], depth))
    assert torch.isinf(seen.depth[~inside]).all()


def test_a_dolly_to_half_the_depth_doubles_a_plane_and_reports_fourfold_stretch():
    v = torch.linspace(-0.8, 0.8, SIZE[0])[:, None]
    video = (v + torch.linspace(-0.1, 0.1, SIZE[1])).expand(1, 3, *SIZE).clone()
    seen = render(video, plane(4.0), lens(), HERE, lens(), shifted(z=2.0))
    assert seen.visible.all()
    torch.testing.assert_close(seen.stretch, torch.full_like(seen.stretch, 4.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(seen.video, video / 2, atol=1e-5, rtol=0)
    assert not render(video, plane(4.0), lens(), HERE, lens(), shifted(z=2.0), max_stretch=3.9).visible.any()


def test_a_zoomed_and_resized_target_sees_the_matching_pixels():
    video = picture()
    target = lens() * torch.tensor([[2.0], [2.0], [1.0]]).double()
    size = (2 * SIZE[0], 2 * SIZE[1])
    seen = render(video, bumpy(), lens(), HERE, target, HERE, size=size, break_ratio=1e9)
    assert seen.visible.all() and seen.video.shape[2:] == (80, 104)
    upscaled = torch.nn.functional.interpolate(video, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen.video, upscaled, atol=2e-3, rtol=0)


def test_the_nearer_surface_wins_and_a_hole_opens_on_its_other_side():
    """A near block over a far wall: seen from the right it moves left, and uncovers wall on its right."""
    wall, block, focal = 8.0, 2.0, float(lens()[0, 0, 0])
    depth = plane(wall)
    depth[:, 12:28, 20:32] = block
    video = torch.where(depth < wall, 0.9, -0.9)[:, None].expand(1, 3, *SIZE).clone()
    travel = 0.25
    near_shift, far_shift = focal * travel / block, focal * travel / wall
    seen = render(video, depth, lens(), HERE, lens(), shifted(travel), shell=0.0)
    row = 20
    columns = torch.arange(SIZE[1]) + 0.5
    left, right = 20 - near_shift, 32 - near_shift
    on_block = (columns > left + 1) & (columns < right - 1)
    torch.testing.assert_close(seen.depth[0, row, on_block], torch.full((int(on_block.sum()),), block))
    assert (seen.video[0, 0, row, on_block] > 0.8).all()
    hole = (columns > right + 1) & (columns < 32 - far_shift - 1)
    assert hole.sum() >= 3 and not seen.visible[0, row, hole].any()
    beyond = (columns > 32 - far_shift + 1) & (columns < SIZE[1] - far_shift - 1)
    assert seen.visible[0, row, beyond].all()
    torch.testing.assert_close(seen.depth[0, row, beyond], torch.full((int(beyond.sum()),), wall))


def test_shells_keep_the_wall_from_showing_through_a_blocks_missing_back():
    """A look from beside a block's front into where its body must be would reach the wall without a shell."""
    depth = plane(8.0)
    depth[:, 10:30, 20:32] = 2.0
    video = torch.where(depth < 8, 0.9, -0.9)[:, None].expand(1, 3, *SIZE).clone()
    target = look_at(torch.tensor([[0.6, 0.0, 1.8]]).double(), torch.tensor([[-3.0, 0.0, 8.0]]).double())
    through, closed = (
        render(video, depth, lens(), HERE, lens(), target, shell=shell) for shell in (0.0, 0.5)
    )
    row, column = SIZE[0] // 2, SIZE[1] // 2  # looks at the wall, past x = 0.27 (the block's side) at z = 2.4
    assert through.visible[0, row, column] and float(through.video[0, 0, row, column]) < -0.8
    assert not closed.visible[0, row, column]
    assert (closed.visible <= through.visible).all()
    assert closed.visible.any()


@pytest.mark.parametrize("turn", [180.0, 0.0])
def test_everything_behind_the_camera_leaves_only_holes(turn):
    target = rigid(rotation_degrees("y", turn)[None], torch.zeros(1, 3).double())
    target = target if turn else shifted(z=50.0)
    seen = render(picture(), bumpy(), lens(), HERE, lens(), target)
    assert not seen.visible.any() and torch.isinf(seen.depth).all()
    assert (seen.video == 0).all() and (seen.stretch == 1).all()


def test_surfaces_through_the_cameras_plane_never_show_wrapped_around():
    """The camera stands inside the scene: near half behind it, far half ahead."""
    depth = plane(1.0)
    depth[:, : SIZE[0] // 2] = 6.0
    seen = render(picture(), depth, lens(), HERE, lens(), shifted(z=3.0), break_ratio=1e9, shell=0.0)
    assert seen.visible.any()
    assert (seen.depth[seen.visible] > 0).all() and (seen.depth[seen.visible] <= 3.001).all()


def test_depth_that_is_no_depth_is_never_lifted():
    depth = bumpy()
    depth[0, 5, 5:9] = torch.tensor([math.nan, math.inf, -1.0, 0.0])
    seen = render(picture(), depth, lens(), HERE, lens(), HERE)
    assert not seen.visible[0, 5, 5:9].any()
    assert seen.visible.sum() == depth.numel() - 4
    assert torch.isfinite(seen.video).all() and not seen.depth.isnan().any()
    nothing = render(picture(), torch.full_like(depth, math.nan), lens(), HERE, lens(), HERE)
    assert not nothing.visible.any()


def test_pixels_marked_unknown_are_holes_and_their_neighbours_are_not():
    known = torch.ones(1, *SIZE, dtype=torch.bool)
    known[0, 10:14, 20] = False
    seen = render(picture(), bumpy(), lens(), HERE, lens(), HERE, known=known)
    assert torch.equal(seen.visible, known)


def test_the_same_input_gives_the_same_bytes_and_a_batch_equals_its_frames():
    video, depth = picture(3), torch.cat([bumpy(seed=n) for n in range(3)])
    target = rigid(rotation_degrees("y", torch.tensor([5.0, -9.0, 20.0])), torch.rand(3, 3).double())
    arguments = (video, depth, lens(frames=3), HERE.expand(3, 4, 4), lens(frames=3), target)
    once, twice = render(*arguments), render(*arguments)
    singles = [render(*(value[n : n + 1] for value in arguments)) for n in range(3)]
    for field in Rendered.__annotations__:
        value = getattr(once, field)
        assert value.numpy().tobytes() == getattr(twice, field).numpy().tobytes()
        assert torch.equal(value, torch.cat([getattr(single, field) for single in singles]))


def slow_render_depth(depth, source_k, target_k, target, size, break_ratio):
    """Cast a ray (float64) through each target pixel at all triangles of the source, in 3D."""
    height, width = depth.shape
    z = np.pad(depth.numpy().astype(np.float64), 1, mode="edge")
    u = np.array([0, *(np.arange(width) + 0.5), width])
    v = np.array([0, *(np.arange(height) + 0.5), height])
    k = np.linalg.inv(source_k.numpy())

    def lift(column, row, reach):
        point = (k @ [column, row, 1.0]) * reach
        return target[:3, :3].numpy() @ point + target[:3, 3].numpy()

    triangles, touched = [], np.zeros((height + 2, width + 2), dtype=bool)
    for i in range(height + 1):
        for j in range(width + 1):
            corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
            reaches = [z[corner] for corner in corners]
            if max(reaches) > min(reaches) * (1 + break_ratio):
                continue
            for corner in corners:
                touched[corner] = True
            a, b, c, d = (lift(u[q], v[p], z[p, q]) for p, q in corners)
            triangles += [(a, b, d), (b, c, d)]
    for i, j in np.argwhere(~touched[1:-1, 1:-1]):
        square = ((j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1))
        a, b, c, d = (lift(p, q, depth[i, j].item()) for p, q in square)
        triangles += [(a, b, d), (b, c, d)]
    a, b, c = (np.array(corner) for corner in zip(*triangles))
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.stack([columns, rows, np.ones(size)], -1).reshape(-1, 1, 3) @ np.linalg.inv(target_k.numpy()).T
    normal = np.cross(b - a, c - a)
    reach = (a * normal).sum(-1) / (rays * normal).sum(-1)
    point = rays * reach[..., None]
    shares = [
        (np.cross(q - p, point - p) * normal).sum(-1) / (normal * normal).sum(-1)
        for p, q in ((a, b), (b, c), (c, a))
    ]
    inside = (np.min(shares, 0) >= 0) & (reach > 0)
    close = ((np.min(shares, 0) > -0.02) & (np.min(shares, 0) < 0.02) & (reach > 0)).any(-1)
    front = (rays * normal).sum(-1) > 0  # the source sees normals that point away from it
    reach = np.where(inside, reach, np.inf)
    winner = reach.argmin(-1)
    nearest = np.take_along_axis(reach, winner[:, None], -1)[:, 0]
    shown = np.isfinite(nearest) & np.take_along_axis(front, winner[:, None], -1)[:, 0]
    return np.where(shown, nearest, np.inf).reshape(size), close.reshape(size)


@pytest.mark.parametrize("seed", range(3))
def test_rendering_agrees_with_rays_cast_in_float64_at_every_triangle(seed):
    size = (13, 17)
    generator = torch.Generator().manual_seed(seed)
    depth = bumpy(size, seed=seed) + 0.02 * torch.rand(1, *size, generator=generator)
    turn = rotation_degrees("y", 8.0 - 9 * seed) @ rotation_degrees("x", 5.0 * seed)
    target = rigid(turn[None], torch.tensor([[0.3 - 0.4 * seed, 0.2, 0.5 * seed]]).double())
    target_size = (20, 18)
    target_k = lens(target_size)
    seen = render(
        *(picture(size=size), depth, lens(size), HERE, target_k, target),
        size=target_size, shell=0.0, break_ratio=0.3,
    )  # fmt: skip
    slow, close = slow_render_depth(depth[0], lens(size)[0], target_k[0], target[0], target_size, 0.3)
    compared = torch.from_numpy(~close)
    assert compared.float().mean() > 0.5
    assert 0.2 < np.isfinite(slow).mean() < 1
    got, expected = seen.depth[0][compared].double(), torch.from_numpy(slow)[compared]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=0)


def test_a_textured_plane_seen_askew_shows_the_colour_of_each_surface_point():
    """Colour is a linear function of the plane's own coordinates, so bilinear look-up is exact."""
    normal, offset = torch.tensor([0.3, -0.2, -1.0]).double(), -4.0  # points p on the plane: n.p = offset

    def view(k, camera):
        rows, columns = torch.meshgrid(*(torch.arange(side) + 0.5 for side in SIZE), indexing="ij")
        rays = torch.stack([columns, rows, torch.ones(SIZE)], -1).double() @ torch.linalg.inv(k[0]).T
        to_world = invert_rigid(camera[0])
        directions, centre = rays @ to_world[:3, :3].T, to_world[:3, 3]
        z = (offset - normal @ centre) / (directions @ normal)
        return z, centre + directions * z[..., None]

    target = rigid(rotation_degrees("y", 12.0)[None], torch.tensor([[0.5, 0.1, 0.2]]).double())
    depth, points = view(lens(), HERE)
    truth_depth, truth_points = view(lens(), target)
    # linear in the source's image, hence reproduced by bilinear interpolation
    flat = points / points[..., 2:]
    truth_flat = truth_points / truth_points[..., 2:]
    video = flat.permute(2, 0, 1)[None].float()
    seen = render(video, depth[None].float(), lens(), HERE, lens(), target)
    pixel = truth_points @ lens()[0].T
    pixel = pixel[..., :2] / pixel[..., 2:]
    inside = ((pixel > 1) & (pixel < torch.tensor([SIZE[1] - 1, SIZE[0] - 1]))).all(-1)
    assert 0.3 < inside.float().mean() < 1 and seen.visible[0][inside].all()
    torch.testing.assert_close(seen.depth[0][inside].double(), truth_depth[inside], rtol=1e-4, atol=0)
    expected = truth_flat.permute(2, 0, 1)[:, inside].float()
    torch.testing.assert_close(seen.video[0][:, inside], expected, atol=1e-4, rtol=0)


def test_the_motorcycles_right_view_is_rendered_from_its_left_as_well_as_it_was():
    left, right, disparity = stereo_motorcycle()
    focal, column, row, doffs, baseline = 994.978, 311.193, 254.877, 31.086, 0.193001
    depth = np.where(np.isfinite(disparity), focal * baseline / (disparity + doffs), 0.0)
    video, truth = (
        torch.from_numpy(view).permute(2, 0, 1)[None].float() / 127.5 - 1 for view in (left, right)
    )
    intrinsics = torch.tensor([[[focal, 0, column + 0.5], [0, focal, row + 0.5], [0, 0, 1]]]).double()
    moved = intrinsics.clone()
    moved[:, 0, 2] += doffs
    seen = render(video, torch.from_numpy(depth)[None].float(), intrinsics, HERE, moved, shifted(baseline))
    assert seen.visible.float().mean() >= 0.83
    error = ((seen.video - truth) / 2).square().mean(1)[seen.visible].mean()
    assert -10 * math.log10(float(error)) >= 26.9


def test_wanted_pixels_are_rendered_as_in_the_whole_picture_and_others_are_holes():
    video, depth = picture(2), bumpy(frames=2)
    cameras = (lens(frames=2), HERE.expand(2, 4, 4), lens(frames=2), shifted(0.3, 0.1, 0.4).expand(2, 4, 4))
    whole = render(video, depth, *cameras)
    wanted = torch.zeros(2, *SIZE, dtype=torch.bool)
    wanted[0, 8:20, 5:40] = True  # and nothing of the second frame
    part = render(video, depth, *cameras, wanted=wanted)
    assert torch.equal(part.visible, whole.visible & wanted)
    assert 0.1 < part.visible[0].float().mean() < whole.visible[0].float().mean()
    for field, empty in (("depth", torch.inf), ("stretch", 1.0)):
        expected = torch.where(part.visible, getattr(whole, field), empty)
        assert torch.equal(getattr(part, field), expected)
    torch.testing.assert_close(part.video, torch.where(part.visible[:, None], whole.video, 0.0))
