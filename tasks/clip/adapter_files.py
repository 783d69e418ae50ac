"""Where adapters are read from: files, folders, pairs of files for high and low noise, on any storage."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from recapture.conf.adapter import NOISE, TUNED_SCALE, AdapterConfig
from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.storage import open_filesystem, raising_storage_faults
from recapture.models.wan.adapter_alpha import PEFT_CONFIG, PEFT_FILE
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME, AdapterFile, open_adapter
from recapture.tasks.engine.model_revision import file_revision, once

CLIPS = "clips"  # folder of adapters by clip id, beside the dataset's adapter
ENDING = ".safetensors"
_HIGH = re.compile(r"high(?=[_\-. ]?noise|[_\-. ]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """An adapter file as it is to be used."""

    path: str  # local, or an fsspec URL
    scale: float | None = None  # None: as the file recommends
    which: NOISE | None = None  # the transformer that it is for; None: as the file says


class AdapterFiles:
    """The files of each clip's adapters: its own where a folder has one for it, else those for all clips.

    The folders are looked at once. Raises UserError for a path that names no adapter.
    """

    def __init__(self, config: FillConfig) -> None:
        self._entries = [_Entry(one) for one in config.chosen_adapters]

    def of(self, clip_id: str) -> tuple[Source, ...]:
        """Return the sources of a clip's adapters. Raises UserError where there is none for it."""
        return tuple(source for entry in self._entries for source in entry.of(clip_id))

    @property
    def shared(self) -> tuple[Source, ...]:
        """Return the sources of the adapters for all clips."""
        return tuple(source for entry in self._entries for source in entry.shared)


def adapter_files(config: FillConfig) -> AdapterFiles:
    """Return where a job's adapters are, looked at once per plan."""
    return once(("adapter files", config.chosen_adapters), lambda: AdapterFiles(config))


class _Entry:
    """One setting that names an adapter."""

    def __init__(self, config: AdapterConfig) -> None:
        self._config = config
        with raising_storage_faults(config.path, writing=False):
            self.shared = tuple(self._shared())
            self._own: Mapping[str, str] = self._clips()
        if not self.shared and not self._own:
            raise UserError(
                f"fill.adapter: {config.path} has no adapter; name a LoRA file ({ENDING}), or a folder of one"
            )

    def of(self, clip_id: str) -> tuple[Source, ...]:
        if clip_id in self._own:
            return (self._source(self._own[clip_id]),)
        if not self.shared:
            raise UserError(
                f"fill.adapter: {self._config.path} has no adapter for clip {clip_id!r} and none for all "
                f"clips ({FILE_NAME}); name a LoRA file, or a folder that `recapture train` has written"
            )
        return self.shared

    def _source(self, path: str, which: NOISE | None = None) -> Source:
        return Source(path, self._config.scale, which or self._config.transformer)

    def _shared(self) -> Iterator[Source]:
        """Yield the file, the one of a folder, or a pair."""
        filesystem, root = open_filesystem(self._config.path)
        path = self._config.path.rstrip("/")
        if filesystem.isfile(root):
            yield self._source(path)
        elif filesystem.isdir(root):
            names = sorted(file.rpartition("/")[2] for file in filesystem.ls(root, detail=False))
            names = [name for name in names if name.endswith(ENDING)]
            yield from self._in_folder(path, names)
        else:
            folder, _, name = path.rpartition("/")
            stem = name.removesuffix(ENDING)
            above = root.rpartition("/")[0]
            pair = [f"{stem}_high_noise{ENDING}", f"{stem}_low_noise{ENDING}"]
            if all(filesystem.isfile(f"{above}/{half}") for half in pair):
                yield from self._pair(folder or ".", *pair)

    def _in_folder(self, path: str, names: list[str]) -> Iterator[Source]:
        for name in (FILE_NAME, PEFT_FILE):
            if name in names:
                yield self._source(f"{path}/{name}")
                return
        if len(names) == 1:
            yield self._source(f"{path}/{names[0]}")
        elif len(names) == 2 and (pair := noise_pair(*names)):
            yield from self._pair(path, *pair)
        elif names:
            raise UserError(
                f"fill.adapter: {path} has {len(names)} adapters ({', '.join(names[:4])}); name one file, or "
                "list several in fill.adapters"
            )

    def _pair(self, folder: str, high: str, low: str) -> Iterator[Source]:
        wanted = self._config.transformer or "both"
        if wanted in ("both", "high"):
            yield self._source(f"{folder}/{high}", "high")
        if wanted in ("both", "low"):
            yield self._source(f"{folder}/{low}", "low")

    def _clips(self) -> dict[str, str]:
        """Return clip id -> its own adapter."""
        filesystem, root = open_filesystem(f"{self._config.path.rstrip('/')}/{CLIPS}")
        if not filesystem.isdir(root):
            return {}
        found = [file.removeprefix(f"{root}/") for file in filesystem.find(root)]
        folder = f"{self._config.path.rstrip('/')}/{CLIPS}"
        return {
            name.removesuffix(f"/{FILE_NAME}"): f"{folder}/{name}"
            for name in found
            if name.endswith(f"/{FILE_NAME}")
        }


