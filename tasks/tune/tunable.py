"""Whether a base can be tuned, known from the headers of its files before a job begins."""

from __future__ import annotations

import math

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.tasks.clip.base_shapes import base_shapes


def check_tunable(config: FillConfig) -> None:
    """Raise UserError, with the way out, for a base that tuning does not support."""
    shapes = base_shapes(config)
    if len(shapes) > 1:
        raise UserError(
            f"fill.base: {config.base} has two transformers (Wan2.2 A14B), which `recapture train` does not "
            "tune; choose a Wan2.1 Fun-InP base, or tune a high-noise and a low-noise adapter elsewhere and "
            "name both in fill.adapters"
        )
    own = shapes["transformer"]
    first, last = own.get("patch_embedding.weight"), own.get("proj_out.weight")
    if first is None or last is None:
        return
    channels = last[0] // math.prod(first[2:])
    if first[1] != 2 * channels + 4 or "vace_patch_embedding.weight" in own:
        raise UserError(
            f"fill.base: {config.base} is no inpainting base (it takes {first[1]} channels, "
            f"{2 * channels + 4} are needed), which `recapture train` does not tune; choose a Wan2.1 Fun-InP "
            "base"
        )
