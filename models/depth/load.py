"""Which kind of depth model a directory holds, and that model."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from recapture.models.depth.alignment import Kind
from recapture.models.depth.estimator import DepthEstimator, stated_kind
from recapture.models.depth.foreign import read_config
from recapture.models.depth.video import DEPTH_CRAFTER, VideoDepthEstimator, VideoSettings
from recapture.models.depth.video_load import is_pipeline_directory


class DepthModel(Protocol):
    """What every depth model offers; its predictions go to `align_depth`."""

    @property
    def kind(self) -> Kind:
        """Return what is predicted."""
        ...

    @property
    def consistent(self) -> bool:
        """Return whether all frames of a clip share one scale and shift."""
        ...

    def predict(self, chunks: Iterable[Tensor], focal: Tensor | None = None) -> Iterator[Tensor]:
        """Predict [t', H, W] of a clip that comes in chunks [t, 3, H, W] in [-1, 1], in order.

        focal: [T] focal lengths of the whole clip as shares of the frames' width; None: unknown.
        """
        ...

    def estimate(self, video: Tensor) -> Tensor:
        """Predict [T, H, W] for one clip [T, 3, H, W] in [-1, 1]."""
        ...


def open_depth_model(
    model_dir: str,
    device: str = "cpu",
    *,
    kind: Kind | None = None,
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
    video: VideoSettings = DEPTH_CRAFTER,
) -> DepthModel:
    """Open the depth model in a local directory.

    A directory with a model_index.json is a diffusers pipeline, applied to whole videos (`dtype` and `video`
    are for it alone); any other is a transformers model, applied frame by frame.
    """
    if is_pipeline_directory(model_dir):
        return VideoDepthEstimator(model_dir, device, kind=kind, batch=batch, dtype=dtype, settings=video)
    return DepthEstimator(model_dir, device, kind=kind, batch=batch)


def check_depth_model(model_dir: str, kind: Kind | None = None) -> None:
    """Raise ValueError, naming the way out, if a directory is known not to be usable; loads no weights."""
    if is_pipeline_directory(model_dir):
        return
    if kind is None:
        stated_kind(model_dir)
    else:
        read_config(model_dir)
