"""Arrays as npz bytes: the same arrays give the same bytes, and reading never executes anything."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from recapture.datasets.store.errors import ArtifactError


def dump_npz(arrays: Mapping[str, np.ndarray], where: str) -> bytes:
    """Return arrays as npz bytes: fast compression, fixed timestamps; raises ArtifactError for objects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for field, given in arrays.items():
            array = np.asarray(given, order="C")  # the memory order would change the bytes
            if array.dtype.hasobject:
                raise ArtifactError(f"{where}: array {field!r} holds Python objects, which npz would pickle")
            with archive.open(f"{field}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def load_npz(content: bytes, where: str) -> dict[str, np.ndarray]:
    """Return all arrays of npz bytes; raises ArtifactError for pickled objects or a damaged file."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        raise ArtifactError(f"{where} cannot be read as npz without pickle: {error}") from None
