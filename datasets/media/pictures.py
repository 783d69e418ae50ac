"""Read a folder of pictures as a video: frames in natural order, at the rate in fps.txt."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO

import fsspec
import numpy as np
from PIL import Image, ImageOps

from recapture.conf.heartbeat import beat
from recapture.datasets.media.containers import LARGEST_FRAME
from recapture.datasets.media.natural_order import natural
from recapture.datasets.media.video import VideoInfo

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LARGEST = LARGEST_FRAME
FRAMES_PER_SECOND = Fraction(24)  # of a folder of frames without fps.txt


class PictureError(ValueError):
    """A picture or a folder of pictures cannot be used; the message names it and the way out."""


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def list_pictures(uri: str) -> list[str]:
    """Return the pictures in a folder, in natural order."""
    fs, path = fsspec.core.url_to_fs(uri)
    names = [_name(entry) for entry in fs.ls(path, detail=False)]
    chosen = [name for name in names if name.lower().endswith(FRAME_SUFFIXES) and not name.startswith(".")]
    return [f"{uri}/{name}" for name in sorted(chosen, key=natural)]


def _picture_bytes(uri: str) -> bytes:
    beat()
    with fsspec.open(uri, "rb") as stream:
        return bytes(stream.read())


def _open_picture(uri: str, content: bytes, limit: int = LARGEST) -> Image.Image:
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            picture = Image.open(BytesIO(content))
    except Image.DecompressionBombError as error:
        raise PictureError(f"picture {uri!r} has more than {limit} pixels; make it smaller") from error
    except (OSError, SyntaxError) as error:
        raise PictureError(
            f"frame {uri!r} ({len(content)} bytes) is not a picture; replace or remove it"
        ) from error
    if picture.width * picture.height > limit:
        raise PictureError(
            f"picture {uri!r} is {picture.width}x{picture.height}, more than the {limit} pixels that it may "
            "have here; make it smaller"
        )
    return picture


def _check_shown(uri: str, picture: Image.Image) -> None:
    if picture.mode == "F":
        raise PictureError(
            f"frame {uri!r} is of floating point, whose white is not known; convert it to 8 or 16 bits"
        )


def probe_pictures(uri: str) -> tuple[VideoInfo, str]:
    """Return what a folder of frames holds, and the sha256 over the bytes of all frames and the frame rate.

    Raises: PictureError for a file that is not a picture, sizes that differ, or an invalid rate.
    """
    return probe_files(list_pictures(uri), frame_rate(uri))


def probe_files(pictures: Sequence[str], fps: Fraction) -> tuple[VideoInfo, str]:
    """Do as probe_pictures for these files in this order, at this rate."""
    digest, size = hashlib.sha256(), (0, 0)
    for index, picture_uri in enumerate(pictures):
        content = _picture_bytes(picture_uri)
        digest.update(hashlib.sha256(content).digest())
        with _open_picture(picture_uri, content) as picture:
            _check_shown(picture_uri, picture)
            # 5 to 8 are the EXIF orientations that swap the sides; Pillow has done so for TIFF.
            turned = picture.getexif().get(0x0112, 1) >= 5 and picture.format != "TIFF"
            shape = picture.size[::-1] if turned else picture.size
        if index and shape != size:
            raise PictureError(
                f"frame {picture_uri!r} is {shape[0]}x{shape[1]}, the first one is {size[0]}x{size[1]}; "
                "make all frames one size"
            )
        size = shape
    digest.update(str(fps).encode())
    frames = len(pictures)
    found = VideoInfo(fps, frames, size[0], size[1], float(frames / fps), audio=False)
    return found, digest.hexdigest()


def frame_rate(uri: str) -> Fraction:
    """Return the rate in the fps.txt of a folder, 24 without it; raises PictureError if it is invalid."""
    fs, path = fsspec.core.url_to_fs(f"{uri}/fps.txt")
    if not fs.exists(path):
        return FRAMES_PER_SECOND
    text = fs.cat_file(path).decode(errors="replace").strip()
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= 1000:
        raise PictureError(f"fps.txt says {text[:40]!r}; write a rate such as 24 or 30000/1001")
    return fps


def iterate_pictures(uri: str, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Yield frames start to stop-1 of a folder, in natural order, as uint8 RGB [H, W, 3].

    Raises: PictureError for a picture that cannot be decoded.
    """
    for picture_uri in list_pictures(uri)[start:stop]:
        yield read_picture(picture_uri)


def read_picture(uri: str, limit: int = LARGEST) -> np.ndarray:
    """Return a picture as uint8 RGB [H, W, 3], rotated as its EXIF data says, transparency over black.

    limit: the most pixels that it may have. Raises: PictureError for a picture that cannot be decoded.
    """
    content = _picture_bytes(uri)
    try:
        with _open_picture(uri, content, limit) as picture:
            _check_shown(uri, picture)
            return _rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError) as error:
        raise PictureError(f"frame {uri!r} cannot be decoded ({error}); replace it") from error


def read_map(uri: str, limit: int = LARGEST) -> np.ndarray:
    """Return a picture of numbers (depth, ids, a mask) as stored: [H, W], or [H, W, C] if it has channels.

    A palette image gives its indices. limit: the most pixels that it may have.
    Raises: PictureError for a picture that cannot be decoded.
    """
    content = _picture_bytes(uri)
    try:
        with _open_picture(uri, content, limit) as picture:
            return np.array(picture)
    except (OSError, SyntaxError) as error:
        raise PictureError(f"map {uri!r} cannot be decoded ({error}); replace it") from error


def _rgb(picture: Image.Image) -> np.ndarray:
    if (
        picture.mode.startswith("I;16") or picture.mode == "I"
    ):  # 16-bit greys, which Pillow would cut off at 255
        grey = np.array(picture).astype(np.float64) / 257
        return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return np.array(Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB"))
    return np.array(picture.convert("RGB"))
