"""What a mask covers, set in motion in its clip: the region that it will sweep, and itself moved there."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.transfer import TransferConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import RenderedView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.motion.explicit import Moves, body_moves, explicit_view
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.transfer.params import TransferParams

BODIES = "bodies.npz"
LEAST_SEEN = 0.5  # share of a body that must stay in the picture, in half of the frames


def read_bodies(label: str, mask: Artifact, frames: int) -> Tensor:
    """Return what the mask covers in each frame, bool [1,T,H,W]; a picture is a clip at rest.

    Raises ValueError if the first frame has nothing.
    """
    covered = read_frames(mask, _moments(mask, frames), ["edit"])["edit"]
    if not covered[0].any():
        raise ValueError(f"{label}: the mask covers nothing in its first frame; name what moves there")
    return torch.from_numpy(covered)[None]


def swept_region(body: Tensor, dilate: int) -> Tensor:
    """Return bool [H,W]: where a body [T,H,W] is in any frame, dilated."""
    union = body.any(0).numpy().astype(np.uint8)
    if dilate:
        union = cv2.dilate(union, np.ones((2 * dilate + 1, 2 * dilate + 1), np.uint8))
    return torch.from_numpy(union > 0)


def swept(
    params: TransferParams, inputs: Mapping[str, Artifact], config: TransferConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the target's video [T,3,H,W], and what is visible of it: all but what its body will sweep.

    The first frame is whole. Raises ValueError for a target that is too short, or has no room for the body.
    """
    rgb, own = _target(params, inputs)
    body = moved_body(own[0, 0], _moves(inputs))
    _check_room(params, body)
    hidden = swept_region(body | own[0], config.dilate)
    visible = ~hidden.expand(len(rgb), -1, -1).clone()
    visible[0] = True
    return to_video(rgb, device), visible.to(device)


def explicit(
    params: TransferParams,
    inputs: Mapping[str, Artifact],
    cameras: Mapping[str, np.ndarray],
    surface: SurfaceSettings,
    device: torch.device,
) -> RenderedView:
    """Return the target's first frame with its body moved along the reference's way, in 3D.

    Raises ValueError as `swept` does, and for a target without depth.
    """
    rgb, own = _target(params, inputs)
    moves = _moves(inputs)
    _check_room(params, moved_body(own[0, 0], moves))
    read = read_frames(inputs["depth"], np.zeros(1, np.int64))
    depth = torch.from_numpy(np.where(read["known"], read["depth"], np.inf)[0])
    return explicit_view(
        to_video(rgb[:1], device)[0],
        depth.to(device),
        own[:, 0].to(device),
        torch.from_numpy(cameras["intrinsics"][0]).to(device),
        surface=surface,
        moves=moves,
    )


def moved_body(body: Tensor, moves: Moves) -> Tensor:
    """Return a body [H,W] bool moved in the picture as that of a reference, bool [T,H,W]."""
    height, width = body.shape
    rows, columns = torch.nonzero(body, as_tuple=True)
    y, x = float(rows.double().mean()), float(columns.double().mean())
    made = []
    for (across, down), size in zip(moves.across[0] * max(height, width), moves.nearness[0]):
        grow = float(size)
        there = (x + float(across), y + float(down))
        matrix = np.array([[grow, 0, there[0] - grow * x], [0, grow, there[1] - grow * y]])
        shown = cv2.warpAffine(body.numpy().astype(np.float32), matrix, (width, height))
        made.append(torch.from_numpy(shown > 0.1))
    return torch.stack(made)


def _moves(inputs: Mapping[str, Artifact]) -> Moves:
    bodies = inputs["motion_examples"].read_npz(BODIES)["bodies"]
    return body_moves(torch.from_numpy(bodies))


def _target(params: TransferParams, inputs: Mapping[str, Artifact]) -> tuple[np.ndarray, Tensor]:
    """Return a target's frames uint8 [T,H,W,3], and its body in them [1,T,H,W]; a picture is at rest."""
    ingest = inputs["ingest"]
    have = int(ingest.meta["frames"])
    if 1 < have < params.frames:
        raise ValueError(
            f"target {params.clip_id!r} has {have} frames, fewer than the {params.frames} of the motion; "
            "give a longer clip, set transfer.window lower, or transfer.start first_frame"
        )
    rgb = read_frames(ingest, _moments(ingest, params.frames), ["rgb"])["rgb"]
    return rgb, read_bodies(f"target {params.clip_id!r}", inputs["mask"], params.frames)


def _moments(artifact: Artifact, frames: int) -> np.ndarray:
    """Return the frames of an artifact that a result of so many frames shows."""
    return np.arange(frames) if artifact.meta["frames"] > 1 else np.zeros(frames, np.int64)


def _check_room(params: TransferParams, body: Tensor) -> None:
    """Raise ValueError if the picture has no room for the body [T,H,W] along its way."""
    area = body.flatten(1).sum(1).double()
    outside = int((area < LEAST_SEEN * area[0]).sum())
    if outside > len(body) // 2:
        reference = "" if params.reference is None else f" of {params.reference.id!r}"
        raise ValueError(
            f"target {params.clip_id!r} has no room for the motion{reference}: what the mask covers would be "
            f"outside the picture in {outside} of {len(body)} frames; choose a target where it begins "
            "elsewhere"
        )
