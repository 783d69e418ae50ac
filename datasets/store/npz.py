"""Arrays as npz bytes: the same arrays give the same bytes, and reading never executes anything.

Deflate is ISA-L's, several times faster than zlib's in both directions; any reader of npz reads its output.
The bytes are the same on every processor of a kind, their contents on every processor.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
from isal import isal_zlib

from recapture.datasets.store.errors import ArtifactError

_RAW = -15  # window bits of deflate without a header, as in zip files
_LEVEL = 1
_LOCAL_HEADER = 30  # bytes, without names


def dump_npz(arrays: Mapping[str, np.ndarray], where: str) -> bytes:
    """Return arrays as npz bytes: fast compression, fixed timestamps; raises ArtifactError for objects."""
    buffer = io.BytesIO()
    archive = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
    try:
        for field, given in arrays.items():
            array = np.asarray(given, order="C")  # the memory order would change the bytes
            if array.dtype.hasobject:
                raise ArtifactError(f"{where}: array {field!r} holds Python objects, which npz would pickle")
            with archive.open(f"{field}.npy", "w", force_zip64=True) as member:
                # The zip file asks nothing of its compressor but what ISA-L's has too.
                setattr(member, "_compressor", isal_zlib.compressobj(_LEVEL, wbits=_RAW))  # noqa: B010
                np.lib.format.write_array(member, array, allow_pickle=False)
    except BaseException:
        archive.fp = None  # closed unwritten: closing it with an open member fails, and hides what happened
        raise
    archive.close()
    return buffer.getvalue()


def load_npz(
    content: bytes, where: str, wanted: Callable[[str], bool] = lambda _: True
) -> dict[str, np.ndarray]:
    """Return the wanted arrays of npz bytes, by default all; raises ArtifactError for pickles or damage."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        return {
            name: np.lib.format.read_array(io.BytesIO(_inflated(content, member)), allow_pickle=False)
            for name, member in members.items()
            if wanted(name)
        }
    except Exception as error:
        raise ArtifactError(f"{where} cannot be read as npz without pickle: {error}") from None


def _inflated(content: bytes, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes, at most as many as the file says that it has."""
    lengths = struct.unpack_from("<HH", content, member.header_offset + _LOCAL_HEADER - 4)
    start = member.header_offset + _LOCAL_HEADER + sum(lengths)
    packed = memoryview(content)[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_STORED:
        return bytes(packed)
    if member.compress_type != zipfile.ZIP_DEFLATED:
        raise ValueError(f"{member.filename!r} is compressed by method {member.compress_type}, not deflate")
    inflated = isal_zlib.decompressobj(wbits=_RAW).decompress(packed, member.file_size + 1)
    if len(inflated) != member.file_size or isal_zlib.crc32(inflated) != member.CRC:
        raise ValueError(f"{member.filename!r} is damaged")
    return bytes(inflated)
