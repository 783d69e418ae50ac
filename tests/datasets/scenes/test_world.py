"""Scenes of the variety "world" against slow twins: poses by matrices, hits and shadows by marching rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.poses import object_poses
from recapture.datasets.scenes.rays import components, freeze
from recapture.datasets.scenes.render import co_visible, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene, sample_scenes
from recapture.datasets.scenes.stream import SceneStream
from recapture.datasets.scenes.words import COLOURS, NOUNS, WORLD_NOUNS, split_words
from recapture.datasets.scenes.world_scenes import world_scene
from recapture.datasets.scenes.world_shadows import outlines, shadow_at

SEEDS = (0, 3, 5, 12)  # together they have every kind of body, outdoors and indoors


def moved(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def turned(vector: np.ndarray) -> np.ndarray:
    """The rotation by a rotation vector, from a quaternion."""
    angle = float(np.linalg.norm(vector))
    matrix = np.eye(4)
    if angle == 0:
        return matrix
    w, (x, y, z) = math.cos(angle / 2), math.sin(angle / 2) * vector / angle
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return matrix


def reflected(at: float, low: float, high: float) -> float:
    while not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at


def joints(scene: Scene, slot: int, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Pose [4, 4] of a part, and the pose of its last joint, as a chain of matrices."""
    field = {
        name: getattr(scene, name)[slot].double().numpy()
        for name in ("position", "velocity", "low", "high", "hop", "axis", "spin", "limb")
    }
    at = [
        reflected(start + speed * time, low, high)
        for start, speed, low, high in zip(
            *(field[name].tolist() for name in ("position", "velocity", "low", "high"))
        )
    ]
    height, rate, phase = field["hop"]
    at[1] -= height * abs(math.sin(math.pi * (rate * time + phase)))
    limb, x_axis = field["limb"], np.array([1.0, 0.0, 0.0])
    cycle = 2 * math.pi * limb[5] * time
    first = limb[3] + limb[4] * math.sin(cycle + 2 * math.pi * limb[6])
    second = limb[8] + limb[9] * (0.5 + 0.5 * math.sin(cycle + 2 * math.pi * limb[10]))
    root = moved(*at) @ turned(field["axis"] * (field["spin"][0] + field["spin"][1] * time))
    joint = root @ moved(*limb[:3]) @ turned(x_axis * first) @ moved(0, limb[7], 0) @ turned(x_axis * second)
    return joint @ moved(*limb[11:14]) @ turned(limb[14:17]), joint


