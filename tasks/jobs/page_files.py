"""What the results page shows of one result: its pictures in one video, so that they are always in step.

The video is small (`deliver.page_side`), in a format that every browser plays, whatever the result's is.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from PIL import Image

from recapture.conf.deliver import DeliverConfig
from recapture.datasets.media.encoding import Encoding
from recapture.datasets.media.video import VideoWriter, video_writer
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.metrics.seam_step import seam_step
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.clip.source_cameras import read_cameras

VIDEO, POSTER, DATA = "page.mp4", "page.jpg", "page.js"
ENCODING = Encoding(crf=22, preset="superfast")
BLOCK = 16  # cells are whole macroblocks, or pictures would shine through into their neighbours
POSTER_SIDE, POSES = 320, 400


class PageFiles:
    """Takes the pictures of each frame; use `page_files`."""

    def __init__(self, video: VideoWriter, kinds: Sequence[str], size: tuple[int, int], side: int) -> None:
        """kinds: of pictures, the largest shown first. size: height and width that pictures have."""
        self.kinds = tuple(kinds)
        scale = min(1.0, side / max(size))
        self.height, self.width = (max(2, round(length * scale)) for length in size)
        self.columns = math.ceil(math.sqrt(len(kinds)))
        self.cell = self.height + -self.height % BLOCK, self.width + -self.width % BLOCK
        self.poster, self.seams, self.frames = b"", list[float](), 0
        self._video, self._shown = video, list[np.ndarray]()

    def add(self, pictures: Mapping[str, np.ndarray], poster: bool) -> None:
        """Take a frame: kind -> uint8 [h,w,3], visible bool [h,w]; poster: its picture stands for all."""
        cells = [self._cell(pictures[kind]) for kind in self.kinds]
        cells += [np.zeros_like(cells[0])] * (-len(cells) % self.columns)
        rows = [np.hstack(cells[at : at + self.columns]) for at in range(0, len(cells), self.columns)]
        self._video.add(np.vstack(rows))
        if "result" in self.kinds:
            self.seams.append(seam_step(pictures["result"], pictures["visible"]))
        if poster:
            self.poster = _jpeg(pictures[self.kinds[0]])
        self.frames += 1

    def _cell(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture of the video's size, its last row and column repeated to whole macroblocks."""
        if picture.ndim == 2:
            picture = np.repeat(np.where(picture, np.uint8(0), np.uint8(255))[..., None], 3, axis=2)
        if picture.shape[:2] != (self.height, self.width):
            picture = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)
        more = [(0, cell - side) for cell, side in zip(self.cell, picture.shape)]
        return np.pad(picture, [*more, (0, 0)], mode="edge")


@contextmanager
def page_files(
    config: DeliverConfig,
    output: ArtifactWriter,
    params: ClipParams,
    inputs: Mapping[str, Artifact],
    kinds: Sequence[str],
) -> Iterator[PageFiles | None]:
    """Write page.mp4, page.jpg and page.js of a result at the end of the context, if the page is wanted."""
    if not config.page:
        yield None
        return
    ingest = inputs["ingest"]
    fps = Fraction(ingest.meta["fps"])
    with (
        output.local_file(VIDEO) as target,
        video_writer(target, fps, encoding=ENCODING) as video,
    ):
        files = PageFiles(video, kinds, ingest.meta["content"], config.page_side)
        yield files
    output.write_bytes(POSTER, files.poster)
    data = {
        "clip": params.clip_id,
        "label": params.label,
        "fps": float(fps),
        "frames": files.frames,
        "kinds": files.kinds,
        "columns": files.columns,
        "size": [files.width, files.height],
        "cell": [files.cell[1], files.cell[0]],
        "of": list(ingest.meta["content"])[::-1],
        "holes": _rounded(inputs["render"].read_npz("per_frame.npz")["hole_share"]),
        "seams": _rounded(files.seams),
        "cameras": _cameras(inputs),
    }
    output.write_bytes(DATA, f"recapturePage({in_script(data)});\n".encode())


def in_script(value: Any) -> str:
    """Return a value as JSON that may stand in a script of an HTML page."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cameras(inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return positions and viewing directions of both paths at up to POSES frames, in pivot depths."""
    render = inputs["render"]
    path = render.read_npz("cameras.npz")
    frames = np.unique(np.linspace(0, len(path["source_frame"]) - 1, POSES).round().astype(int))
    source = read_cameras(inputs)["world_to_camera"][path["source_frame"]]
    found: dict[str, Any] = {"frames": frames.tolist()}
    for name, poses in (("source", source), ("result", path["world_to_camera"])):
        rotation = poses[frames, :3, :3].transpose(0, 2, 1)
        centre = -np.einsum("tij,tj->ti", rotation, poses[frames, :3, 3]) / render.meta["pivot_depth"]
        found[name] = {
            "at": [_rounded(row) for row in centre],
            "looks": [_rounded(row) for row in rotation[:, :, 2]],
        }
    return found


def _rounded(values: Sequence[float] | np.ndarray) -> list[float | None]:
    return [round(float(one), 4) if math.isfinite(one) else None for one in values]


def _jpeg(picture: np.ndarray) -> bytes:
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((POSTER_SIDE, POSTER_SIDE), Image.Resampling.LANCZOS)
    image.save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()
