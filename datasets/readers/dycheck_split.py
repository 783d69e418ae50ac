"""The validation split of DyCheck's iPhone sequences: the pictures and co-visible masks that are scored.

splits/val.json lists the frames; they are at rgb/FACTORx and covisible/FACTORx/val, FACTOR from extra.json.
Pictures stay as they are stored: the published evaluation does not correct the lens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recapture.datasets.cameras.cameras import CameraFileError, read_bytes
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.natural_order import natural
from recapture.datasets.media.pictures import LARGEST, PictureError, read_picture
from recapture.datasets.readers.layout_files import read_mask


@dataclass(frozen=True)
class ValidationView:
    """The scored frames of one camera, in the order of their times."""

    camera: str
    pictures: tuple[str, ...]
    masks: tuple[str, ...]

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each picture uint8 [H, W, 3] and its mask bool [H, W]; raises ClipError if one is broken."""
        for picture, mask in zip(self.pictures, self.masks):
            try:
                pixels, seen = read_picture(picture), read_mask(0, mask, LARGEST)
            except (OSError, PictureError) as error:
                raise ClipError(f"{error}; unpack the whole sequence") from error
            if seen.shape != pixels.shape[:2]:
                raise ClipError(f"mask {mask!r} is {seen.shape}, its picture {pixels.shape[:2]}; replace it")
            yield pixels, seen


def validation_views(sequence: str) -> list[ValidationView]:
    """Return the views that a sequence's validation split names; raises ClipError if it cannot be read."""
    listed = _stated(f"{sequence}/splits/val.json", "frame_names")
    factor = _stated(f"{sequence}/extra.json", "factor")
    if not isinstance(factor, int) or not isinstance(listed, list) or not listed:
        raise ClipError(f"{sequence!r}: frame_names of splits/val.json or factor of extra.json is wrong")
    cameras: dict[str, list[str]] = {}
    for name in sorted(map(str, listed), key=natural):
        cameras.setdefault(name.split("_")[0], []).append(name)
    return [
        ValidationView(
            camera,
            tuple(f"{sequence}/rgb/{factor}x/{name}.png" for name in names),
            tuple(f"{sequence}/covisible/{factor}x/val/{name}.png" for name in names),
        )
        for camera, names in cameras.items()
    ]


def _stated(file: str, key: str) -> Any:
    try:
        return json.loads(read_bytes(file))[key]
    except (OSError, CameraFileError, ValueError, KeyError, TypeError) as error:
        raise ClipError(
            f"{file!r} does not state {key} ({type(error).__name__}); unpack the whole sequence"
        ) from error
