"""Hashes of model files and directories, remembered across processes: a checkpoint is read once per machine.

Every hashed file of at least a mebibyte has a note in the user's cache: $XDG_CACHE_HOME/recapture/hashes
(~/.cache without it). A note counts as long as the file's path, size and times are those it was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from recapture.datasets.store.keys import canonical_json, file_hash

REMEMBERED = 2**20  # bytes; a smaller file is read faster than its note
SETTLED = 2.0  # seconds; a file may change twice within one tick of a coarse clock
_noted: dict[str, str] = {}  # if the cache cannot be written, at least this process remembers


def remembered_hash(path: str) -> str:
    """Return the sha256 of a local file's bytes, read only if it has changed since it was last hashed."""
    real = os.path.realpath(path)
    before = _state(real)
    if before.bytes < REMEMBERED:
        return file_hash(real)
    described = canonical_json(before._asdict())
    note = _cache() / f"{hashlib.sha256(described.encode()).hexdigest()}.json"
    digest = _noted.get(described) or _read(note, described)
    if digest is None:
        digest = file_hash(real)
        settled = time.time() - max(before.modified, before.changed) / 1e9 > SETTLED
        if settled and _state(real) == before:
            _noted[described] = digest
            _write(note, before._asdict() | {"sha256": digest})
    return digest


def directory_hash(path: str) -> str:
    """Return the hash of the names and bytes of the files of a local model directory.

    Left out, because they change nothing that a model computes: README files, and files and folders whose
    names begin with a dot, such as the .cache of a download. Links are followed, as in the snapshots of the
    Hugging Face cache. Raises ValueError if the directory does not exist.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"{path!r} is not a directory")
    described = {name: remembered_hash(str(file)) for name, file in _files(folder)}
    return hashlib.sha256(canonical_json(described).encode()).hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (path from the folder, file) of all files that count; a link back to a parent is not entered."""
    waiting = [(folder, "", frozenset[str]())]
    while waiting:
        here, inside, above = waiting.pop()
        real = os.path.realpath(here)
        if real in above:
            continue
        for entry in sorted(here.iterdir()):
            name = f"{inside}{entry.name}"
            if entry.name.startswith(".") or entry.name.upper().split(".")[0] == "README":
                continue
            if entry.is_dir():
                waiting.append((entry, f"{name}/", above | {real}))
            elif entry.is_file():
                yield name, entry
            elif entry.is_symlink():
                raise ValueError(f"{str(entry)!r} is a link to a file that is missing; fetch the model again")


class _State(NamedTuple):
    path: str
    bytes: int
    modified: int  # nanoseconds since 1970
    changed: int  # the same; tells a file that was replaced by one of the same size and age


def _state(path: str) -> _State:
    found = Path(path).stat()
    return _State(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - never raises
    return Path(home) / "recapture" / "hashes"


def _read(note: Path, described: str) -> str | None:
    try:
        content = json.loads(note.read_bytes())
        digest = str(content.pop("sha256"))
        bytes.fromhex(digest)
        return digest if len(digest) == 64 and canonical_json(content) == described else None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # the file is read again
        return None


def _write(note: Path, content: Mapping[str, str | int]) -> None:
    temporary = note.with_name(f".{uuid.uuid4().hex}")
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(json.dumps(content))
        temporary.replace(note)
