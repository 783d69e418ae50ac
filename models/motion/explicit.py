"""A motion given to another scene explicitly, without training: bodies lifted with depth and moved rigidly.

The strong baseline of motion transfer. Each body of the target's first frame is lifted to 3D and follows the
way of the reference's body in the picture, at its own depth; the rest of the frame stays, completed behind
the bodies. What nothing shows is a hole, which the project's fillers fill. A body keeps its shape: limbs do
not swing, and its unseen side does not turn up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.fill.inpaint import inpaint
from recapture.models.fill.membrane import membrane
from recapture.models.fill.view import RenderedView
from recapture.models.geometry.cameras import invert_rigid
from recapture.models.geometry.rasterize import Rendered, SurfaceSettings, render

AT_REST = 2.0  # pixels; a reference that moves less has no motion to give
LEAST = 8  # pixels that must show of a body
RADIUS = 3.0  # of the inpainting behind bodies
BACKGROUND_FRAMES = 5  # of the clip that a filler completes behind bodies: its smallest


@dataclass(frozen=True)
class Moves:
    """How the bodies of a reference move, relative to its first frame."""

    across: Tensor  # [N, T, 2] displacement to the right and down, in shares of the picture's longer side
    nearness: Tensor  # [N, T] depth in the first frame / depth: 2 at half the distance


@dataclass(frozen=True)
class CameraMoves:
    """How the camera of a reference moves, relative to its first frame; lengths in distances to the scene."""

    motion: Tensor  # [T, 4, 4] from the first camera's coordinates to each one's
    zoom: Tensor  # [T] focal length / that of the first frame


def body_moves(bodies: Tensor, depth: Tensor | None = None) -> Moves:
    """Return how bodies move, from their masks [N, T, H, W] bool and, if given, depth [T, H, W].

    Without depth, a body is taken to be nearer as its area grows. A frame that does not show a body is
    interpolated. Raises ValueError for a body that the first frame does not show, and for bodies all at rest.
    """
    count, _, height, width = bodies.shape
    area = bodies.flatten(2).sum(-1)
    unseen = (area[:, 0] < LEAST).nonzero().flatten().tolist()
    if unseen:
        raise ValueError(f"motion: body {unseen[0] + 1} of {count} is not in the reference's first frame")
    columns, rows = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    weight = bodies.double().cpu()
    x = (weight.sum(-2) * columns).sum(-1) / area.cpu().clamp_min(1)
    y = (weight.sum(-1) * rows).sum(-1) / area.cpu().clamp_min(1)
    size = area.cpu().double().sqrt() if depth is None else 1 / _distances(bodies.cpu(), depth.double().cpu())
    seen = area.cpu() >= LEAST
    way = torch.stack([_without_gaps(part, seen) for part in (x, y, size)], dim=-1)
    moved = way[..., :2] - way[:, :1, :2]
    farthest = float(moved.norm(dim=-1).max())
    nearness = way[..., 2] / way[:, :1, 2]
    if farthest < AT_REST and float(nearness.log().abs().max()) < 0.05:
        raise ValueError(
            f"motion: the reference's bodies move {farthest:.1f} pixels; choose one that moves at least"
            f" {AT_REST:g}"
        )
    return Moves(moved / max(height, width), nearness)


def camera_moves(intrinsics: Tensor, world_to_camera: Tensor, pivot: float) -> CameraMoves:
    """Return how a camera moves: intrinsics [T, 3, 3], world_to_camera [T, 4, 4], distance to the scene."""
    pose = world_to_camera.double()
    motion = pose @ invert_rigid(pose[0])
    motion[:, :3, 3] /= pivot
    return CameraMoves(motion, (intrinsics[:, 0, 0] / intrinsics[0, 0, 0]).double())


def explicit_view(
    frame: Tensor,  # [3, H, W] in [-1, 1], the target's first frame
    depth: Tensor,  # [H, W] z-depth
    bodies: Tensor,  # [N, H, W] bool, those that move, in the order of `moves`
    intrinsics: Tensor,  # [3, 3] pixels
    *,
    surface: SurfaceSettings,
    moves: Moves | None = None,
    camera: CameraMoves | None = None,
    behind: Tensor | None = None,  # [3, H, W] the frame without its bodies; None: inpainted
    dilate: int = 2,  # pixels around a body that do not stay behind with the scene
) -> RenderedView:
    """Return the target in motion, with holes where nothing of its first frame shows; frame 0 is whole.

    behind: a hole there would be filled with the body again, as frame 0 shows it in that very place; a filler
    may complete `background_view`, under a prompt that does not name the body.

    The world is the first camera. Raises ValueError for no moves, or for another number of bodies.
    """
    if moves is None and camera is None:
        raise ValueError("motion: there is nothing to move; give the moves of bodies or of a camera")
    if moves is not None and len(moves.across) != len(bodies):
        raise ValueError(
            f"motion: the reference has {len(moves.across)} moving bodies and the target {len(bodies)};"
            " select as many in both"
        )
    frames = len(moves.nearness[0]) if moves is not None else len(camera.zoom) if camera is not None else 0
    lens, pose = _cameras(intrinsics, depth, camera, frames)
    usable = torch.isfinite(depth) & (depth > 0)
    scene, far = frame, depth
    if moves is not None:
        still = usable & ~_around(bodies, dilate)
        scene, far = _completed(frame, depth, still, behind)
    still_pose = torch.eye(4, dtype=torch.float64, device=depth.device).expand(frames, 4, 4)
    first = intrinsics.to(depth.device).double().expand(frames, 3, 3), still_pose

    def seen(picture: Tensor, away: Tensor, known: Tensor, shift: Tensor | None = None) -> Rendered:
        place = pose.clone()
        if shift is not None:
            place[:, :3, 3] += (pose[:, :3, :3] @ shift.to(pose)[..., None])[..., 0]
        shown = picture.expand(frames, -1, -1, -1), away.expand(frames, -1, -1)
        return render(*shown, *first, lens, place, surface=surface, known=known.expand(frames, -1, -1))

    made = seen(scene, far, torch.isfinite(far) & (far > 0))
    for number, body in enumerate(bodies if moves is not None else ()):
        assert moves is not None
        own = body & usable
        shift = _shifts(own, depth, intrinsics, moves.across[number], moves.nearness[number])
        made = _nearer(made, seen(frame, depth, own, shift))
    made.video[0], made.visible[0], made.depth[0], made.stretch[0] = frame, True, depth, 1.0
    return RenderedView(made.video, made.visible, made.depth, made.stretch, lens, pose)


def background_view(
    frame: Tensor,  # [3, H, W] in [-1, 1]
    depth: Tensor,  # [H, W]
    bodies: Tensor,  # [N, H, W] bool
    intrinsics: Tensor,  # [3, 3]
    *,
    dilate: int = 2,
) -> RenderedView:
    """Return a still clip of the frame with holes for its bodies; filled, its frames are `behind`."""
    hole = _around(bodies, dilate)
    count = BACKGROUND_FRAMES
    return RenderedView(
        torch.where(hole, 0.0, frame).repeat(count, 1, 1, 1),
        (~hole).repeat(count, 1, 1),
        torch.where(hole, torch.inf, depth).repeat(count, 1, 1),
        torch.ones_like(depth).repeat(count, 1, 1),
        intrinsics.double().repeat(count, 1, 1),
        torch.eye(4, dtype=torch.float64, device=depth.device).repeat(count, 1, 1),
    )


def _around(bodies: Tensor, dilate: int) -> Tensor:
    """Return where bodies [N, H, W] or the pixels around them are, [H, W] bool."""
    if not len(bodies):
        return torch.zeros(bodies.shape[1:], dtype=torch.bool, device=bodies.device)
    return max_pool2d(bodies.any(0)[None, None].float(), 2 * dilate + 1, 1, dilate)[0, 0].bool()


def _completed(frame: Tensor, depth: Tensor, still: Tensor, behind: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the scene without its bodies and its depth, which continues smoothly behind them."""
    if not still.any():
        raise ValueError(
            "motion: the bodies fill the target's first frame; there is no scene to move them in"
        )
    if behind is None:
        behind = inpaint(frame[None], still[None], depth[None], RADIUS, frame.new_zeros(3))[0]
    near = torch.where(still, 1 / torch.where(still, depth, 1.0), 0.0)
    far = 1 / membrane(near[None, None].float(), still[None])[0, 0]
    return torch.where(still, frame, behind.to(frame)), torch.where(still, depth, far.to(depth))


