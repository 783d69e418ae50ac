"""Render procedural 4D scenes: a textured room with moving, spinning bodies, ray-cast for any camera path.

Depth, object ids and co-visibility are exact for every view and time. One scene takes cameras [T, ...]; a
batch of B scenes takes [B, T, ...] and is rendered at once. No file system, no state: the same scene, cameras
and times give the same tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.lenses import Lenses, look_at, pixel_centres
from recapture.datasets.scenes.rays import Frames, Rays, cast, freeze
from recapture.datasets.scenes.shots import shot_cameras
from recapture.datasets.scenes.surfaces import Surface, surface_at
from recapture.datasets.scenes.textures import shade
from recapture.datasets.scenes.world_camera import path_cameras
from recapture.datasets.scenes.world_film import develop
from recapture.datasets.scenes.world_render import depth_of, view_world


@dataclass(frozen=True)
class SceneFrames:
    """Rendered views; every field starts with [T] for one scene, [B, T] for a batch."""

    video: Tensor  # [..., 3, H, W] in [-1, 1]
    depth: Tensor  # [..., H, W] z-depth at pixel centres; inf only where a camera looks past the room
    object_id: Tensor  # [..., H, W] int64; 0 room, 1.. objects, -1 where depth is inf


def caption(scene: Scene) -> str:
    """Return what a single scene shows, in words."""
    if len(scene.captions) != 1:
        raise ValueError(f"caption takes one scene, got a batch of {len(scene.captions)}; use scene.captions")
    return scene.captions[0]


def render_scene(
    scene: Scene,
    intrinsics: Tensor,  # [T, 3, 3] or [B, T, 3, 3]
    world_to_camera: Tensor,  # [T, 4, 4] or [B, T, 4, 4]
    times: Tensor,  # [T] or [B, T], in frames
    height: int,
    width: int,
    antialias: int = 2,
) -> SceneFrames:
    """Render views of a scene, each with its own camera and time.

    Depth and ids are those of the ray through the pixel centre. Colour is filtered analytically inside a
    surface; pixels on an edge between surfaces average antialias x antialias rays (1: no edge smoothing).
    Raises: ValueError if the numbers of cameras, times and scenes differ.
    """
    batch, intrinsics, world_to_camera, times = _as_batch(scene, intrinsics, world_to_camera, times)
    frames = freeze(batch, times.to(batch.room_low))
    lenses = Lenses.of(intrinsics.flatten(0, 1).to(batch.room_low), world_to_camera.flatten(0, 1))
    centres = pixel_centres(height, width, lenses.origin)
    if frames.air is None:
        colour, depth, body = _view(frames, lenses, centres, (height, width), antialias)
    else:
        colour, depth, body = view_world(frames, lenses, centres, (height, width), antialias)
    missed = torch.isinf(depth)
    colour = colour.masked_fill(missed[..., None], 0.5)
    label = frames.label.gather(1, body).masked_fill(missed, -1)
    leading = times.shape if scene.batched else times.shape[1:]
    video = colour.unflatten(1, (height, width)).permute(0, 3, 1, 2).unflatten(0, times.shape)
    if batch.film is not None:
        views = depth.view(*times.shape, height, width)
        video = develop(batch, video, views, times.to(depth), intrinsics[..., 0, 0].to(depth))
    return SceneFrames(
        video=(video * 2 - 1).reshape(*leading, 3, height, width),
        depth=depth.reshape(*leading, height, width),
        object_id=label.reshape(*leading, height, width),
    )


def _view(
    frames: Frames, lenses: Lenses, centres: Tensor, size: tuple[int, int], antialias: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour [F, P, 3] in [0, 1], z-depth [F, P] and body [F, P] of classic and wide scenes."""
    rays = lenses.whole_views(centres)
    depth, body = cast(frames, rays)
    surface = surface_at(frames, rays, depth, body)
    colour = shade(frames, rays, surface)
    if antialias > 1:
        _smooth_edges(colour, frames, lenses, surface, torch.isinf(depth), centres, size, antialias)
    return colour, depth, body


def _depth(frames: Frames, rays: Rays) -> Tensor:
    return cast(frames, rays)[0] if frames.air is None else depth_of(frames, rays)