def noise_pair(one: str, other: str) -> tuple[str, str] | None:
    """Return (high-noise file, low-noise file) of two names that differ in this alone; None otherwise."""
    for high, low in ((one, other), (other, one)):
        if (found := _HIGH.search(high)) and high[: found.start()] == low[: found.start()]:
            rest = low[found.start() :]
            if rest[:3].lower() == "low" and rest[3:] == high[found.end() :]:
                return high, low
    return None


@contextmanager
def local_file(path: str) -> Iterator[Path]:
    """Provide an adapter as a local file, with PEFT's settings beside it, within this context."""
    filesystem, root = open_filesystem(path)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
        parent, _, name = root.rpartition("/")
        with raising_storage_faults(path, writing=False):
            filesystem.get_file(root, f"{folder}/{name}")
            if name == PEFT_FILE and filesystem.isfile(f"{parent}/{PEFT_CONFIG}"):
                filesystem.get_file(f"{parent}/{PEFT_CONFIG}", f"{folder}/{PEFT_CONFIG}")
        try:
            yield Path(folder) / name
        except AdapterError as error:
            raise AdapterError(str(error).replace(f"{folder}/{name}", path)) from None


def revision(path: str) -> str:
    """Return the hash of an adapter's bytes, and of PEFT's settings beside it; read once per plan."""
    filesystem, root = open_filesystem(path)
    local = isinstance(filesystem, LocalFileSystem)
    parent, _, name = root.rpartition("/")
    own = file_revision(root) if local else once(("file", path), lambda: file_hash(path))
    if name != PEFT_FILE or not filesystem.isfile(f"{parent}/{PEFT_CONFIG}"):
        return own
    beside = f"{path.rpartition('/')[0]}/{PEFT_CONFIG}" if "/" in path else PEFT_CONFIG
    return f"{own}+{file_hash(beside)}"


def header(path: str) -> AdapterFile:
    """Return what an adapter file changes, read once per plan. Raises UserError for any other file."""

    def look() -> AdapterFile:
        try:
            with local_file(path) as file:
                return open_adapter(file)
        except (AdapterError, FileNotFoundError) as error:
            raise UserError(f"fill.adapter: {error}") from None

    return once(("adapter", path), look)


def scale_of(source: Source, file: AdapterFile) -> float:
    """Return the scale to use: as set, else as the file recommends, else 1."""
    if source.scale is not None:
        return source.scale
    try:
        return float(file.notes.get("scale", TUNED_SCALE if file.notes else 1.0))
    except (TypeError, ValueError):
        raise UserError(
            f"fill.adapter: {source.path} recommends a scale that is no number; set fill.adapter_scale"
        ) from None
