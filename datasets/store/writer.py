"""Write one artifact: its files first, then the commit marker."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fsspec
import numpy as np

from recapture.datasets.store.artifact import META
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.frames import DEFAULT_CHUNK, FrameWriter
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.npz import dump_npz
from recapture.datasets.store.storage import put_file, put_path


class ArtifactWriter:
    """A writer of one artifact's files; `meta` is for what readers need in addition."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str, stage: str, key: str) -> None:
        self._filesystem, self._folder = filesystem, folder
        self._described: dict[str, Any] = {"stage": stage, "key": key}
        self._files: dict[str, dict[str, Any]] = {}
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
        if error is not None:
            with suppress(Exception):  # the storage may be the cause; without a marker there is no artifact
                self._discard()
            return
        record = self._described | {"files": self._files, "meta": self.meta, "metrics": self.metrics}
        text = json.dumps(record, indent=1, sort_keys=True)
        put_file(self._filesystem, f"{self._folder}/{META}", text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write one file; the name must be plain, without folders."""
        self._check_name(name)
        put_file(self._filesystem, f"{self._folder}/{name}", content)
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
            put_path(self._filesystem, f"{self._folder}/{name}", path)
            self._files[name] = {"bytes": path.stat().st_size, "sha256": file_hash(str(path))}

    def frames(self, chunk: int = DEFAULT_CHUNK) -> FrameWriter:
        """Return a writer of per-frame arrays that keeps one chunk in memory."""
        return FrameWriter(self, chunk)

    def _discard(self) -> None:
        # Another writer may have committed the same key by now: its files have these names and bytes.
        if self._filesystem.exists(f"{self._folder}/{META}"):
            return
        for name in self._files:
            path = f"{self._folder}/{name}"
            if self._filesystem.exists(path):
                self._filesystem.rm_file(path)

    def _check_name(self, name: str) -> None:
        if not name.isprintable() or {"/", "\\"} & set(name) or name in (META, "", ".", ".."):
            raise ArtifactError(f"{name!r} cannot be a file of an artifact; use a plain file name")
