"""Write one artifact: its files first, then the commit marker."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beat
from recapture.datasets.store.artifact import META
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.frames import DEFAULT_CHUNK, FrameWriter
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.lease import leases_below
from recapture.datasets.store.npz import dump_npz
from recapture.datasets.store.parts import Parts
from recapture.datasets.store.storage import put_file, put_path, raising_storage_faults, write_aside


class ArtifactWriter:
    """A writer of one artifact's files; `meta` is for what readers need in addition.

    Another job may write the same key at the same time. So on a local disk files get their names only at the
    commit, and a writer that fails removes its own temporary ones. Other storage has no cheap rename: there
    files are written under their names, and after a failure they stay if another job runs.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, folder: str, stage: str, key: str, parts: Parts
    ) -> None:
        self._filesystem, self._folder = filesystem, folder
        self.parts = parts  # finished ones, and those that are made for this artifact; deleted at the commit
        self._described: dict[str, Any] = {"stage": stage, "key": key}
        self._files: dict[str, dict[str, Any]] = {}
        self._aside: dict[str, Path] = {}  # name -> temporary file, on a local disk
        self.meta: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}

    @property
    def total_bytes(self) -> int:
        """Return the sum of the sizes of the files written so far."""
        return sum(int(file["bytes"]) for file in self._files.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        committed = False
        try:
            if error is None:
                self._commit()
                committed = True
                self.parts.clear()
        finally:
            if not committed:
                with suppress(Exception):  # the storage may be the cause
                    self._discard()

    def _commit(self) -> None:
        record = self._described | {"files": self._files, "meta": self.meta, "metrics": self.metrics}
        text = json.dumps(record, indent=1, sort_keys=True)
        with raising_storage_faults(self._folder, writing=True):
            for name, temporary in self._aside.items():
                temporary.replace(f"{self._folder}/{name}")
        put_file(self._filesystem, f"{self._folder}/{META}", text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write one file; the name must be plain, without folders."""
        self._check_name(name)
        self._put(name, io.BytesIO(content))
        self._files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def write_npz(self, name: str, /, **arrays: np.ndarray) -> None:
        """Write arrays as a compressed npz; the same arrays give the same bytes."""
        self.write_bytes(name, dump_npz(arrays, name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON."""
        self.write_bytes(name, json.dumps(value, indent=1, sort_keys=True).encode())

    @contextmanager
    def local_file(self, name: str) -> Iterator[str]:
        """Give a temporary local path, for libraries that write files; its content is stored at the end."""
        with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
            path = Path(folder) / name
            yield str(path)
            self._check_name(name)
            with path.open("rb") as content:
                self._put(name, content)
            self._files[name] = {"bytes": path.stat().st_size, "sha256": file_hash(str(path))}

    def frames(self, chunk: int = DEFAULT_CHUNK, mantissa: Mapping[str, int] | None = None) -> FrameWriter:
        """Return a writer of per-frame arrays that keeps one chunk in memory; mantissa: see FrameWriter."""
        return FrameWriter(self, chunk, mantissa)

    def _put(self, name: str, content: BinaryIO) -> None:
        beat()
        path = f"{self._folder}/{name}"
        if isinstance(self._filesystem, LocalFileSystem):
            with raising_storage_faults(path, writing=True):
                earlier = self._aside.pop(name, None)
                self._aside[name] = write_aside(Path(path), content)
                if earlier is not None:
                    earlier.unlink(missing_ok=True)
        elif isinstance(content, io.BytesIO):
            put_file(self._filesystem, path, content.getvalue())
        else:
            put_path(self._filesystem, path, Path(content.name))

    def _discard(self) -> None:
        for temporary in self._aside.values():
            temporary.unlink(missing_ok=True)
        if isinstance(self._filesystem, LocalFileSystem):
            return
        base = self._folder.rpartition("/objects/")[0]
        others = sum(one.live for one in leases_below(self._filesystem, base)) > 1
        if others or self._filesystem.exists(f"{self._folder}/{META}"):
            return  # these may be the files of another writer, with the same names and bytes
        for name in self._files:
            path = f"{self._folder}/{name}"
            if self._filesystem.exists(path):
                self._filesystem.rm_file(path)

    def _check_name(self, name: str) -> None:
        if not name.isprintable() or {"/", "\\"} & set(name) or name in (META, "", ".", ".."):
            raise ArtifactError(f"{name!r} cannot be a file of an artifact; use a plain file name")
