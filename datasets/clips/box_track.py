"""Box tracks: a box that follows something through a clip, as key frames in a JSON or CSV file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math

import fsspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from recapture.datasets.clips.clip import Clip, ClipError


class Box(BaseModel):
    """A box in pixels of the clip: it covers x to x+w and y to y+h, where pixel 0 covers 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frame: int = Field(ge=0)
    x: float
    y: float
    w: float = Field(ge=0)
    h: float = Field(ge=0)


_BOXES = TypeAdapter(list[Box])


def read_box_track(uri: str, clip: Clip) -> list[Box]:
    """Read a track's key frames in order: a JSON list of {frame, x, y, w, h}, or CSV with that header.

    Raises: ClipError for a file that is not a track, an empty one, two boxes at one frame, or a frame past
    the clip's end.
    """
    where = f"clip {clip.id!r}: box track {uri!r}"
    try:
        with fsspec.open(uri, "rb") as stream:
            text = stream.read().decode("utf-8-sig")
        rows = json.loads(text) if uri.lower().endswith(".json") else list(csv.DictReader(io.StringIO(text)))
        boxes = sorted(_BOXES.validate_python(rows), key=lambda box: box.frame)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ClipError(f"{where}: {place}: {first['msg']}; a box has frame, x, y, w, h") from error
    except ValueError as error:
        raise ClipError(f"{where} cannot be read ({error}); write JSON or CSV as UTF-8") from error
    if not boxes:
        raise ClipError(f"{where} is empty; give at least one box, or leave the clip out")
    for before, after in itertools.pairwise(boxes):
        if before.frame == after.frame:
            raise ClipError(f"{where} has two boxes at frame {after.frame}; keep one of them")
    if boxes[-1].frame >= clip.frames:
        raise ClipError(f"{where} has frame {boxes[-1].frame}, but the clip ends at {clip.frames - 1}")
    return boxes


def boxes_at(track: list[Box], frames: np.ndarray) -> np.ndarray:
    """Return x, y, w, h [T,4] at frames [T]: linear between key frames, constant before and after them."""
    keys = [box.frame for box in track]
    return np.stack(
        [np.interp(frames, keys, [getattr(box, side) for box in track]) for side in ("x", "y", "w", "h")],
        axis=1,
    )


def box_pixels(box: np.ndarray, clip: Clip, height: int, width: int) -> np.ndarray:
    """Return which pixels [height,width] of the scaled clip a box x, y, w, h in its own pixels touches."""
    x, y, w, h = (float(value) for value in box)
    touched = np.zeros((height, width), dtype=bool)
    if w > 0 and h > 0:
        across, down = width / clip.width, height / clip.height
        rows = slice(max(0, math.floor(y * down)), max(0, math.ceil((y + h) * down)))
        columns = slice(max(0, math.floor(x * across)), max(0, math.ceil((x + w) * across)))
        touched[rows, columns] = True
    return touched
