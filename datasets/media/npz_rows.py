"""Read some rows of an array in an npz file without loading the rest."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import fsspec
import numpy as np
from numpy.lib import format as npy

_SKIP = 1 << 20


class NpzError(ValueError):
    """An npz file cannot be read; the message names it, the array and the way out."""


def array_shape(uri: str, name: str) -> tuple[int, ...]:
    """Return the shape of one array of an npz file; raises NpzError."""
    with _member(uri, name) as (_, shape, _):
        return shape


def read_rows(uri: str, name: str, start: int, stop: int) -> np.ndarray:
    """Return rows start to stop-1 of the array `name` [T, ...]; memory use is that of these rows.

    Raises: NpzError for a missing or damaged file or array, pickled objects, and Fortran order.
    """
    with _member(uri, name) as (stream, shape, dtype):
        stop = min(stop, shape[0])
        start = min(start, stop)
        row = math.prod(shape[1:]) * dtype.itemsize
        _drop(stream, start * row)
        wanted = (stop - start) * row
        content = stream.read(wanted)
        if len(content) != wanted:
            raise NpzError(f"{uri!r}: array {name!r} ends early; write the file again")
        return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])


@contextmanager
def _member(uri: str, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    try:
        with (
            fsspec.open(uri, "rb") as file,
            zipfile.ZipFile(file) as archive,
            archive.open(f"{name}.npy") as stream,
        ):
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            if dtype.hasobject or fortran or not shape:
                raise NpzError(f"{uri!r}: array {name!r} must be C-ordered numbers; write it again")
            yield stream, shape, dtype
    except FileNotFoundError as error:
        raise NpzError(f"{uri!r}: there is no such file; check its path") from error
    except KeyError as error:
        raise NpzError(f"{uri!r}: it has no array {name!r}; write it under that name") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise NpzError(f"{uri!r}: it is not a complete npz file ({error}); write it again") from error
    except ValueError as error:
        if isinstance(error, NpzError):
            raise
        raise NpzError(f"{uri!r}: array {name!r} cannot be read ({error}); write it again") from error


def _drop(stream: IO[bytes], count: int) -> None:
    while count > 0:
        taken = len(stream.read(min(count, _SKIP)))
        if not taken:
            return
        count -= taken
