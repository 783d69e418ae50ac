"""The artifact store: what a stage made of an item, under its content key, on any fsspec storage.

Layout: {root}/objects/{stage}/{key[:2]}/{key}/FILE, with meta.json written last as the commit marker. It
holds the size and sha256 of every file, and the metrics; an artifact without it does not exist, whatever else
lies there. Writers of one key write the same bytes, so two at once do each other no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from recapture.datasets.store.frames import DEFAULT_CHUNK, FrameReader, FrameWriter
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.storage import (
    check_plain,
    open_filesystem,
    put_file,
    put_path,
    remove_tree,
    telling_storage_faults,
)

META = "meta.json"
REQUESTS = 16  # at once, to storage over a network


class ArtifactError(ValueError):
    """An artifact is missing or damaged; the message names stage, key, file and the way out."""


class ArtifactMissing(ArtifactError):
    """There is no such artifact."""


class ArtifactDamaged(ArtifactError):
    """A committed artifact is not as it was written."""

    def __init__(self, stage: str, key: str, message: str) -> None:
        super().__init__(message)
        self.stage, self.key = stage, key


class ArtifactStore:
    """Artifacts below one fsspec URL (a local path, s3://bucket/prefix, memory://name)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._filesystem, self._base = open_filesystem(root)

    def create(self, stage: str, key: str) -> ArtifactWriter:
        """Return a context manager that commits the artifact at a clean exit and leaves nothing otherwise."""
        return ArtifactWriter(self._filesystem, self._folder(stage, key), stage, key)

    def exists(self, stage: str, key: str) -> bool:
        """Return whether the artifact is committed and each of its files has the promised size."""
        return self._whole(stage, key) is not None

    def whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact]:
        """Return those of the artifacts that `exists` holds for, opened."""
        wanted = list(dict.fromkeys(keys))
        if not getattr(self._filesystem, "async_impl", False):
            found = [self._whole(stage, key) for key in wanted]
        else:
            with ThreadPoolExecutor(REQUESTS) as requests:
                found = list(requests.map(lambda key: self._whole(stage, key), wanted))
        return {artifact.key: artifact for artifact in found if artifact is not None}

    def all_whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact] | None:
        """Return what `whole` does when it is all of them, else None; looks little further than to a gap."""
        wanted, found = list(dict.fromkeys(keys)), dict[str, Artifact]()
        for start in range(0, len(wanted), REQUESTS):
            some = wanted[start : start + REQUESTS]
            found |= self.whole(stage, some)
            if len(found) < start + len(some):
                return None
        return found

    def open(self, stage: str, key: str) -> Artifact:
        """Open a committed artifact; raises ArtifactMissing when there is none, ArtifactDamaged for half."""
        return Artifact(self._filesystem, self._folder(stage, key), stage, key)

    def delete(self, stage: str, key: str) -> None:
        """Remove an artifact: first its commit marker, then the rest."""
        folder = self._folder(stage, key)
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{folder}/{META}")
        remove_tree(self._filesystem, folder)

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all committed artifacts of a stage, by one listing."""
        self._filesystem.invalidate_cache()
        folder = f"{self._base}/objects/{stage}"
        with telling_storage_faults(folder, writing=False):
            found = self._filesystem.find(folder) if self._filesystem.exists(folder) else []
        return {path.rsplit("/", 2)[1] for path in found if path.endswith(f"/{META}")}

    def _whole(self, stage: str, key: str) -> Artifact | None:
        try:
            artifact = self.open(stage, key)
            artifact.check_sizes()
        except ArtifactError:
            return None
        return artifact

    def _folder(self, stage: str, key: str) -> str:
        check_plain("stage", stage)
        check_plain("key", key)
        return f"{self._base}/objects/{stage}/{key[:2]}/{key}"


class ArtifactWriter:
    """Writes one artifact's files; `meta` takes what readers need to know beside them."""

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
            with suppress(Exception):  # the storage may be the very trouble; no marker, so no artifact
                self._discard()
            return
        record = self._described | {"files": self._files, "meta": self.meta, "metrics": self.metrics}
        text = json.dumps(record, indent=1, sort_keys=True)
        put_file(self._filesystem, f"{self._folder}/{META}", text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write one file; names are plain, without folders."""
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
        """Give a temporary local path to libraries that write files; what is there at the end is stored."""
        with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
            path = Path(folder) / name
            yield str(path)
            self._check_name(name)
            put_path(self._filesystem, f"{self._folder}/{name}", path)
            self._files[name] = {"bytes": path.stat().st_size, "sha256": file_hash(str(path))}

    def frames(self, chunk: int = DEFAULT_CHUNK) -> FrameWriter:
        """Return a writer of per-frame arrays that holds one chunk in memory."""
        return FrameWriter(self, chunk)

    def _discard(self) -> None:
        # Another writer may have committed the same key meanwhile: its files have these names and bytes.
        if self._filesystem.exists(f"{self._folder}/{META}"):
            return
        for name in self._files:
            path = f"{self._folder}/{name}"
            if self._filesystem.exists(path):
                self._filesystem.rm_file(path)

    def _check_name(self, name: str) -> None:
        if not name.isprintable() or {"/", "\\"} & set(name) or name in (META, "", ".", ".."):
            raise ArtifactError(f"{name!r} cannot be a file of an artifact; use a plain file name")


class Artifact:
    """A committed artifact."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str, stage: str, key: str) -> None:
        self._filesystem, self._folder = filesystem, folder
        self.stage, self.key = stage, key
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

    def uri(self, name: str) -> str:
        """Return the fsspec URL of one file."""
        return str(self._filesystem.unstrip_protocol(f"{self._folder}/{name}"))

    def read_bytes(self, name: str) -> bytes:
        """Read one file and check it against the commit marker; raises ArtifactError when it is damaged."""
        promised = self._promised(name)
        try:
            content = self._content(name)
        except FileNotFoundError:
            raise self._damaged(name, "the file is gone") from None
        if hashlib.sha256(content).hexdigest() != promised["sha256"]:
            raise self._damaged(name, f"{len(content)} bytes with another sha256 than when it was written")
        return content

    @contextmanager
    def local_path(self, name: str) -> Iterator[str]:
        """Give a path to read one file at, checked as `read_bytes` does, without holding it in memory."""
        promised, path = self._promised(name), f"{self._folder}/{name}"
        with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
            try:
                with telling_storage_faults(path, writing=False):
                    if not isinstance(self._filesystem, LocalFileSystem):
                        self._filesystem.get_file(path, f"{folder}/{name}")
                        path = f"{folder}/{name}"
                    found = file_hash(path)
            except FileNotFoundError:
                raise self._damaged(name, "the file is gone") from None
            if found != promised["sha256"]:
                size = Path(path).stat().st_size
                raise self._damaged(name, f"{size} bytes with another sha256 than when it was written")
            yield path

    def read_npz(self, name: str) -> dict[str, np.ndarray]:
        """Read all arrays of an npz; nothing in it is ever executed."""
        return load_npz(self.read_bytes(name), f"{name} of artifact {self.key} (stage {self.stage!r})")

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(name))

    def frames(self) -> FrameReader:
        """Return a reader of the per-frame arrays."""
        return FrameReader(self)

    def check_sizes(self) -> None:
        """Raise ArtifactError when a file is missing or has another size than promised; reads no contents."""
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
        with telling_storage_faults(path, writing=False):
            if isinstance(self._filesystem, LocalFileSystem):  # fsspec takes longer to look at the path
                with open(path, "rb", buffering=0) as stream:
                    return stream.read()
            return bytes(self._filesystem.cat_file(path))

    def _present(self) -> dict[str, int]:
        if isinstance(self._filesystem, LocalFileSystem):
            with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries}
            return {}
        self._filesystem.invalidate_cache(self._folder)
        with telling_storage_faults(self._folder, writing=False):
            listing = self._filesystem.ls(self._folder, detail=True)
        return {entry["name"].rsplit("/", 1)[1]: entry["size"] for entry in listing}

    def _damaged(self, name: str, what: str) -> ArtifactDamaged:
        return ArtifactDamaged(
            self.stage,
            self.key,
            f"artifact {self.key} of stage {self.stage!r} is damaged: {name}: {what}; "
            "delete its folder and run the job again",
        )


def dump_npz(arrays: Mapping[str, np.ndarray], where: str) -> bytes:
    """Return arrays as npz bytes: quick compression, fixed time stamps; refuses Python objects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for field, given in arrays.items():
            array = np.asarray(given, order="C")  # the order in memory would show in the bytes
            if array.dtype.hasobject:
                raise ArtifactError(f"{where}: array {field!r} holds Python objects, which npz would pickle")
            with archive.open(f"{field}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def load_npz(content: bytes, where: str) -> dict[str, np.ndarray]:
    """Read all arrays of an npz from bytes; raises ArtifactError for pickled objects or a damaged file."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        raise ArtifactError(f"{where} cannot be read as npz without pickle: {error}") from None
