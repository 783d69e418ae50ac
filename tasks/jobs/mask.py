"""Mask: a clip as if what is to be redrawn had never been filmed, on the canvas of the result.

Stages behind the mask read this instead of the clip and its depth, so that neither a new camera nor pixels
seen in other frames can bring a masked pixel back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch

from recapture.conf.mask import MaskConfig, OutpaintConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.clips.edit_masks import (
    check_aspect,
    find_first_frame,
    find_mask,
    mask_hash,
    read_edit_mask,
    shrink,
)
from recapture.datasets.media.pictures import read_picture
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.geometry.cameras import shift_intrinsics
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.scene_reader import read_depth, read_frames
from recapture.tasks.clip.source_cameras import cameras_known, from_pictures, pivot_depth, read_cameras
from recapture.tasks.clip.working_size import WorkingSize, to_working_size, working_size
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.select import SELECT, selected_frames

CHUNK = 16
GREY = 128
RING = np.ones((3, 3), dtype=np.uint8)  # corners included: sampling is bilinear


@dataclass(frozen=True)
class Canvas:
    """The position of a clip's content [height,width] in the requested picture, and its padding."""

    height: int
    width: int
    left: int
    top: int
    size: WorkingSize

    @classmethod
    def of(cls, content: Sequence[int], margins: OutpaintConfig) -> Canvas:
        """Return (height, width) with margins in whole pixels, padded right and below to multiples of 16."""
        height, width = content
        left, right = round(margins.left * width), round(margins.right * width)
        top, bottom = round(margins.top * height), round(margins.bottom * height)
        size = working_size(height + top + bottom, width + left + right, None)
        return cls(height, width, left, top, size)

    def place(self, frames: np.ndarray, margin: Any, padding: Any = None) -> np.ndarray:
        """Place [t,h,w] or [t,h,w,C] on the canvas; `padding` of None repeats the canvas' edge."""
        content = frames[:, : self.height, : self.width]
        size = self.size
        shape = (len(content), size.content_height, size.content_width, *content.shape[3:])
        placed = np.full(shape, margin, dtype=content.dtype)
        placed[:, self.top : self.top + self.height, self.left : self.left + self.width] = content
        sides = [(0, 0), (0, size.height - size.content_height), (0, size.width - size.content_width)]
        sides += [(0, 0)] * (content.ndim - 3)
        if padding is None:
            return np.pad(placed, sides, mode="edge")
        return np.pad(placed, sides, constant_values=padding)


