"""Manifests: one Parquet row per item and run of a stage, append-only, one writer per part.

Layout: {root}/manifests/{dataset}/{stage}/part-{run}-{shard}.parquet, and {stage}/3-of-16/part-... of a job
over a share of the dataset. The newest row of a key is valid. A part never changes; compacting replaces the
parts of a folder by one with all their rows.
"""

from __future__ import annotations

import io
import logging
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, count
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recapture.datasets.store.storage import list_files, open_filesystem, put_file

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
SHARE = re.compile(r"(?P<number>\d+)-of-(?P<of>\d+)")
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("item", pa.string()),
        ("key", pa.string()),
        ("stage", pa.string()),
        ("status", pa.string()),
        ("attempts", pa.int16()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("seconds", pa.float64()),
        ("gpu_seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("device", pa.string()),
        ("vram_peak_mb", pa.float64()),
        ("parent_keys", pa.list_(pa.string())),
        ("code_version", pa.string()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("schema_version", pa.int16()),
    ]
)


class ManifestDamaged(ValueError):
    """A manifest part cannot be read; the message names it and the way out."""


def write_part(
    root: str,
    dataset: str,
    stage: str,
    run_id: str,
    shard: int,
    rows: Iterable[Mapping[str, Any]],
    *,
    share: str | None = None,
) -> str:
    """Write one part and return its path; created_at and schema_version are filled in.

    If a run repeats a shard, it adds another part: the rows of the first attempt are kept.
    share: the folder of a share of the dataset, such as 3-of-16.
    """
    filesystem, base = open_filesystem(root)
    now = datetime.now(UTC)
    complete = [{"created_at": now, "schema_version": SCHEMA_VERSION, **row} for row in rows]
    table = pa.Table.from_pylist(complete, schema=SCHEMA)
    folder = f"{base}/manifests/{dataset}/{stage}" + (f"/{share}" if share else "")
    part = f"{folder}/part-{run_id}-{shard:05d}"
    filesystem.invalidate_cache()
    tries = chain([""], (f"-{number}" for number in count(2)))
    path = next(path for again in tries if not filesystem.exists(path := f"{part}{again}.parquet"))
    put_file(filesystem, path, _dumped(table))
    return path


def read_manifest(root: str, dataset: str, stage: str, *, lenient: bool = True) -> dict[str, dict[str, Any]]:
    """Return key -> newest row of a stage; empty if the stage has never run.

    lenient: skip a part that cannot be read, with a warning, instead of raising ManifestDamaged.
    """
    rows = manifest_table(root, dataset, stage, lenient=lenient).to_pylist(maps_as_pydicts="strict")
    return {row["key"]: row for row in rows}


def manifest_table(root: str, dataset: str, stage: str, *, lenient: bool = True) -> pa.Table:
    """Return all rows of a stage, oldest first: the newest row of a key is its last one.

    lenient: as read_manifest has it.
    """
    tables = [table for _, table in _parts(root, dataset, stage, lenient)]
    # The sort is stable: of equal times, the later row counts.
    return pa.concat_tables(tables).sort_by("created_at") if tables else SCHEMA.empty_table()


def named_keys(
    root: str, dataset: str, stage: str, keys: Collection[str], *, share: str | None = None
) -> set[str]:
    """Return those of the keys that a stage's manifest contains; parts read before are not read again.

    share: that of the keys' clips; parts of the other shares of as many are not read.
    """
    if not keys:
        return set()
    filesystem, base = open_filesystem(root)
    paths = {path for path in _paths(root, dataset, stage) if _may_name(path, share)}
    known = _known_keys(filesystem, f"{base}/manifests/{dataset}/{stage}", share)
    if not known.parts <= paths:  # compacted since
        known.parts.clear()
        known.keys.clear()
    for path in paths - known.parts:
        with suppress(pa.ArrowInvalid, OSError):  # one part is unreadable; use the others
            table = pq.read_table(io.BytesIO(filesystem.cat_file(path)), columns=["key"])
            known.keys.update(table.column("key").to_pylist())
            known.parts.add(path)
    return known.keys.intersection(keys)


@dataclass
class _KnownKeys:
    """The keys of the parts of one stage that this process has read."""

    parts: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


@lru_cache(maxsize=4)
def _known_keys(filesystem: fsspec.AbstractFileSystem, folder: str, share: str | None) -> _KnownKeys:
    return _KnownKeys()


def _may_name(path: str, share: str | None) -> bool:
    """Return whether a part may name a clip of a share."""
    other = SHARE.fullmatch(path.split("/")[-2])
    return share is None or other is None or other[0] == share or other["of"] != share.partition("-of-")[2]


def compact(root: str, dataset: str, stage: str) -> int:
    """Replace the parts of a stage's manifest by one for each share; return how many there were.

    0: nothing was done. The new part is written and read back before the old ones are deleted: all rows exist
    at any time, and duplicate rows count once. One share is in memory at a time. Raises ManifestDamaged for a
    part that cannot be read.
    """
    filesystem, _ = open_filesystem(root)
    merged = 0
    for folder, paths in _by_folder(root, dataset, stage).items():
        parts = list(_read_parts(filesystem, paths, lenient=False))
        if len(parts) < 2:
            continue
        table = pa.concat_tables(table for _, table in parts)
        rows = zip(*(table.column(name).to_pylist() for name in ("created_at", "key", "run_id", "status")))
        once = {identity: number for number, identity in reversed(list(enumerate(rows)))}
        # By time, then in reading order, so that the newest row of each key stays the newest.
        table = table.take([once[identity] for identity in sorted(once, key=lambda row: (row[0], once[row]))])
        _replace_parts(filesystem, folder, [path for path, _ in parts], table)
        merged += len(parts)
    return merged


def forget(root: str, dataset: str, stage: str, keys: Collection[str]) -> None:
    """Remove the rows of these keys from a stage's manifest; raises ManifestDamaged like compact."""
    if not keys:
        return
    filesystem, _ = open_filesystem(root)
    forgotten = pa.array(list(keys), pa.string())
    for folder, paths in _by_folder(root, dataset, stage).items():
        parts = list(_read_parts(filesystem, paths, lenient=False))
        if not parts:
            continue
        table = pa.concat_tables(table for _, table in parts)
        named = pc.is_in(table.column("key"), value_set=forgotten)
        if pc.any(named).as_py():
            table = table.filter(pc.invert(named)).combine_chunks()
            _replace_parts(filesystem, folder, [path for path, _ in parts], table)


def _replace_parts(
    filesystem: fsspec.AbstractFileSystem, folder: str, parts: Collection[str], table: pa.Table
) -> None:
    """Write one part, read it back, and only then delete the parts that it replaces."""
    path = f"{folder}/part-compact{uuid.uuid4().hex[:12]}-00000.parquet"
    put_file(filesystem, path, _dumped(table))
    if not _read(filesystem, path).equals(table):
        filesystem.rm_file(path)
        raise ManifestDamaged(f"{path} was read back with different content; the old parts are kept")
    for part in parts:
        with suppress(FileNotFoundError):  # another process compacts too
            filesystem.rm_file(part)


def datasets(root: str) -> list[str]:
    """Return the datasets that have manifests."""
    return _folders(root, "manifests")


def stages(root: str, dataset: str) -> list[str]:
    """Return the stages that have a manifest."""
    return _folders(root, f"manifests/{dataset}")


def _parts(root: str, dataset: str, stage: str, lenient: bool) -> Iterator[tuple[str, pa.Table]]:
    """Yield the path and the rows of every part, sorted by path."""
    filesystem, _ = open_filesystem(root)
    read: set[str] = set()
    remaining = _paths(root, dataset, stage)
    while remaining:
        read.update(remaining)
        found = 0
        for part in _read_parts(filesystem, remaining, lenient):
            found += 1
            yield part
        # Compacted since the listing: rows of the missing parts are in a new one.
        again = found < len(remaining)
        remaining = [path for path in _paths(root, dataset, stage) if path not in read] if again else []


def _read_parts(
    filesystem: fsspec.AbstractFileSystem, paths: Iterable[str], lenient: bool
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the path and the rows of those of the parts that are there and, if lenient, can be read."""
    for path in paths:
        try:
            table = _read(filesystem, path)
        except FileNotFoundError:
            continue
        except (pa.ArrowInvalid, OSError) as error:
            if not lenient:
                raise ManifestDamaged(
                    f"manifest part {path} cannot be read: {error}; delete it if it is incomplete: "
                    "artifacts, not manifests, decide what is done"
                ) from error
            logger.warning("manifest part %s cannot be read and is skipped: %s", path, error)
            continue
        yield path, table


def _paths(root: str, dataset: str, stage: str) -> list[str]:
    filesystem, base = open_filesystem(root)
    folder = f"{base}/manifests/{dataset}/{stage}"
    filesystem.invalidate_cache()
    found = list_files(filesystem, folder)
    for place in found[:]:
        if SHARE.fullmatch(place[place.rindex("/") + 1 :]):  # a local folder; other storage lists all below
            found += list_files(filesystem, place)
    return sorted(path for path in found if path.endswith(".parquet"))


def _by_folder(root: str, dataset: str, stage: str) -> dict[str, list[str]]:
    """Return folder -> paths of its parts."""
    folders: dict[str, list[str]] = {}
    for path in _paths(root, dataset, stage):
        folders.setdefault(path[: path.rindex("/")], []).append(path)
    return folders


def _read(filesystem: fsspec.AbstractFileSystem, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(filesystem.cat_file(path)), schema=SCHEMA)


def _dumped(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _folders(root: str, below: str) -> list[str]:
    filesystem, base = open_filesystem(root)
    folder = f"{base}/{below}"
    filesystem.invalidate_cache()
    if not filesystem.exists(folder):
        return []
    return sorted(entry.rstrip("/").rsplit("/", 1)[1] for entry in filesystem.ls(folder, detail=False))
