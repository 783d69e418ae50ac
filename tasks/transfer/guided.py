"""method guided: the clean estimate is pulled towards the reference's while a result is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.transfer import GuidedConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.diffusion import MakeSolver
from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.inverse.solvers import make_solver
from recapture.models.wan.load import Base
from recapture.models.wan.padding import padded
from recapture.models.wan.sampling import Solver
from recapture.models.wan.vae import encode_video
from recapture.tasks.clip.frames_to_video import to_video


def reference_solver(
    config: GuidedConfig, reference: Artifact, size: Sequence[int], device: torch.device
) -> MakeSolver:
    """Return the maker of a solver that follows a reference's latents, at a target's (height, width)."""
    rgb = reference.frames().read(0, reference.meta["frames"], ["rgb"])["rgb"]
    height, width = size
    if rgb.shape[1:3] != (height, width):
        rgb = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in rgb])
    video = to_video(rgb, device)

    def made(base: Base, shown: Tensor, known: Tensor) -> Solver:
        latents = encode_video(base.vae, padded(base, video))[None]
        measurement = LatentMeasurement(latents, torch.ones_like(latents))
        return make_solver("motion", measurement, stop=config.until, rate=config.rate, anchor=config.anchor)

    return made
