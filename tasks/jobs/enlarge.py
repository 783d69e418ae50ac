"""Enlarge: the result at the clip's own size, its known pixels rendered from the clip's own frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.fill import FillConfig
from recapture.conf.schema import RenderConfig
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.depth.enlarge import enlarge_depth, enlarge_video
from recapture.models.fill.compositing import Compositing, kept_pixels
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.cameras import scale_intrinsics
from recapture.models.geometry.rasterize import render
from recapture.tasks.clip.clip_frames import ClipFrames
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video
from recapture.tasks.clip.scene_reader import path_of, read_depth, read_frames
from recapture.tasks.clip.source_cameras import read_cameras
from recapture.tasks.engine.stage import NO_SETTINGS, Item
from recapture.tasks.jobs.render import MANTISSA, surface_settings

FRAMES = 8  # rendered at once, and stored in one file: of 1080p, 1 GB
COMPOSITED = 1  # frames composited at once: more fit worse what is beside a hole


@dataclass
class EnlargeStage(ClipStage):
    """Write the result at the clip's own size: rgb uint8 [T,H,W,3], known bool, depth float32 [T,H,W].

    The clip's frames are rendered along the path at full size, with the depth of the working size enlarged
    along the edges of the picture. The fill, as it was composited, is enlarged; both are composited as
    fill.compositing says, frame by frame. known: where the result is the render. depth: inf in holes.
    """

    config: FillConfig
    render: RenderConfig
    name: ClassVar[str] = "enlarge"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras", "render", "fill")
    per_trajectory: ClassVar[bool] = True

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return NO_SETTINGS  # those of render and fill are in their keys

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"size": [params.clip.height, params.clip.width]}

    def check_inputs(self, params: ClipParams) -> None:
        check_clip(params.clip)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, path = item.params.clip, path_of(inputs["render"])
        frames, source = ClipFrames(clip), _FullSize(inputs, path, (clip.height, clip.width))
        count, known = len(path["source_frame"]), 0.0
        with output.frames(chunk=FRAMES, mantissa={"depth": MANTISSA["depth"]}) as writer:
            for start in range(0, count, FRAMES):
                picked = np.arange(start, min(start + FRAMES, count))
                shown = path["source_frame"][start : start + FRAMES].numpy()
                pictures = frames.read(shown + inputs["ingest"].meta["first_frame"])
                made = self._enlarged(source, inputs, picked, pictures)
                known += float(made["known"].sum(dtype=np.int64))
                writer.append(**made)
        output.meta.update(frames=count, size=[clip.height, clip.width])
        return {"known_share": known / (count * clip.height * clip.width)}

    def _enlarged(
        self, source: _FullSize, inputs: Mapping[str, Artifact], picked: np.ndarray, pictures: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the arrays of the frames `picked` [t] of the path, which show the pictures [t,H,W,3]."""
        device = stage_device(self.resources.gpus)
        read = source.read(picked)
        filled = read_filled(inputs["fill"], inputs["render"], picked)["rgb"]
        height, width = inputs["ingest"].meta["content"]
        with turn():
            view, shown = source.view(read, picked, to_video(pictures, device), self.render)
            large = enlarge_video(to_video(filled[:, :height, :width], device), source.size)
            kept = kept_pixels(view, view, shown)
            composite = Compositing(self.config.compositing, self.config.feathered)
            parts = zip(*(one.split(COMPOSITED) for one in (large, view.video, kept)))
            rgb = np.concatenate([to_frames(composite(*part)) for part in parts])
            known = kept.cpu().numpy() & (rgb == to_frames(view.video)).all(-1)
            return {"rgb": rgb, "known": known, "depth": view.depth.float().cpu().numpy()}


class _FullSize:
    """Renders frames of a clip at its own size."""

    def __init__(
        self, inputs: Mapping[str, Artifact], path: Mapping[str, Tensor], size: tuple[int, int]
    ) -> None:
        self._inputs, self.size, ingest = inputs, size, inputs["ingest"]
        self._content = ingest.meta["content"]
        scale = size[1] / self._content[1], size[0] / self._content[0]
        cameras = {name: torch.from_numpy(array) for name, array in read_cameras(inputs).items()}
        self._pose = cameras["world_to_camera"]
        self._lens = scale_intrinsics(cameras["intrinsics"], *scale)
        self._path = {**path, "intrinsics": scale_intrinsics(path["intrinsics"], *scale)}

    def read(self, picked: np.ndarray) -> dict[str, np.ndarray]:
        """Return rgb, depth and known of the source at the working size, cut to its content."""
        shown = self._path["source_frame"][picked].numpy()
        arrays = read_frames(self._inputs["ingest"], shown, ["rgb"])
        arrays |= read_depth(self._inputs, shown)
        return {name: array[:, : self._content[0], : self._content[1]] for name, array in arrays.items()}

    def view(
        self, read: Mapping[str, np.ndarray], picked: np.ndarray, video: Tensor, config: RenderConfig
    ) -> tuple[RenderedView, SourceView]:
        """Return the view at the frames `picked` [t] of the path, and the source frames that it shows."""
        device, shown = video.device, self._path["source_frame"][picked]
        depth = torch.from_numpy(np.where(read["known"], read["depth"], 0.0)).to(device)
        small = to_video(read["rgb"], device)
        parts = zip(depth.split(1), small.split(1), video.split(1))
        large = torch.cat(
            [enlarge_depth(*one, config.break_ratio) for one in parts]
        )  # less memory one by one
        source = SourceView(
            video,
            large,
            large > 0,
            self._lens[shown].to(device),
            self._pose[shown].to(device),
            torch.arange(len(shown)),
        )
        target = [self._path[name][picked].to(device) for name in ("intrinsics", "world_to_camera")]
        given = (source.intrinsics.float(), source.world_to_camera.double())
        made = render(
            video,
            large,
            *given,
            target[0].float(),
            target[1].double(),
            surface=surface_settings(config),
            size=self.size,
            known=source.known,
        )
        return RenderedView(made.video, made.visible, made.depth, made.stretch, *target), source
