import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recapture.datasets.scenes.assemble import make_scene, stack_scenes
from recapture.datasets.scenes.layout import Room, Scene, SceneObject, SourceCamera, Texture
from recapture.datasets.scenes.render import caption, co_visible, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene, sample_scenes

FRONT = torch.eye(4)[None]
NOW = torch.zeros(1)


def lens(size: int, focal: float) -> Tensor:
    return torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]])


def orbit(pose: Tensor, degrees: float, depth: float = 4.0, axis: int = 1) -> Tensor:
    """The camera [T, 4, 4] swung about the point at `depth` before it."""
    angle = torch.deg2rad(torch.tensor(degrees))
    spin = torch.zeros(3)
    spin[axis] = angle
    cross = torch.tensor([[0, -spin[2], spin[1]], [spin[2], 0, -spin[0]], [-spin[1], spin[0], 0]])
    rotation = torch.matrix_exp(cross)
    pivot = torch.tensor([0.0, 0.0, depth])
    offset = torch.eye(4)
    offset[:3, :3], offset[:3, 3] = rotation, pivot - rotation @ pivot
    return offset @ pose


def test_depth_of_a_sphere_is_the_closed_form() -> None:
    radius, distance, size, focal = 0.8, 4.0, 33, 40.0
    scene = make_scene([SceneObject("sphere", (radius, 0, 0), (0, 0, distance))])
    frames = render_scene(scene, lens(size, focal), FRONT, NOW, size, size)
    offset = (torch.arange(size) + 0.5 - size / 2) / focal
    squared = 1 + offset[:, None] ** 2 + offset[None, :] ** 2
    discriminant = distance**2 - squared * (distance**2 - radius**2)
    hit = discriminant > 0
    expected = (distance - discriminant.clamp_min(0).sqrt()) / squared
    assert 100 < hit.sum() < hit.numel() / 2
    assert torch.equal(frames.object_id[0] == 1, hit)
    torch.testing.assert_close(frames.depth[0][hit], expected[hit], rtol=2e-5, atol=0)


def test_depth_of_a_box_and_of_the_walls_is_the_closed_form() -> None:
    size, focal = 32, 20.0
    scene = make_scene([SceneObject("box", (0.5, 0.25, 0.75), (0, 0, 4))], Room((-2, -1.5, -1), (2, 1, 6)))
    frames = render_scene(scene, lens(size, focal), FRONT, NOW, size, size)
    offset = (torch.arange(size) + 0.5 - size / 2) / focal
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    on_box = (x.abs() * 3.25 < 0.5) & (y.abs() * 3.25 < 0.25)
    walls = torch.stack([2 / x.abs(), torch.where(y > 0, 1 / y, 1.5 / -y), torch.full_like(x, 6.0)]).amin(0)
    assert on_box.any()
    assert torch.equal(frames.object_id[0], on_box.long())
    torch.testing.assert_close(frames.depth[0], torch.where(on_box, 3.25, walls), rtol=1e-5, atol=0)


