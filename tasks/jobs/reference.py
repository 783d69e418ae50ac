"""The reference picture that a VACE base is shown beside each window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.fill import FillConfig
from recapture.datasets.media.pictures import PictureError, read_picture
from recapture.models.fill.view import SourceView
from recapture.tasks.clip.base_shapes import base_shapes
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.engine.model_revision import file_revision, once

SOURCE = "source"
VACE = "vace_patch_embedding.weight"


def check_reference(config: FillConfig) -> None:
    """Raise UserError for a reference that cannot be read, or that the base does not take."""
    if config.reference is None:
        return
    if config.method == "classical" or VACE not in base_shapes(config)["transformer"]:
        base = "fill.method classical" if config.method == "classical" else f"fill.base {config.base}"
        raise UserError(
            f"fill.reference is for VACE bases, and {base} is none; name a VACE base in fill.base, or unset "
            "fill.reference"
        )
    Reference(config, torch.device("cpu"))


def reference_identity(config: FillConfig) -> dict[str, Any]:
    """Return what a fill depends on by its reference; nothing without one."""
    reference = config.reference
    if reference is None or reference == SOURCE:
        return {} if reference is None else {"reference": SOURCE}
    return {"reference": once(("reference", reference), lambda: file_revision(reference))}


class Reference:
    """The reference of a job's windows."""

    def __init__(self, config: FillConfig, device: torch.device) -> None:
        self._config, self._picture = config, None
        if config.reference not in (None, SOURCE):
            try:
                picture = read_picture(str(config.reference))
            except (PictureError, OSError) as error:
                raise UserError(
                    f"fill.reference {config.reference!r} cannot be read: {error}; name a picture, or source"
                ) from error
            self._picture = to_video(picture[None], device)[0]

    def of(self, source: SourceView) -> Tensor | None:
        """Return the reference [3, h, w] of a window, made of this source; None without one."""
        if self._config.reference == SOURCE:
            return source.video[int(source.source_frame[0])]
        return self._picture
