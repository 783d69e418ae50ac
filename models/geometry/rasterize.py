"""Render a video with depth from new cameras: a triangle z-buffer over the source's pixel grid.

mesh.py lifts the source to triangles, z_buffer.py decides which of them wins a target pixel, and this file
joins them. Colour is looked up once per target pixel, at the winning surface point's place in the source
(deferred shading).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from recapture.conf.heartbeat import beating
from recapture.models.geometry.cameras import pixel_motion, project_grid
from recapture.models.geometry.mesh import CameraPair, lift, surface_stretch
from recapture.models.geometry.z_buffer_grid import surface_keys as grid_keys

NEAR = 1e-3  # of a frame's median depth; triangles with a corner nearer to the target camera are dropped
CHUNK_QUADS = 1 << 25  # quads drawn at once on an accelerator; bounds memory to about 6 GB
CPU_CHUNK_QUADS = 1 << 16  # on a CPU: a frame, or a few small ones, of which each costs more by itself


@dataclass(frozen=True)
class SurfaceSettings:
    """How surfaces are lifted from depth, and which of them count as seen; `render` in the configuration."""

    break_ratio: float  # a quad with (max - min) / min depth above it is torn
    shell: float  # how deep a torn quad occludes, as a share of the foreground's depth; 0 leaves it out
    max_stretch: float | None  # surfaces magnified more (in area) become holes; None keeps them all


@dataclass(frozen=True)
class Rendered:
    """What the target cameras see of the source."""

    video: Tensor  # [T, 3, H, W] in [-1, 1], 0 (grey) in holes
    visible: Tensor  # [T, H, W] bool, True where the source saw the surface
    depth: Tensor  # [T, H, W] z-depth in the target camera, inf in holes
    stretch: Tensor  # [T, H, W] >= 1, the factor by which source pixels are magnified (area); 1 in holes


def render(
    video: Tensor,  # [T, 3, h, w] in [-1, 1]
    depth: Tensor,  # [T, h, w] z-depth in scene units
    source_intrinsics: Tensor,  # [T, 3, 3] pixels
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3] pixels
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    surface: SurfaceSettings,
    size: tuple[int, int] | None = None,
    known: Tensor | None = None,  # [T, h, w] bool, source pixels that may be lifted
    wanted: Tensor | None = None,  # [T, H, W] bool, target pixels to be rendered
) -> Rendered:
    """Lift every frame to 3D and film it with the target camera of the same frame.

    Each camera is an argument of its own, hence their number.

    size: (H, W) of the target, by default the source's. Source pixels with depth that is not finite and
    positive are never lifted. Target pixels that are not wanted are holes.

    Triangles with a corner closer to the target camera than NEAR x the frame's median depth (taken over
    every fourth row and column) are dropped, so that what is behind the camera never shows.
    """
    cameras = CameraPair(
        source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera
    ).double()
    size = (depth.shape[1], depth.shape[2]) if size is None else size
    parts = []
    for part in beating(_chunks(depth)):
        pair = cameras.of_frames(part)
        asked = _part(wanted, part)
        z, stretch = _nearest(depth[part], _part(known, part), pair, size, surface, asked)
        visible = stretch > 0 if asked is None else (stretch > 0) & asked
        if surface.max_stretch is not None:
            visible &= stretch <= surface.max_stretch
        colours = _shade(video[part].float(), torch.where(visible, z, 1.0), visible, pair)
        z = torch.where(visible, z, torch.inf)
        parts.append((colours, visible, z, torch.where(visible, stretch.clamp_min(1.0), 1.0)))
    return Rendered(*(torch.cat(field) for field in zip(*parts)))


def nearest_surface(
    depth: Tensor,  # [T, h, w] z-depth in scene units
    source_intrinsics: Tensor,  # [T, 3, 3] pixels
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3] pixels
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    surface: SurfaceSettings,
    size: tuple[int, int] | None = None,
    known: Tensor | None = None,  # [T, h, w] bool, source pixels that may be lifted
) -> tuple[Tensor, Tensor]:
    """Return depth and stretch [T,H,W] of what is nearest to the target camera, whether it shows or not.

    Like `render`'s, but of occluders and of surfaces of any stretch too. Depth is inf where there is nothing;
    stretch is 0 there, and where an occluder shows nothing.
    """
    cameras = CameraPair(
        source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera
    ).double()
    size = (depth.shape[1], depth.shape[2]) if size is None else size
    parts = [
        _nearest(depth[part], _part(known, part), cameras.of_frames(part), size, surface)
        for part in beating(_chunks(depth))
    ]
    return torch.cat([z for z, _ in parts]), torch.cat([stretch for _, stretch in parts])


def _chunks(depth: Tensor) -> list[slice]:
    """Cut [T,h,w] into runs of frames to draw at once."""
    frames, height, width = depth.shape
    quads = CPU_CHUNK_QUADS if depth.device.type == "cpu" else CHUNK_QUADS
    chunk = max(1, quads // (height * width))
    return [slice(start, start + chunk) for start in range(0, frames, chunk)]


def _part(known: Tensor | None, part: slice) -> Tensor | None:
    return None if known is None else known[part]


def _nearest(
    depth: Tensor,
    known: Tensor | None,
    cameras: CameraPair,
    size: tuple[int, int],
    settings: SurfaceSettings,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the nearest faces' depth (inf: none) and stretch (0: none, or showing nothing) [T,H,W].

    Right where wanted, by default everywhere.
    """
    usable = torch.isfinite(depth) & (depth > 0)
    known = usable if known is None else usable & known
    depth = torch.where(known, depth, torch.ones_like(depth)).float()
    nearest = NEAR * depth[:, ::4, ::4].flatten(1).median(1).values  # of some pixels: 16 times faster
    surface = lift(depth, known, cameras, nearest, settings.break_ratio, settings.shell)
    if depth.device.type == "cuda":
        from recapture.models.geometry.z_buffer_triton import surface_keys

        keys, stretch = surface_keys(surface, size), surface_stretch(surface)
    else:
        keys, stretch = grid_keys(surface, size, wanted)
    z = (keys >> 32).int().view(torch.float32)  # inf where there is nothing
    face = (keys & 0xFFFFFFFF).clamp_max_(len(stretch))
    return z.view(-1, *size), pad(stretch, (0, 1)).index_select(0, face).view(-1, *size)


def _shade(video: Tensor, z: Tensor, visible: Tensor, cameras: CameraPair) -> Tensor:
    """Look each visible target pixel's surface point up in the source, bilinearly; 0 elsewhere."""
    frames, height, width = z.shape
    u = torch.arange(width, device=z.device) + 0.5
    v = torch.arange(height, device=z.device) + 0.5
    matrix, shift = pixel_motion(*cameras.reversed())
    side = matrix.new_tensor([video.shape[3] / 2, video.shape[2] / 2, 1.0])
    *position, depth = project_grid(u, v, z, matrix / side, shift / side)
    depth = torch.where(visible, depth, 1.0)
    grid = torch.stack([(place / depth).sub_(1.0) for place in position], dim=-1)
    shown = None
    if frames == 1 and z.device.type == "cpu":  # on a GPU, counting takes longer than sampling all
        shown = visible.flatten().nonzero()[:, 0]
        grid = grid.view(1, 1, -1, 2).index_select(2, shown)
        if not len(shown):
            return video.new_zeros(1, video.shape[1], height, width)
    colours = grid_sample(video, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if shown is None:
        return torch.where(visible[:, None], colours, 0.0)
    picture = colours.new_zeros(1, video.shape[1], height * width)
    return picture.index_copy_(2, shown, colours[:, :, 0]).view(1, -1, height, width)
