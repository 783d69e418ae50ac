"""Depth: z-depth of every frame at the working size, consistent over the clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.schema import DepthConfig
from recapture.conf.turn import turn
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.depth.alignment import Kind, Scale, align_depth, check_depth
from recapture.models.depth.edges import SharpEdges
from recapture.models.depth.load import DepthModel, check_depth_model, open_depth_model
from recapture.models.depth.video import VideoSettings
from recapture.models.depth.video_load import is_pipeline_directory
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.depth_units import GIVEN
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.engine.model_revision import model_path, model_revision, once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.depth_scale import DepthOfCameras
from recapture.tasks.jobs.given_depth import CHUNK, given_depth, usable_pixels

# Bits of a float's mantissa. PSNR of renders from rounded against exact depth, where both see a surface, and
# share of pixels of which only one does (three frames of a sample clip at 480x832, orbit of 20 degrees):
# 10 bits (float16) 55.9 dB, 0.06 %; 13 bits 70.3 dB, 0.006 %; 16 bits 79.5 dB, 0.001 %.
MANTISSA = 13


@dataclass
class DepthStage(ClipStage):
    """Write depth float32 [T,H,W] and known bool [T,H,W] (False where depth is unusable).

    Given depth is stored as it is. A model's is sharpened at its edges (see models/depth/edges.py), and
    MANTISSA bits of it are kept (a relative error of 2^-14 at most).

    meta.pivot_depth is the median depth of the middle of the first frame: trajectories turn about that point.
    meta.depth_units says whether depth has the units of the clip's cameras: see tasks/clip/depth_units.py.
    """

    config: DepthConfig
    name: ClassVar[str] = "depth"
    version: ClassVar[str] = "4"
    parents: ClassVar[tuple[str, ...]] = ("ingest",)

    seed: int = 0  # of a video model's noise

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        source = depth_source(self.config, params.clip)
        return once(("depth settings", self.config, source), lambda: keyed_depth(self.config, source))

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        source = depth_source(self.config, params.clip)
        if source != "model":
            return {"source": source, "model": None}
        identity = {"source": source, "model": model_revision("depth.model", self.config.model)}
        once(("depth model", self.config.model, self.config.prediction), lambda: refuse_unusable(self.config))
        return identity | {"seed": self.seed} if of_whole_videos(self.config) else identity

    def check_inputs(self, params: ClipParams) -> None:
        if depth_source(self.config, params.clip) == "given":
            check_clip(params.clip)

    def setup(self) -> None:
        self._model = None
        if self.config.source != "given":
            self._model = depth_model(self.config, stage_device(self.resources.gpus), self.seed)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        ingest, opened = inputs["ingest"], open_clip(clip)  # once: a sidecar is read in one pass
        height, width = ingest.meta["content"]
        source = depth_source(self.config, clip)
        matched = None if source == "given" else self._matched(clip, ingest)
        chunks = given_depth(clip, ingest) if matched is None else matched.scaled(self._aligned(ingest))
        pivot_depth, unknown, frames = float("nan"), 0.0, 0
        kept = {} if matched is None else {"depth": MANTISSA}
        with output.frames(mantissa=kept) as writer:
            for chunk in chunks:
                depth, usable = check_depth(
                    chunk[:, :height, :width],
                    clip.id,
                    first_frame=frames,
                    max_unknown_share=self.config.max_unknown_share,
                )
                known = usable & usable_pixels(opened, ingest, frames, len(chunk))
                if frames == 0:
                    pivot_depth = middle_depth(depth[0], known[0])
                writer.append(
                    depth=_pad(depth.float(), ingest.meta["size"]), known=_pad(known, ingest.meta["size"])
                )
                frames += len(chunk)
                unknown += float((~known).double().mean()) * len(chunk)
        if frames != ingest.meta["frames"]:
            raise ValueError(
                f"clip {clip.id!r}: depth has {frames} frames where the video has {ingest.meta['frames']}; "
                f"give a depth file of the video's length, or set depth.source to 'model'"
            )
        output.meta.update(pivot_depth=pivot_depth, source=source, frames=frames)
        output.meta.update({"depth_units": GIVEN} if matched is None else matched.meta)
        found = {} if matched is None else matched.metrics
        return {"pivot_depth": pivot_depth, "unknown_share": unknown / frames, **found}

    def _matched(self, clip: Clip, ingest: Artifact) -> DepthOfCameras:
        assert self._model is not None
        return DepthOfCameras(clip.id, ingest, self._model.kind, match=self.config.match_cameras)

    def _aligned(self, ingest: Artifact) -> Iterator[Tensor]:
        model = self._model
        assert model is not None
        height, width = ingest.meta["content"]
        reader, state = ingest.frames(), None
        edges, shown = SharpEdges(self.config.edge_share), _Shown()
        scale = Scale(median_depth=self.config.median_depth)
        device = stage_device(self.resources.gpus)
        starts = range(0, reader.frames, CHUNK)
        read = (reader.read(start, min(start + CHUNK, reader.frames), ["rgb"])["rgb"] for start in starts)
        videos = (to_video(shown.keep(rgb[:, :height, :width]), device) for rgb in read)
        focal = None
        if ingest.meta["cameras_known"]:
            focal = torch.from_numpy(ingest.read_npz("cameras.npz")["intrinsics"][:, 0, 0] / width)
        for prediction in in_turns(model.predict(videos, focal)):
            depth, state = align_depth(
                prediction, model.kind, state, scale=scale, consistent=model.consistent
            )
            yield edges.sharpen(depth, to_video(shown.take(len(depth))))


class _Shown:
    """The frames that a model was given, kept until it has returned their depth."""

    def __init__(self) -> None:
        self._frames: deque[np.ndarray] = deque()

    def keep(self, rgb: np.ndarray) -> np.ndarray:
        """Take note of the next frames [t,h,w,3], and return them."""
        self._frames.extend(rgb)
        return rgb

    def take(self, count: int) -> np.ndarray:
        """Return the first frames that are kept, and forget them."""
        return np.stack([self._frames.popleft() for _ in range(count)])


def in_turns(predictions: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield predictions on the CPU; each is made in a turn on the device."""
    while True:
        with turn():
            found = next(predictions, None)
            if found is None:
                return
            found = found.cpu()
        yield found