@dataclass
class MaskStage(ClipStage):
    """Write the arrays of ingest and depth on the canvas of the result, with the edit as unknown.

    Per frame: rgb uint8 [T,H,W,3] (the source; grey in margins), edit bool [T,H,W] (True: to be redrawn),
    depth float32 [T,H,W], known bool [T,H,W]. known excludes a ring of one pixel around the edit: a renderer
    samples up to half a pixel beyond what is known. If something new is to replace the edit, also
    replaced bool [T,H,W], the edit without margins, and lifted bool [T,H,W], the edit before dilation: the
    object that occludes the view of a new camera. depth is then 0 where it was not known.
    cameras.npz: the source's cameras, shifted by the margins.
    """

    config: MaskConfig
    name: ClassVar[str] = "mask"
    version: ClassVar[str] = "3"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras")

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        finders = {"uri": find_mask, "first_frame": find_first_frame}
        files = {
            setting: _hash_or_none(finder, getattr(self.config, setting), params.clip)
            for setting, finder in finders.items()
        }
        return {**files, "replaces": True} if self.config.replaces else files

    @property
    def places(self) -> Sequence[str]:
        return [uri for uri in (self.config.uri, self.config.first_frame) if uri is not None]

    def check_inputs(self, params: ClipParams) -> None:
        if self.config.objects:  # read from the clip's own maps
            check_clip(params.clip)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        ingest, depth = inputs["ingest"], inputs["depth"]
        canvas = Canvas.of(ingest.meta["content"], self.config.outpaint)
        edits = self._edits(clip, inputs)
        side = 2 * self.config.dilate + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        shares = []
        with output.frames() as writer:
            for start in range(0, ingest.meta["frames"], CHUNK):
                frames = np.arange(start, min(start + CHUNK, ingest.meta["frames"]))
                source = read_frames(ingest, frames) | read_depth(inputs, frames)
                core = np.stack([_next(edits, clip) for _ in frames])
                edit = _grown(core, disc)
                if start == 0 and self._first_frame_is_known:
                    edit[0] = core[0] = False
                if start == 0 and self.config.first_frame is not None:
                    source["rgb"][0] = self._first_frame(clip, ingest)
                placed = canvas.place(edit, True)
                content = placed[:, : canvas.size.content_height, : canvas.size.content_width]
                shares.append(content.mean(axis=(1, 2)))
                replaced = {}
                if self.config.replaces:
                    replaced["replaced"] = canvas.place(edit, False, False)
                    replaced["lifted"] = canvas.place(core, False, False)
                    source["depth"] = np.where(source["known"], source["depth"], np.float32(0.0))
                writer.append(
                    **replaced,
                    rgb=canvas.place(source["rgb"], GREY),
                    edit=placed,
                    depth=canvas.place(source["depth"], 0.0, 0.0),
                    known=canvas.place(source["known"], False, False) & ~_grown(placed, RING),
                )
        cameras = read_cameras(inputs)
        cameras.pop("depth_gain", None)  # the depth above has it
        shifted = shift_intrinsics(torch.from_numpy(cameras["intrinsics"]), canvas.left, canvas.top)
        output.write_npz("cameras.npz", **(cameras | {"intrinsics": shifted.numpy()}))
        size = canvas.size
        output.meta.update(ingest.meta | depth.meta)
        output.meta.update(pivot_depth=pivot_depth(inputs), cameras_known=cameras_known(inputs))
        if from_pictures(inputs):
            output.meta.update(estimated=True)
        output.meta.update(content=[size.content_height, size.content_width], size=[size.height, size.width])
        share = np.concatenate(shares)
        return {"edit_share": float(share.mean()), "edit_share_max": float(share.max())}

    @property
    def _first_frame_is_known(self) -> bool:
        return self.config.keep_first_frame or self.config.first_frame is not None

    def _edits(self, clip: Clip, inputs: Mapping[str, Artifact]) -> Iterator[np.ndarray]:
        """Yield [height,width] bool of each ingested frame: mask, objects and selection together."""
        ingest = inputs["ingest"]
        height, width = ingest.meta["content"]
        first, count = ingest.meta["first_frame"], ingest.meta["frames"]
        wanted = range(first, first + count)
        sources = []
        if self.config.uri is not None:
            stored = find_mask(self.config.uri, clip)
            threshold, invert = self.config.threshold, self.config.invert
            sources.append(
                read_edit_mask(stored, clip, wanted, height, width, threshold=threshold, invert=invert)
            )
        if self.config.objects:
            sources.append(_objects(self.config.objects, clip, wanted, height, width))
        if SELECT in inputs:
            sources.append(_selected(inputs[SELECT], count))
        if not sources:
            yield from (np.zeros((height, width), dtype=bool) for _ in wanted)
        for parts in zip(*sources):
            yield np.logical_or.reduce(parts)

    def _first_frame(self, clip: Clip, ingest: Artifact) -> np.ndarray:
        assert self.config.first_frame is not None
        uri = find_first_frame(self.config.first_frame, clip)
        try:
            picture = read_picture(uri)
        except (OSError, ValueError) as error:
            raise ValueError(f"clip {clip.id!r}: mask.first_frame: {error}") from error
        check_aspect(clip, picture, f"mask.first_frame {uri!r}")
        return to_working_size(picture, WorkingSize(*ingest.meta["content"], *ingest.meta["size"]))


def _selected(artifact: Artifact, count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, CHUNK):
        yield from selected_frames(artifact, start, min(start + CHUNK, count))


def _objects(
    ids: tuple[int, ...] | Literal["all"], clip: Clip, wanted: range, height: int, width: int
) -> Iterator[np.ndarray]:
    source = open_clip(clip)
    for start in range(wanted.start, wanted.stop, CHUNK):
        objects = source.objects(start, min(start + CHUNK, wanted.stop))
        if objects is None:
            raise ValueError(
                f"clip {clip.id!r}: mask.objects is {ids}, but it has no object maps; set mask.uri "
                "or mask.select"
            )
        for one in objects:
            yield shrink(one > 0 if ids == "all" else np.isin(one, ids), height, width)


def _grown(edit: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return [t,h,w] bool with each frame dilated by a shape [n,n] uint8."""
    return np.stack([cv2.dilate(one.astype(np.uint8), shape) > 0 for one in edit])


def _next(edits: Iterator[np.ndarray], clip: Clip) -> np.ndarray:
    edit = next(edits, None)
    if edit is None:
        raise ValueError(f"clip {clip.id!r}: its mask has fewer frames than the clip; write the mask again")
    return edit


def _hash_or_none(find: Callable[[str, Clip], str], uri: str | None, clip: Clip) -> str | None:
    """Return the hash of a clip's file below uri; None if it is unreadable, which the stage then reports."""
    try:
        return None if uri is None else mask_hash(find(uri, clip))
    except (OSError, ValueError):
        return None
