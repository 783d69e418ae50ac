"""A folder of pictures as a video: frames in natural order, at the rate that fps.txt says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO

import fsspec
import numpy as np
from PIL import Image, ImageOps

from recapture.datasets.clip_record import ClipError
from recapture.datasets.video import VideoInfo

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FRAMES_PER_SECOND = Fraction(24)  # of a folder of frames without fps.txt


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _pictures(uri: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(uri)
    names = [_name(entry) for entry in fs.ls(path, detail=False)]
    chosen = [name for name in names if name.lower().endswith(FRAME_SUFFIXES) and not name.startswith(".")]
    return [f"{uri}/{name}" for name in sorted(chosen, key=_natural)]


def _picture_bytes(uri: str) -> bytes:
    with fsspec.open(uri, "rb") as stream:
        return bytes(stream.read())


def _open_picture(uri: str, content: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(content))
    except OSError as error:
        raise ClipError(
            f"frame {uri!r} ({len(content)} bytes) is no picture; replace or remove it"
        ) from error


def probe_pictures(uri: str) -> tuple[VideoInfo, str]:
    """What a folder of frames holds, and the sha256 over the bytes of all of them and the frame rate.

    Raises: ClipError for a file that is no picture, sizes that differ, or a rate that is none.
    """
    digest, size = hashlib.sha256(), (0, 0)
    pictures = _pictures(uri)
    for index, picture_uri in enumerate(pictures):
        content = _picture_bytes(picture_uri)
        digest.update(hashlib.sha256(content).digest())
        with _open_picture(picture_uri, content) as picture:
            # 5 to 8 are the EXIF orientations that swap the sides.
            turned = picture.getexif().get(0x0112, 1) >= 5
            shape = picture.size[::-1] if turned else picture.size
        if index and shape != size:
            raise ClipError(
                f"frame {picture_uri!r} is {shape[0]}x{shape[1]}, the first one is {size[0]}x{size[1]}; "
                "give all frames one size"
            )
        size = shape
    fps = _frame_rate(uri)
    digest.update(str(fps).encode())
    frames = len(pictures)
    found = VideoInfo(fps, frames, size[0], size[1], float(frames / fps), audio=False)
    return found, digest.hexdigest()


def _frame_rate(uri: str) -> Fraction:
    fs, path = fsspec.core.url_to_fs(f"{uri}/fps.txt")
    if not fs.exists(path):
        return FRAMES_PER_SECOND
    text = fs.cat_file(path).decode(errors="replace").strip()
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= 1000:
        raise ClipError(f"fps.txt says {text[:40]!r}; write a rate such as 24 or 30000/1001")
    return fps


def iterate_pictures(uri: str, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Frames start..stop-1 of a folder, in natural order, as uint8 RGB [H, W, 3], one at a time.

    Raises: ClipError for a picture that cannot be decoded.
    """
    for picture_uri in _pictures(uri)[start:stop]:
        content = _picture_bytes(picture_uri)
        try:
            with _open_picture(picture_uri, content) as picture:
                yield np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise ClipError(f"frame {picture_uri!r} cannot be decoded ({error}); replace it") from error