def test_a_standing_cylinder_is_seen_at_its_radius_and_a_camera_above_sees_its_cap() -> None:
    scene = make_scene([SceneObject("cylinder", (0.6, 0.4, 0), (0, 0, 3))])
    ahead = render_scene(scene, lens(1, 1.0), FRONT, NOW, 1, 1)
    assert float(ahead.depth) == pytest.approx(2.4, rel=1e-6)
    down = torch.eye(4)
    down[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # looks along world +y
    down[:3, 3] = -down[:3, :3] @ torch.tensor([0.3, -2.0, 3.1])
    above = render_scene(scene, lens(1, 1.0), down[None], NOW, 1, 1)
    assert float(above.depth) == pytest.approx(1.6, rel=1e-6)
    assert int(above.object_id) == 1


def test_the_floor_moves_between_views_as_its_homography_says() -> None:
    floor = Texture("checkered", ((0.9, 0.6, 0.2), (0.2, 0.3, 0.6)), cells=1.0, grain=0.0)
    scene = make_scene([], Room((-30, -6, -30), (30, 1.5, 30), (*(Texture(),) * 3, floor, *(Texture(),) * 2)))
    size, focal = 160, 150.0
    tilt = math.radians(35)
    first = torch.eye(4)
    # Looks down at the floor.
    first[1:3, 1:3] = torch.tensor([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    second = orbit(first[None], 12.0, depth=2.5)[0]
    both = torch.stack([first, second])
    frames = render_scene(scene, lens(size, focal).repeat(2, 1, 1), both, torch.zeros(2), size, size)

    intrinsics = lens(size, focal)[0].double().numpy()
    plane = np.array([[1, 0, 0], [0, 0, 1.5], [0, 1, 0.0]])  # (x, z, 1) on the floor to world

    def to_pixels(pose: Tensor) -> np.ndarray:
        matrix = pose.double().numpy()
        return intrinsics @ (matrix[:3, :3] @ plane + matrix[:3, 3:] * np.array([0, 0, 1.0]))

    homography = to_pixels(second) @ np.linalg.inv(to_pixels(first))
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # cv2 puts pixel centres at integers
    homography = np.linalg.inv(shift) @ homography @ shift
    images = [frame.permute(1, 2, 0).contiguous().numpy() for frame in frames.video]
    warped = cv2.warpPerspective(images[0], homography, (size, size), flags=cv2.INTER_CUBIC)
    inside = cv2.warpPerspective(np.ones((size, size), np.float32), homography, (size, size)) > 0.999
    inside = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert inside.mean() > 0.5
    assert np.sqrt(((warped - images[1])[inside] ** 2).mean()) < 0.06
    assert np.sqrt(((images[0] - images[1])[inside] ** 2).mean()) > 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_scene() -> None:
    def picture(seed: int) -> Tensor:
        scene = sample_scene(seed)
        intrinsics, pose = source_cameras(scene, 2, 32, 48)
        return render_scene(scene, intrinsics, pose, torch.arange(2.0), 32, 48).video

    assert torch.equal(picture(7), picture(7))
    assert not torch.allclose(picture(7), picture(8), atol=0.1)


def test_a_batch_renders_each_of_its_scenes_as_alone() -> None:
    seeds, times = [1, 4, 6], torch.arange(3.0) * 5
    batch = sample_scenes(seeds)
    intrinsics, pose = source_cameras(batch, 3, 24, 32)
    together = render_scene(batch, intrinsics, pose, times, 24, 32)
    assert together.video.shape == (3, 3, 3, 24, 32)
    for index, seed in enumerate(seeds):
        scene = sample_scene(seed)
        assert batch.captions[index] == caption(scene)
        alone = render_scene(scene, *source_cameras(scene, 3, 24, 32), times, 24, 32)
        torch.testing.assert_close(together.depth[index], alone.depth, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.video[index], alone.video, rtol=0, atol=2e-3)
        assert torch.equal(together.object_id[index], alone.object_id)


def test_a_camera_sees_all_that_it_sees_itself_and_nothing_of_what_lies_behind_it() -> None:
    scene = sample_scene(2)
    intrinsics, pose = source_cameras(scene, 3, 32, 32)
    times = torch.arange(3.0)
    assert co_visible(scene, intrinsics, pose, intrinsics, pose, times, 32, 32).all()
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])) @ pose
    assert not co_visible(scene, intrinsics, behind, intrinsics, pose, times, 32, 32).any()


def test_a_surface_point_has_the_same_colour_in_every_view() -> None:
    scene, size = sample_scene(10), 128
    k, pose = source_cameras(scene, 1, size, size)
    moved = orbit(pose, 10.0)
    first = render_scene(scene, k, pose, NOW, size, size)
    second = render_scene(scene, k, moved, NOW, size, size)
    visible = co_visible(scene, k, moved, k, pose, NOW, size, size)[0]
    grid = torch.stack(torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="xy"), -1)
    rays = torch.cat([grid, torch.ones(size, size, 1)], -1) @ torch.linalg.inv(k[0]).T
    points = rays * second.depth[0][..., None]
    into_first = pose[0] @ torch.linalg.inv(moved[0])
    seen = (points @ into_first[:3, :3].T + into_first[:3, 3]) @ k[0].T
    where = seen[..., :2] / seen[..., 2:] / size * 2 - 1
    pulled = torch.nn.functional.grid_sample(first.video, where[None], mode="bicubic", align_corners=False)
    error = (pulled - second.video)[0][:, visible].abs()
    assert error.median() < 0.03
    assert visible.float().mean() > 0.7


def test_edges_are_smooth_with_antialiasing_and_depth_is_untouched_by_it() -> None:
    wall = Texture("marbled", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), grain=0.0)
    bright = Texture("marbled", ((1.0, 0.2, 0.2), (1.0, 0.2, 0.2)), grain=0.0)
    room = Room(textures=(wall,) * 6)
    scene = make_scene([SceneObject("sphere", (0.8, 0, 0), (0.03, 0.02, 4), texture=bright)], room)
    hard, soft = (render_scene(scene, lens(32, 40.0), FRONT, NOW, 32, 32, antialias=n) for n in (1, 2))
    fine = render_scene(scene, lens(256, 320.0), FRONT, NOW, 256, 256, antialias=1)
    expected = torch.nn.functional.avg_pool2d(fine.video, 8)
    assert torch.equal(hard.depth, soft.depth)
    assert (soft.video - expected).abs().max() < 0.5 * (hard.video - expected).abs().max()