def distance(kind: str, size: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A bound on the distance from points [P, 3] to a body; 0 on it, and exact but for ellipsoids."""
    if kind == "ellipsoid":
        return (np.linalg.norm(point / size, axis=1) - 1) * size.min()
    if kind == "capsule":
        away = point - np.outer(np.clip(point[:, 1], -size[1], size[1]), [0, 1, 0])
        return np.linalg.norm(away, axis=1) - size[0]
    if kind == "box":
        beyond = np.abs(point) - size
    else:
        beyond = np.stack([np.hypot(point[:, 0], point[:, 2]) - size[0], np.abs(point[:, 1]) - size[1]], 1)
    return np.linalg.norm(beyond.clip(0), axis=1) + beyond.max(1).clip(max=0)


def marched(kind: str, size: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Ray parameters [P] at which rays enter a body; inf where they miss it."""
    length = np.linalg.norm(direction, axis=1)
    t = np.zeros(len(direction))
    near = np.zeros(len(direction), dtype=bool)
    for _ in range(600):
        gap = distance(kind, size, origin + t[:, None] * direction)
        near = gap < 1e-7
        t = np.where(near | (t > 400), t, t + gap / length)
    return np.where(near, t, np.inf)


def twin_view(
    scene: Scene, intrinsics: Tensor, pose: Tensor, time: float, size: int
) -> tuple[np.ndarray, ...]:
    """Depth and ids [size * size] of a view."""
    y, x = np.mgrid[:size, :size] + 0.5
    pixel = np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
    rotation, shift = pose[:3, :3].double().numpy(), pose[:3, 3].double().numpy()
    direction = (rotation.T @ np.linalg.inv(intrinsics.double().numpy()) @ pixel).T
    origin = -rotation.T @ shift
    low, high = scene.room_low.double().numpy(), scene.room_high.double().numpy()
    best = (np.where(direction > 0, high - origin, low - origin) / direction).min(1)
    seen = np.zeros(len(best), dtype=int)
    for slot, kind in enumerate(scene.kinds):
        back = np.linalg.inv(joints(scene, slot, time)[0])
        t = marched(
            kind,
            scene.size[slot].double().numpy(),
            (back @ [*origin, 1])[:3],
            direction @ back[:3, :3].T,
        )
        seen = np.where(t < best, int(scene.label[slot]), seen)
        best = np.minimum(t, best)
    return best, seen


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_and_ids_agree_with_a_float64_twin_that_marches(seed: int) -> None:
    scene, size, time = sample_scene(seed, variety="world"), 22, 31.0
    intrinsics, pose = source_cameras(scene, 40, size, size)
    frames = render_scene(scene, intrinsics[31:32], pose[31:32], torch.tensor([time]), size, size)
    depth, seen = twin_view(scene, intrinsics[31], pose[31], time, size)
    same = frames.object_id[0].numpy().ravel() == seen
    assert same.mean() > 0.99  # float32 at silhouettes
    assert len(set(seen)) > 2
    found = frames.depth[0].double().numpy().ravel()
    close = np.abs(found - depth) < 2e-3 * depth
    assert close[same].mean() > 0.995  # one body of an actor beside another of its bodies


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_are_where_a_chain_of_matrices_puts_them_and_limbs_stay_connected(seed: int) -> None:
    scene = sample_scene(seed, variety="world").to(dtype=torch.float64)
    times = torch.tensor([[0.0, 13.5, 61.0]], dtype=torch.float64)
    centre, rotation = object_poses(scene.as_batch(), times)
    limb = scene.limb
    assert limb is not None
    bent = 0
    for index, time in enumerate(times[0].tolist()):
        for slot in range(len(scene.kinds)):
            pose, joint = joints(scene, slot, time)
            np.testing.assert_allclose(centre[0, index, slot].numpy(), pose[:3, 3], atol=1e-6)
            np.testing.assert_allclose(rotation[0, index, slot].numpy(), pose[:3, :3], atol=1e-6)
            if limb[slot, 7] > 0:  # a lower limb: the upper one, before it, ends in the same joint
                upper = scene.limb[slot - 1]  # type: ignore[index]
                end = joints(scene, slot - 1, time)[0] @ [0, float(scene.size[slot - 1, 1]), 0, 1]
                assert torch.equal(upper[:7], limb[slot, :7])
                np.testing.assert_allclose(end[:3], joint[:3, 3], atol=1e-6)
                bent += 1
    figures = sum("figure" in words for words in scene.captions[0].split(","))
    assert bent >= 4 * 3 * min(figures, 1)


def test_shadows_agree_with_rays_towards_the_light() -> None:
    agree, dark = [], []
    for seed in SEEDS:
        scene = sample_scene(seed, variety="world").to(dtype=torch.float64)
        frames = freeze(scene.as_batch(), torch.tensor([[20.0]], dtype=torch.float64))
        random = np.random.default_rng(seed)
        floor = float(scene.room_high[1])
        spots = np.stack([random.uniform(-4, 4, 300), np.full(300, floor), random.uniform(2, 9, 300)], axis=1)
        point = components(torch.from_numpy(spots)[None])
        hard = torch.full((1, 1), 1e-6, dtype=torch.float64)
        slots = list(range(len(scene.kinds)))
        body = torch.zeros((1, 300), dtype=torch.int64)
        blocked = shadow_at(frames, outlines(frames), point, body, slots, hard)[0].numpy()
        light = scene.light.double().numpy()
        truth, covered = np.zeros(300, dtype=bool), np.zeros(300, dtype=bool)
        for slot, kind in enumerate(scene.kinds):
            back = np.linalg.inv(joints(scene, slot, 20.0)[0])
            start = (np.c_[spots, np.ones(300)] @ back.T)[:, :3]
            size = scene.size[slot].numpy()
            covered |= distance(kind, size, start) < 1e-4
            ray = np.tile(back[:3, :3] @ light, (300, 1))
            truth |= np.isfinite(marched_from(kind, size, start, ray))
        agree.append(((blocked > 0.5) == truth)[~covered].mean())
        dark.append(truth[~covered].mean())
        soft = shadow_at(frames, outlines(frames), point, body, slots, hard + 0.3)[0].numpy()
        assert ((soft > 0.02) & (soft < 0.98)).sum() > ((blocked > 0.02) & (blocked < 0.98)).sum()
    assert min(agree) > 0.98
    assert max(dark) > 0.05


def marched_from(kind: str, size: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """As `marched`, of rays with origins of their own [P, 3]."""
    t = np.zeros(len(direction))
    near = np.zeros(len(direction), dtype=bool)
    for _ in range(600):
        gap = distance(kind, size, origin + t[:, None] * direction)
        near = gap < 1e-7
        t = np.where(near | (t > 60), t, t + gap)
    return np.where(near, t, np.inf)


def test_a_seed_gives_the_same_clips_and_captions() -> None:
    first, again = (SceneStream(range(4), variety="world").draw(5, 3, 2, 20, 28) for _ in range(2))
    assert torch.equal(first.video, again.video) and torch.equal(first.depth, again.depth)
    assert first.captions == again.captions
    other = SceneStream(range(4), variety="world").draw(6, 3, 2, 20, 28)
    assert not torch.equal(first.video, other.video)
    single = sample_scene(2, variety="world")
    pooled = sample_scenes(range(4), variety="world")
    assert single.captions[0] == pooled.captions[2]
    slots = pooled.active[2].nonzero()[:, 0]
    for name in ("size", "position", "velocity", "limb", "label", "axis", "spin", "hop"):
        assert torch.equal(getattr(pooled, name)[2, slots], getattr(single, name)), name


def test_object_ids_follow_the_caption_and_colours_are_those_of_the_words() -> None:
    nouns = {*NOUNS, *WORLD_NOUNS}
    tested = 0
    for seed in range(60):
        drawn = world_scene(seed)
        scene = drawn.scene()
        before = drawn.caption.split(", in a room")[0].split(", on ")[0]
        words = before.replace(" and a ", ", a ").replace(" and an ", ", an ").split(", ")
        named = [actor for actor in drawn.actors if actor.words]
        assert [actor.words for actor in named] == words
        assert set(scene.label.tolist()) - {0} == set(range(1, len(named) + 1))
        for actor in named:
            noun = next(word for word in actor.words.split() if word in nouns)
            look = actor.words.split(" ", 1)[1].split(f" {noun} ")[0]
            if look in COLOURS and noun not in ("figure", "car", "bush", "rock"):
                textures = {
                    part.texture.colours[0] for part in actor.parts if part.texture.pattern == "plain"
                }
                value = COLOURS[look][2]
                for red, green, blue in textures:
                    assert abs(max(red, green, blue) - value) < 0.16 * value + 0.02
                tested += len(textures)
    assert tested > 20


@pytest.mark.parametrize("size", [(18, 32), (24, 24), (32, 18)])
def test_clips_of_every_aspect_are_finite_and_bodies_move(size: tuple[int, int]) -> None:
    clips = SceneStream(range(6), variety="world").draw(1, 6, 3, *size)
    assert clips.video.shape == (6, 3, 3, *size)
    assert torch.isfinite(clips.depth).all() and (clips.depth > 0.2).all()
    assert torch.isfinite(clips.video).all() and clips.video.abs().max() <= 1
    assert clips.video.std(dim=(1, 2, 3, 4)).min() > 0.05


@pytest.mark.parametrize("seed", [0, 5])
def test_co_visibility_agrees_with_rays_of_the_twin(seed: int) -> None:
    scene, size = sample_scene(seed, variety="world"), 18
    intrinsics, pose = source_cameras(scene, 1, size, size)
    beside = torch.eye(4)[None].clone()
    beside[0, 0, 3] = -0.8  # the target camera stands to the right of the source camera
    target, time = beside @ pose, torch.tensor([20.0])
    found = co_visible(scene, intrinsics, target, intrinsics, pose, time, size, size)[0].numpy().ravel()
    lens = intrinsics[0].double().numpy()
    depth, _ = twin_view(scene, intrinsics[0], target[0], 20.0, size)
    y, x = np.mgrid[:size, :size] + 0.5
    seen = depth * (np.linalg.inv(lens) @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)]))
    point = (
        pose[0].double().numpy() @ np.linalg.inv(target[0].double().numpy()) @ np.r_[seen, [depth * 0 + 1]]
    )
    place = lens @ point[:3]
    inside = (point[2] > 0) & ((place[:2] / place[2] > 0) & (place[:2] / place[2] < size)).all(0)
    rotation, shift = pose[0, :3, :3].double().numpy(), pose[0, :3, 3].double().numpy()
    direction = (rotation.T @ (point[:3] / point[2])).T
    blocked = np.zeros(len(depth), dtype=bool)
    for slot, kind in enumerate(scene.kinds):
        back = np.linalg.inv(joints(scene, slot, 20.0)[0])
        origin = (back @ [*(-rotation.T @ shift), 1])[:3]
        half = scene.size[slot].double().numpy()
        blocked |= marched(kind, half, origin, direction @ back[:3, :3].T) < point[2] * (1 - 1e-5)
    assert (found == (inside & ~blocked)).mean() > 0.99
    assert 0.3 < found.mean() < 0.99 and (inside & blocked).any()


def test_every_seed_has_a_scene_with_something_to_name() -> None:
    for seed in (398, *range(1_000_000, 1_000_300)):
        drawn = world_scene(seed)
        assert sum(bool(actor.words) for actor in drawn.actors) >= 1
        assert len(split_words(drawn.caption)) < 90  # tokens of a caption in pre-training: 96