def _cameras(
    intrinsics: Tensor, depth: Tensor, camera: CameraMoves | None, frames: int
) -> tuple[Tensor, Tensor]:
    """Return intrinsics [T, 3, 3] and world_to_camera [T, 4, 4] that move as the reference's camera."""
    lens = intrinsics.to(depth.device).double().repeat(frames, 1, 1)
    pose = torch.eye(4, dtype=torch.float64, device=depth.device).repeat(frames, 1, 1)
    if camera is not None:
        lens[:, 0, 0] *= camera.zoom.to(lens)
        lens[:, 1, 1] *= camera.zoom.to(lens)
        pose = camera.motion.to(pose, copy=True)
        pose[:, :3, 3] *= pivot_of(depth)
    return lens, pose


def pivot_of(depth: Tensor) -> float:
    """Return the distance to a scene: the median of finite depth [H, W] in the middle third."""
    height, width = depth.shape
    middle = depth[height // 3 : height - height // 3, width // 3 : width - width // 3]
    return float(middle[torch.isfinite(middle)].median())


def _shifts(body: Tensor, depth: Tensor, intrinsics: Tensor, across: Tensor, nearness: Tensor) -> Tensor:
    """Return the shifts [T, 3] that take a body's centre along a way in the picture, at its own depth."""
    if int(body.sum()) < LEAST:
        raise ValueError("motion: a body of the target has no depth in its first frame; select another")
    rows, columns = body.nonzero(as_tuple=True)
    start = torch.stack([columns.double().mean() + 0.5, rows.double().mean() + 0.5]).cpu()
    distance = depth[body].double().median().cpu()
    pixels = start + across * max(depth.shape)
    ray = (
        torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1) @ torch.linalg.inv(intrinsics.double().cpu()).T
    )
    place = ray * (distance / nearness)[:, None]
    return place - place[:1]


def _nearer(first: Rendered, second: Rendered) -> Rendered:
    """Return what is nearer of two renderings, pixel by pixel."""
    closer = second.depth < first.depth
    return Rendered(
        torch.where(closer[:, None], second.video, first.video),
        torch.where(closer, second.visible, first.visible),
        torch.where(closer, second.depth, first.depth),
        torch.where(closer, second.stretch, first.stretch),
    )


def _distances(bodies: Tensor, depth: Tensor) -> Tensor:
    """Return the median depth [N, T] of each body, 1 where it has none."""
    found = torch.ones(bodies.shape[:2], dtype=torch.float64)
    for number, body in enumerate(bodies):
        for moment, (mask, map_) in enumerate(zip(body, depth)):
            values = map_[mask & torch.isfinite(map_) & (map_ > 0)]
            if len(values):
                found[number, moment] = values.median()
    return found


def _without_gaps(values: Tensor, seen: Tensor) -> Tensor:
    """Return values [N, T], interpolated where they were not seen."""
    at = np.arange(values.shape[1])
    rows = [np.interp(at, at[there], row[there]) for row, there in zip(values.numpy(), seen.numpy())]
    return torch.from_numpy(np.stack(rows))