def co_visible(
    scene: Scene,
    target_intrinsics: Tensor,  # [T, 3, 3] or [B, T, 3, 3]
    target_world_to_camera: Tensor,  # [T, 4, 4] or [B, T, 4, 4]
    source_intrinsics: Tensor,  # like the target's
    source_world_to_camera: Tensor,
    times: Tensor,  # [T] or [B, T], in frames
    height: int,
    width: int,
    source_size: tuple[int, int] | None = None,  # (height, width) of the source view; None: the target's
) -> Tensor:
    """Return True where the source camera sees the surface point at the centre of a target pixel.

    Exact: a ray (float64) from the source camera through the point must meet nothing before it, and the
    point must be inside the source's image. Returns bool [T, height, width] or [B, T, height, width].
    Nine parameters, because each of the two cameras is two tensors, as in render_scene.
    """
    exact = scene.to(dtype=torch.float64)
    source_times = times
    batch, intrinsics, world_to_camera, times = _as_batch(
        exact, target_intrinsics, target_world_to_camera, times
    )
    _, source_k, source_w2c, _ = _as_batch(exact, source_intrinsics, source_world_to_camera, source_times)
    frames = freeze(batch, times.to(batch.room_low))
    lenses = Lenses.of(intrinsics.flatten(0, 1).to(batch.room_low), world_to_camera.flatten(0, 1))
    rays = lenses.whole_views(pixel_centres(height, width, lenses.origin))
    depth = _depth(frames, rays)
    hit = torch.isfinite(depth)
    reach = torch.where(hit, depth, 1.0)
    point = torch.stack([o + reach * d for o, d in zip(rays.origin, rays.direction)], dim=-1)  # [F, P, 3]

    pose = source_w2c.flatten(0, 1).to(point)
    seen_from = point @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
    z = seen_from[..., 2]
    in_front = z > 1e-6
    pixel = (seen_from @ source_k.flatten(0, 1).to(point).mT)[..., :2] / torch.where(in_front, z, 1.0)[
        ..., None
    ]
    source_height, source_width = source_size or (height, width)
    inside = (pixel >= 0).all(-1) & (pixel[..., 0] < source_width) & (pixel[..., 1] < source_height)
    source = Lenses.of(source_k.flatten(0, 1).to(point), pose)
    back = source.whole_views(pixel)
    blocker = _depth(frames, back)
    visible = hit & in_front & inside & (blocker >= z * (1 - 1e-7) - 1e-7)
    leading = times.shape if scene.batched else times.shape[1:]
    return visible.reshape(*leading, height, width)


def source_cameras(scene: Scene, frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the scene's own camera over `frames` frames from time 0.

    The scene's field of view is that of the longer side; pixels are square, the principal point is the
    centre. Returns intrinsics [T, 3, 3] and world_to_camera [T, 4, 4] ([B, T, ...] for a batch).
    """
    batch = scene.as_batch()
    camera, lens = batch.camera.double(), batch.lens.double()
    time = torch.arange(frames, dtype=torch.float64, device=camera.device)
    if batch.shot is not None:
        pose, zoom = shot_cameras(batch, time.expand(len(camera), -1))
    elif batch.path is None:
        swing = torch.sin(2 * torch.pi * time / lens[:, 1:2])[..., None]  # [B, T, 1]
        pose = look_at(
            camera[:, None, 0] + swing * camera[:, None, 2], camera[:, None, 1] + swing * camera[:, None, 3]
        )
        zoom = torch.ones_like(time)
    else:
        pose, zoom = path_cameras(batch, time.expand(len(camera), -1))
    focal = max(height, width) / 2 / torch.tan(torch.deg2rad(lens[:, :1]) / 2) * zoom
    intrinsics = torch.eye(3, dtype=torch.float64, device=camera.device).repeat(len(camera), frames, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = width / 2, height / 2
    intrinsics, pose = intrinsics.to(batch.room_low), pose.to(batch.room_low)
    return (intrinsics, pose) if scene.batched else (intrinsics[0], pose[0])


def _as_batch(
    scene: Scene, intrinsics: Tensor, world_to_camera: Tensor, times: Tensor
) -> tuple[Scene, Tensor, Tensor, Tensor]:
    batch = scene.as_batch()
    if not scene.batched and times.ndim == 1:
        intrinsics, world_to_camera = intrinsics[None], world_to_camera[None]
    times = times[None] if times.ndim == 1 else times
    times = times.expand(len(batch.room_low), -1)
    expected = tuple(times.shape)
    shapes = tuple(intrinsics.shape), tuple(world_to_camera.shape)
    if shapes != ((*expected, 3, 3), (*expected, 4, 4)):
        raise ValueError(
            f"{expected[0]} scenes at {expected[1]} times need intrinsics {(*expected, 3, 3)} and "
            f"world_to_camera {(*expected, 4, 4)}; got {shapes[0]} and {shapes[1]}"
        )
    return batch, intrinsics, world_to_camera, times


def _smooth_edges(
    colour: Tensor,  # [F, P, 3], changed in place
    frames: Frames,
    lenses: Lenses,
    surface: Surface,
    missed: Tensor,
    centres: Tensor,
    size: tuple[int, int],
    antialias: int,
) -> None:
    """Average antialias² rays in the pixels whose neighbours are on another surface."""
    part = (surface.body * 8 + surface.face).masked_fill(missed, -1).unflatten(1, size)
    edge = torch.zeros_like(part, dtype=torch.bool)
    for axis in (1, 2):
        differs = part.diff(dim=axis) != 0
        first, second = edge.narrow(axis, 0, differs.shape[axis]), edge.narrow(axis, 1, differs.shape[axis])
        first |= differs
        second |= differs
    view, pixel = edge.flatten(1).nonzero(as_tuple=True)
    steps = [(index + 0.5) / antialias - 0.5 for index in range(antialias)]
    shift = centres.new_tensor([(dx, dy) for dy in steps for dx in steps])  # [antialias², 2]
    around = (centres[pixel] + shift[:, None]).reshape(-1, 2)
    rays = lenses.scattered(view.repeat(len(shift)), around)
    depth, body = cast(frames, rays)
    seen = shade(frames, rays, surface_at(frames, rays, depth, body))
    seen = seen.masked_fill(torch.isinf(depth)[:, None], 0.5)
    colour[view, pixel] = seen.unflatten(0, (len(shift), -1)).mean(0)
