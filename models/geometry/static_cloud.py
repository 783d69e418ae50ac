"""One point cloud of what stands still in a clip, gathered from all its frames by their agreement.

A pixel of a frame becomes a point if another frame sees the same surface and colour there, and few look
through it or see another colour at its depth: so neither moving bodies nor wrong depth enter. What an
occluder hides from a frame says nothing. A point's depth and colour are means over the frames that agree.
A surface that many frames see is kept once: a frame adds only pixels that no point so far represents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, pad

from recapture.conf.heartbeat import beating
from recapture.models.geometry.backwarp import EDGE
from recapture.models.geometry.cameras import invert_rigid
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.geometry.splat import Points, Splatted, splat

KEY_FRAMES = 24  # of a clip, evenly spread, at most: bounds memory and time
SAME_DEPTH = 0.03  # relative
SAME_COLOUR = 0.3  # in the range [-1, 1], mean over channels
LEAST = 1  # other frames that agree
DOUBT = 0.25  # share of the frames with an opinion that may contradict
STEPS = 4  # jumps of `break_ratio` within 3 x 3 pixels, from which on they show two surfaces
COARSER = 1.5  # times a frame's pixel: a larger point does not represent it
CHUNK = 1 << 18  # points that are looked up at once; bounds memory
MARGIN = 3  # pixels around what is wanted whose points are drawn


class Frames(NamedTuple):
    """Frames of a clip whose poses are known relative to each other."""

    video: Tensor  # [n, 3, h, w] in [-1, 1]
    depth: Tensor  # [n, h, w] z-depth
    known: Tensor  # [n, h, w] bool
    intrinsics: Tensor  # [n, 3, 3] pixels
    world_to_camera: Tensor  # [n, 4, 4] OpenCV


@dataclass(frozen=True)
class StaticCloud:
    """Points of the static scene."""

    place: Tensor  # [N, 3] in the world
    colour: Tensor  # [N, 3] in [-1, 1]
    size: Tensor  # [N] distance to neighbouring points, in scene units

    def seen_by(
        self,
        intrinsics: Tensor,  # [3, 3]
        world_to_camera: Tensor,  # [4, 4]
        wanted: Tensor,  # [H, W] bool
        max_stretch: float | None,
    ) -> Splatted:
        """Return what a camera sees of the cloud where wanted, less points magnified more (in area)."""
        height, width = wanted.shape
        u, v, z = _projected(self.place, intrinsics, world_to_camera)
        extent = self.size * intrinsics[0, 0].to(z) / z.clamp_min(1e-9)
        inside = (z > 0) & (u > -MARGIN) & (u < width + MARGIN) & (v > -MARGIN) & (v < height + MARGIN)
        if max_stretch is not None:
            inside &= extent.square() <= max_stretch
        side = 2 * MARGIN + 1
        near = max_pool2d(wanted[None].float(), side, 1, MARGIN)[0].bool().flatten()
        picked = (inside & near[_pixel(u, v, height, width)]).nonzero()[:, 0]
        u, v, z, extent = (value[picked] for value in (u, v, z, extent))
        seen = splat(Points(u, v, z, extent.clamp_min(1.0), self.colour[picked]), (height, width))
        visible = seen.visible & wanted
        return Splatted(
            torch.where(visible, seen.video, 0.0), visible, torch.where(visible, seen.depth, torch.inf)
        )


def static_cloud(frames: Frames, surface: SurfaceSettings) -> StaticCloud:
    """Return what stands still in the frames; nothing of less than two.

    Pixels beside a jump in depth (STEPS times `surface.break_ratio`) are left out: they mix two surfaces.
    """
    cloud = StaticCloud(*(frames.video.new_zeros(shape) for shape in ((0, 3), (0, 3), (0,))))
    if len(frames.depth) < 2:
        return cloud
    for number in beating(middle_out(len(frames.depth))):
        firm = _firm(frames.depth[number], frames.known[number], surface.break_ratio)
        new = firm & ~_represented(cloud, frames, number)
        parts = [_confirmed(frames, number, part) for part in new.flatten().nonzero()[:, 0].split(CHUNK)]
        cloud = _joined([cloud, *parts])
    return cloud


def key_frames(groups: Tensor, count: int = KEY_FRAMES) -> dict[int, Tensor]:
    """Return the frames [n] from which each group's cloud is made, at most `count` in all, evenly spread.

    groups: [S] int64, see `SourceView.pose_group`. A frame whose pose is related to no other's is left out.
    """
    _, place, sizes = groups.unique(return_inverse=True, return_counts=True)
    candidates = (sizes[place] > 1).nonzero()[:, 0]
    if len(candidates) > count:
        steps = torch.linspace(0, len(candidates) - 1, count, device=groups.device)
        candidates = candidates[steps.round().long()]
    of = groups[candidates]
    found = {group: candidates[of == group] for group in of.unique().tolist()}
    return {group: frames for group, frames in found.items() if len(frames) > 1}


def middle_out(count: int) -> list[int]:
    """Return the numbers below count: the middle, then the middles of what is left on both sides, ..."""
    order, spans = [], [(0, count)]
    for start, stop in spans:
        if start < stop:
            middle = (start + stop) // 2
            order.append(middle)
            spans += [(start, middle), (middle + 1, stop)]
    return order


def _firm(depth: Tensor, known: Tensor, break_ratio: float) -> Tensor:
    """Return where a pixel [h, w] and its neighbours are known and on one surface."""
    usable = known & torch.isfinite(depth) & (depth > 0)
    nearness = torch.where(usable, -depth.clamp_min(1e-9).log(), torch.inf)
    farthest = -max_pool2d(-nearness[None], 3, 1, 1)[0]
    nearest = max_pool2d(nearness[None], 3, 1, 1)[0]
    return usable & (nearest - farthest <= STEPS * break_ratio)


def _represented(cloud: StaticCloud, frames: Frames, number: int) -> Tensor:
    """Return which pixels [h, w] of a frame are, or lie beside, what a point of the cloud shows."""
    depth = frames.depth[number]
    height, width = depth.shape
    lens = frames.intrinsics[number]
    u, v, z = _projected(cloud.place, lens, frames.world_to_camera[number])
    shown = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    shown &= cloud.size * lens[0, 0].to(z) <= COARSER * z
    pixel = _pixel(u, v, height, width)
    shown &= (depth.flatten()[pixel] - z).abs() <= SAME_DEPTH * z
    found = torch.zeros(height * width, device=depth.device)
    found[pixel[shown]] = 1.0
    return max_pool2d(found.view(1, height, width), 3, 1, 1)[0].bool()


def _confirmed(frames: Frames, number: int, pixels: Tensor) -> StaticCloud:
    """Return points of the pixels [n] of a frame that other frames confirm."""
    width = frames.depth.shape[2]
    lens, pose = frames.intrinsics[number].double(), frames.world_to_camera[number].double()
    z = frames.depth[number].flatten()[pixels].double()
    homogeneous = torch.stack([pixels % width + 0.5, pixels // width + 0.5, torch.ones_like(pixels)], 1)
    back = invert_rigid(pose)
    ray = homogeneous.double() @ torch.linalg.inv(lens).T @ back[:3, :3].T
    place = (back[:3, 3] + ray * z[:, None]).float()
    own = frames.video[number].flatten(1)[:, pixels].T
    agree, against = torch.zeros_like(place[:, 0]), torch.zeros_like(place[:, 0])
    colours, ratios = own.clone(), torch.ones_like(agree)
    for other in range(len(frames.depth)):
        if other == number:
            continue
        found = _looked_up(frames, other, place)
        alike = (found.colour - own).abs().mean(1) <= SAME_COLOUR
        agrees = found.there & alike
        agree += agrees
        against += found.looks_through | (found.there & ~alike)
        colours += torch.where(agrees[:, None], found.colour, 0.0)
        ratios += torch.where(agrees, found.ratio, 0.0)
    kept = (agree >= LEAST) & (against <= DOUBT * (agree + against))
    z = z * (ratios / (1 + agree))
    place = (back[:3, 3] + ray * z[:, None]).float()
    size = (z / lens[0, 0]).float()
    return StaticCloud(place[kept], (colours / (1 + agree)[:, None])[kept], size[kept])


class _Found(NamedTuple):
    """Points as a frame shows them."""

    there: Tensor  # [n] bool, the frame sees a surface at the point's depth
    looks_through: Tensor  # [n] bool, all it sees around is farther away
    ratio: Tensor  # [n] its depth there / the point's, 1 where not `there`
    colour: Tensor  # [n, 3] in [-1, 1]


def _looked_up(frames: Frames, number: int, place: Tensor) -> _Found:
    """Look points [n, 3] up in a frame, bilinearly in 1 / depth; all four pixels must be known."""
    depth = frames.depth[number]
    height, width = depth.shape
    u, v, z = _projected(place, frames.intrinsics[number], frames.world_to_camera[number])
    usable = (z > 0) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    u, v = torch.where(usable, u, 0.5), torch.where(usable, v, 0.5)
    column, row = (u - 0.5).floor(), (v - 0.5).floor()
    beside, below = u - 0.5 - column, v - 0.5 - row
    good = frames.known[number] & torch.isfinite(depth) & (depth > 0)
    nearness = pad(torch.where(good, 1 / depth.float(), 0.0)[None], (1, 1, 1, 1), mode="replicate")
    first = ((row + 1) * (width + 2) + column + 1).long()
    around = nearness.flatten()[torch.stack([first, first + 1, first + width + 2, first + width + 3])]
    weights = torch.stack(
        [(1 - beside) * (1 - below), beside * (1 - below), (1 - beside) * below, beside * below]
    )
    nearest, farthest = around.amax(0), around.amin(0)
    usable &= farthest > 0
    ratio = 1 / ((around * weights).sum(0) * z)
    there = usable & (nearest <= EDGE * farthest) & ((ratio - 1).abs() <= SAME_DEPTH)
    grid = torch.stack([2 * u / width - 1, 2 * v / height - 1], -1)[None, None]
    colour = grid_sample(frames.video[number][None], grid, padding_mode="border", align_corners=False)
    looks_through = usable & (nearest * z * (1 + SAME_DEPTH) < 1)
    return _Found(there, looks_through, torch.where(there, ratio, 1.0), colour[0, :, 0].T)


def _projected(place: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixels u, v and depth [n] of points [n, 3]; u and v mean nothing where depth is not positive."""
    motion = intrinsics.double() @ world_to_camera.double()[:3]
    x, y, z = (place @ motion[:, :3].T.to(place) + motion[:, 3].to(place)).unbind(1)
    ahead = torch.where(z > 0, z, 1.0)
    return x / ahead, y / ahead, z


def _pixel(u: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    """Return the number [n] of the pixel in which a point falls, of the nearest one outside the image."""
    return v.clamp(0, height - 1).long() * width + u.clamp(0, width - 1).long()


def _joined(parts: list[StaticCloud]) -> StaticCloud:
    columns = StaticCloud.__annotations__
    return StaticCloud(*(torch.cat([getattr(one, name) for one in parts]) for name in columns))
