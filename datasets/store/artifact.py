"""Read a committed artifact."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beat
from recapture.datasets.store.errors import ArtifactDamaged, ArtifactError, ArtifactMissing
from recapture.datasets.store.frames import FrameReader
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.npz import load_npz
from recapture.datasets.store.storage import (
    file_sizes,
    local_sizes,
    raising_storage_faults,
    read_local,
)

META = "meta.json"  # the commit marker, written last


class Artifact:
    """A committed artifact, opened for reading."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str, stage: str, key: str) -> None:
        self._filesystem, self._folder = filesystem, folder
        self.stage, self.key = stage, key
        self._frames: FrameReader | None = None
        try:
            record = json.loads(self._content(META))
            self.meta: dict[str, Any] = record["meta"]
            self.metrics: dict[str, float] = record.get("metrics", {})
            self._files: dict[str, dict[str, Any]] = record["files"]
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactMissing(
                f"stage {stage!r} has no artifact {key}; run the job again to make it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(META, f"{type(error).__name__}: {error}") from None

    @property
    def total_bytes(self) -> int:
        """Return the sum of the sizes of the files."""
        return sum(int(file["bytes"]) for file in self._files.values())

    def names(self) -> list[str]:
        """Return the names of the files."""
        return sorted(self._files)

    def sizes(self) -> dict[str, int]:
        """Return file name -> bytes."""
        return {name: int(file["bytes"]) for name, file in self._files.items()}

    def uri(self, name: str) -> str:
        """Return the fsspec URL of one file."""
        return str(self._filesystem.unstrip_protocol(f"{self._folder}/{name}"))

    def read_bytes(self, name: str) -> bytes:
        """Read one file and check it against the commit marker; raises ArtifactDamaged if they differ."""
        promised = self._promised(name)
        beat()
        try:
            content = self._content(name)
        except FileNotFoundError:
            raise self._damaged(name, "the file is missing") from None
        if hashlib.sha256(content).hexdigest() != promised["sha256"]:
            raise self._damaged(name, f"{len(content)} bytes whose sha256 differs from what was written")
        return content

    @contextmanager
    def local_path(self, name: str) -> Iterator[str]:
        """Give a local path of one file, checked as by `read_bytes`, without loading it into memory."""
        promised, path = self._promised(name), f"{self._folder}/{name}"
        with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
            try:
                with raising_storage_faults(path, writing=False):
                    if not isinstance(self._filesystem, LocalFileSystem):
                        self._filesystem.get_file(path, f"{folder}/{name}")
                        path = f"{folder}/{name}"
                    found = file_hash(path)
            except FileNotFoundError:
                raise self._damaged(name, "the file is missing") from None
            if found != promised["sha256"]:
                size = Path(path).stat().st_size
                raise self._damaged(name, f"{size} bytes whose sha256 differs from what was written")
            yield path

    def read_npz(self, name: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, np.ndarray]:
        """Read the wanted arrays of an npz, by default all; nothing in it is ever executed."""
        where = f"{name} of artifact {self.key} (stage {self.stage!r})"
        return load_npz(self.read_bytes(name), where, wanted)

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(name))

    def frames(self) -> FrameReader:
        """Return the reader of the per-frame arrays, the same one at each call: it keeps the last file."""
        if self._frames is None:
            self._frames = FrameReader(self)
        return self._frames

    def check_sizes(self) -> None:
        """Raise ArtifactDamaged if a file is missing or has a wrong size; reads no contents."""
        present = self._present()
        for name, promised in self._files.items():
            if present.get(name) != promised["bytes"]:
                raise self._damaged(name, f"{present.get(name, 'no')} bytes instead of {promised['bytes']}")

    def _promised(self, name: str) -> dict[str, Any]:
        if name not in self._files:
            raise ArtifactError(
                f"artifact {self.key} of stage {self.stage!r} has no file {name!r}; it has {self.names()}"
            )
        return self._files[name]

    def _content(self, name: str) -> bytes:
        path = f"{self._folder}/{name}"
        with raising_storage_faults(path, writing=False):
            if isinstance(self._filesystem, LocalFileSystem):  # faster than fsspec's handling of the path
                return read_local(path)
            return bytes(self._filesystem.cat_file(path))

    def _present(self) -> dict[str, int]:
        """Return name -> bytes of the files that are there; on a local disk, of those that are promised."""
        if isinstance(self._filesystem, LocalFileSystem):  # faster than a listing, which all files need too
            return local_sizes(self._folder, self._files)
        return file_sizes(self._filesystem, self._folder)

    def _damaged(self, name: str, what: str) -> ArtifactDamaged:
        return ArtifactDamaged(
            self.stage,
            self.key,
            f"artifact {self.key} of stage {self.stage!r} is damaged: {name}: {what}; "
            "delete its folder and run the job again",
        )
