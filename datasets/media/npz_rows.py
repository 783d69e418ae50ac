"""Read rows of an array in an npz file in order, without loading the rest."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import IO

import fsspec
import numpy as np
from numpy.lib import format as npy

from recapture.conf.heartbeat import beat

_SKIP = 1 << 20
_NUMBERS = "buif"  # kinds of dtypes: bool, unsigned, int, float


class NpzError(ValueError):
    """An npz file cannot be read; the message names it, the array and the way out."""


class NpzRows:
    """One array [T, ...] of an npz file, opened once: reading its rows in order is one pass over the file."""

    def __init__(self, uri: str, name: str) -> None:
        """Open the array. Raises NpzError for a missing or damaged file or array, or what is no numbers."""
        self._uri, self._name = uri, name
        self._files = ExitStack()
        self._open()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop-1; memory use is that of these rows. Going back opens the file again.

        Raises: NpzError if the array ends early.
        """
        stop = min(stop, self.shape[0])
        start = min(start, stop)
        row = math.prod(self.shape[1:]) * self._dtype.itemsize
        with _naming(self._uri, self._name):
            if self._at > start * row:
                self._open()
            self._at += _drop(self._stream, start * row - self._at)
            content = self._stream.read((stop - start) * row)
            self._at += len(content)
        if len(content) != (stop - start) * row:
            raise NpzError(f"{self._uri!r}: array {self._name!r} ends early; write the file again")
        return np.frombuffer(content, self._dtype).reshape(stop - start, *self.shape[1:])

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def _open(self) -> None:
        self._files.close()
        with _naming(self._uri, self._name), ExitStack() as files:
            archive = zipfile.ZipFile(files.enter_context(fsspec.open(self._uri, "rb")))
            files.enter_context(archive)
            held = archive.getinfo(f"{self._name}.npy").file_size
            self._stream: IO[bytes] = files.enter_context(archive.open(f"{self._name}.npy"))
            self.shape, fortran, self._dtype = _header(self._stream, held, self._name)
            if self._dtype.kind not in _NUMBERS or fortran or not self.shape:
                raise NpzError(
                    f"{self._uri!r}: array {self._name!r} must be C-ordered numbers; write it again"
                )
            self._at = 0
            self._files = files.pop_all()

    def __del__(self) -> None:
        self._files.close()


def array_shape(uri: str, name: str) -> tuple[int, ...]:
    """Return the shape of one array of an npz file; raises NpzError."""
    rows = NpzRows(uri, name)
    rows.close()
    return rows.shape


def read_rows(uri: str, name: str, start: int, stop: int) -> np.ndarray:
    """Return rows start to stop-1 of the array `name` [T, ...]; see NpzRows, which is faster for many."""
    rows = NpzRows(uri, name)
    try:
        return rows.read(start, stop)
    finally:
        rows.close()


def read_small_npz(content: bytes, limit: int) -> dict[str, np.ndarray]:
    """Return all arrays of an npz file, which may have at most `limit` bytes when unpacked.

    Raises: ValueError if there are more, or if an array is not what its header says.
    """
    with zipfile.ZipFile(BytesIO(content)) as archive:
        held = {member.filename: member.file_size for member in archive.infolist()}
        if sum(held.values()) > limit:
            raise ValueError(f"it has {sum(held.values())} bytes when unpacked, the limit is {limit}")
        for name, size in held.items():
            with archive.open(name) as stream:
                _header(stream, size, name)
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_npy(content: BytesIO, limit: int) -> np.ndarray:
    """Return the array of an npy file, which may have at most `limit` numbers; raises ValueError."""
    shape, _, _ = _header(content, len(content.getbuffer()), "of the file")
    if math.prod(shape) > limit:
        raise ValueError(f"it has shape {list(shape)}, more than {limit} numbers; make it smaller")
    content.seek(0)
    return np.asarray(np.load(content, allow_pickle=False))


def _header(stream: IO[bytes], held: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order and type of an npy file of `held` bytes; refuse a shape of more bytes."""
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"array {name!r} has shape {list(shape)}, but only {held} bytes; write it again")
    return shape, fortran, dtype


@contextmanager
def _naming(uri: str, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NpzError(f"{uri!r}: there is no such file; check its path") from error
    except KeyError as error:
        raise NpzError(f"{uri!r}: it has no array {name!r}; write it under that name") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise NpzError(f"{uri!r}: it is not a complete npz file ({error}); write it again") from error
    except (NotImplementedError, RuntimeError) as error:  # an unknown compression, a password
        raise NpzError(f"{uri!r}: it cannot be unpacked ({error}); write it again") from error
    except NpzError:
        raise
    except ValueError as error:
        raise NpzError(f"{uri!r}: array {name!r} cannot be read ({error}); write it again") from error


def _drop(stream: IO[bytes], count: int) -> int:
    """Read over `count` bytes; return how many there were."""
    dropped = 0
    while dropped < count:
        beat()
        taken = len(stream.read(min(count - dropped, _SKIP)))
        if not taken:
            break
        dropped += taken
    return dropped