def test_objects_turn_round_at_their_bounds_and_stay_in_reach_for_ever() -> None:
    item = SceneObject(
        "sphere", (0.3, 0, 0), (0, 0, 4), velocity=(0.25, 0, 0), low=(-1, -1, 3), high=(1, 1, 5)
    )
    scene = make_scene([item])
    times = torch.tensor([0.0, 4.0, 8.0, 16.0, 1600.0])
    frames = render_scene(scene, lens(41, 41.0).repeat(5, 1, 1), FRONT.repeat(5, 1, 1), times, 41, 41)
    columns = [float((ids == 1).nonzero()[:, 1].float().mean()) for ids in frames.object_id]
    assert columns[1] > 28  # at x = 1
    assert columns[0] == columns[2] == columns[4] == 20  # half way back, and there again 800 periods later
    assert columns[3] == 20


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_sampled_rooms_leave_space_for_wide_camera_moves(seed: int) -> None:
    scene = sample_scene(seed)
    k, pose = source_cameras(scene, 17, 24, 32)
    last_k, last, when = k[16:], pose[16:], torch.tensor([16.0])
    moves = [orbit(last, degrees) for degrees in (-45.0, 45.0)]
    moves += [orbit(last, degrees, axis=0) for degrees in (-20.0, 25.0)]
    for along in (-2.0, 2.0):
        moved = last.clone()
        moved[:, 2, 3] += along
        moves.append(moved)
    for move in moves:
        frames = render_scene(scene, last_k, move, when, 24, 32)
        assert torch.isfinite(frames.depth).all()
        assert (frames.depth > 0).all()
        assert (frames.object_id >= 0).all()


def test_what_lies_past_the_room_is_marked_unknown() -> None:
    scene = make_scene([])
    away = torch.eye(4)[None].clone()
    away[:, 2, 3] = -20  # 20 units in front of the room's middle, looking away
    frames = render_scene(scene, lens(4, 4.0), away, NOW, 4, 4)
    assert torch.isinf(frames.depth).all()
    assert (frames.object_id == -1).all()
    assert (frames.video == 0).all()


def test_source_cameras_look_at_their_target_and_only_move_when_asked() -> None:
    still, moving = (sample_scene(3, camera_motion=moves) for moves in (False, True))
    for height, width in ((96, 128), (128, 72)):
        k, pose = source_cameras(still, 5, height, width)
        assert torch.equal(pose[0], pose[4])
        target = pose[0] @ torch.cat([still.camera[1], torch.ones(1)])
        torch.testing.assert_close(target[:2], torch.zeros(2), atol=1e-5, rtol=0)
        half = math.degrees(2 * math.atan(max(height, width) / 2 / float(k[0, 0, 0])))
        assert half == pytest.approx(float(still.lens[0]), abs=1e-3)
    _, pose = source_cameras(moving, 5, 96, 128)
    assert (pose[0] - pose[4]).abs().max() > 0.02
    assert pose[:, 1, 1].min() > 0.8  # upright


def test_a_caption_names_every_body_in_plain_words() -> None:
    scene = sample_scene(0, camera_motion=True)
    words = caption(scene)
    assert sum(words.count(kind) for kind in ("sphere", "box", "cylinder")) == len(scene.kinds)
    assert "floor" in words and "camera sways" in words
    with pytest.raises(ValueError, match="batch of 2"):
        caption(sample_scenes([0, 1]))


def test_impossible_scenes_and_cameras_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"object 0 \(box\): size .* must be positive"):
        make_scene([SceneObject("box", (1, 0, 1), (0, 0, 4))])
    with pytest.raises(ValueError, match="'cone'"):
        make_scene([SceneObject("cone", (1, 1, 1), (0, 0, 4))])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="plaid"):
        make_scene([], Room(textures=(Texture("plaid"),) * 6))
    with pytest.raises(ValueError, match="1 scenes at 2 times"):
        render_scene(make_scene([]), lens(4, 4.0), FRONT, torch.zeros(2), 4, 4)


def test_stacking_keeps_ids_and_switches_missing_bodies_off() -> None:
    ball = SceneObject("sphere", (0.5, 0, 0), (0.8, 0, 4))
    crate = SceneObject("box", (0.4, 0.4, 0.4), (-0.8, 0, 4))
    scenes: list[Scene] = [make_scene([crate, ball]), make_scene([ball]), make_scene([])]
    batch = stack_scenes(scenes)
    assert batch.kinds == ("sphere", "box")
    k, pose = lens(32, 40.0).repeat(3, 1, 1)[:, None], FRONT.repeat(3, 1, 1)[:, None]
    ids = render_scene(batch, k, pose, NOW, 32, 32).object_id[:, 0]
    assert [sorted(view.unique().tolist()) for view in ids] == [[0, 1, 2], [0, 1], [0]]
    assert int(ids[0, 16, 8]) == 1 and int(ids[0, 16, 24]) == 2


def test_a_camera_of_any_kind_can_be_given_to_a_scene_by_hand() -> None:
    camera = SourceCamera(position=(1, -1, 0), target=(0, 0, 4), fov_degrees=90.0)
    k, pose = source_cameras(make_scene([], camera=camera), 1, 100, 200)
    assert float(k[0, 0, 0]) == pytest.approx(100.0, rel=1e-6)
    centre = -pose[0, :3, :3].T @ pose[0, :3, 3]
    torch.testing.assert_close(centre, torch.tensor([1.0, -1.0, 0.0]), atol=1e-6, rtol=0)
