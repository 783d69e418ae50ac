"""Conversion between the uint8 frames of artifacts and the float videos of models."""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def to_video(frames: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 [T,H,W,3] to float32 [T,3,H,W] in [-1,1]."""
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_frames(video: Tensor) -> np.ndarray:
    """Convert [T,3,H,W] in [-1,1] to uint8 [T,H,W,3]; the exact inverse of to_video on its image."""
    scaled = (video.float().clamp(-1, 1) + 1.0) * 127.5
    return np.ascontiguousarray(scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def stage_device(gpus: float) -> torch.device:
    """Return the device of a stage with these GPUs per worker: the CPU, with a warning, if there is none."""
    if gpus > 0 and not torch.cuda.is_available():
        _warn_of_cpu(gpus)
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


@cache
def _warn_of_cpu(gpus: float) -> None:
    """Report, once per process, that a stage works without the GPU that it was given."""
    logger.warning(
        "this stage was given %g GPUs and torch finds none, so it works on the CPU; install a build of torch "
        "for the driver of this machine, or set its gpus in execution.resources to 0",
        gpus,
    )