def refuse_unusable(config: DepthConfig) -> None:
    """Raise UserError, before anything is made, if the model cannot be used."""
    try:
        check_depth_model(model_path("depth.model", config.model), stated_prediction(config))
    except ValueError as error:
        raise UserError(f"depth.model: {str(error).removeprefix('depth: ')}") from error


def stated_prediction(config: DepthConfig) -> Kind | None:
    """Return what the settings say that the model predicts; None: the model says it itself."""
    return None if config.prediction == "auto" else config.prediction


def depth_model(config: DepthConfig, device: torch.device, seed: int = 0) -> DepthModel:
    """Return the depth model that the configuration names; seed: of a video model's noise."""
    return open_depth_model(
        model_path("depth.model", config.model),
        str(device),
        kind=stated_prediction(config),
        batch=config.batch,
        dtype=getattr(torch, config.video.precision),
        video=VideoSettings(seed=seed, **config.video.model_dump(exclude={"precision"})),
    )


def of_whole_videos(config: DepthConfig) -> bool:
    """Return whether the model is a pipeline for whole videos."""
    question = ("pipeline", config.model)
    return once(question, lambda: is_pipeline_directory(model_path("depth.model", config.model)))


def keyed_depth(config: DepthConfig, source: str) -> dict[str, Any]:
    """Return the settings in the keys of depth from `source`."""
    return config.keyed_for(source, whole_videos=source == "model" and of_whole_videos(config))


def depth_source(config: DepthConfig, clip: Clip) -> str:
    """Return where a clip's depth comes from: given or model."""
    if config.source != "auto":
        return config.source
    if clip.depth_uri is not None or clip.kind == "scene":
        return "given"
    return "model"


def middle_depth(depth: Tensor, known: Tensor) -> float:
    """Return the median depth of the middle ninth of a frame [H,W]; of the whole frame if that is unknown."""
    height, width = depth.shape
    middle = (slice(height // 3, height - height // 3), slice(width // 3, width - width // 3))
    values = depth[middle][known[middle]]
    if not values.numel():
        values = depth[known]
    return float(values.median())


def _pad(array: Tensor, size: list[int]) -> np.ndarray:
    """Pad [T,h,w] with zeros (unknown) on the right and below to [T,H,W]."""
    padding = (0, size[1] - array.shape[2], 0, size[0] - array.shape[1])
    return torch.nn.functional.pad(array, padding).numpy()
