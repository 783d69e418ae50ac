"""Publishing: copies of delivered artifacts in a folder for people, under the clips' own names.

A folder's record, recapture.json, is a promise that the files beside it are those of one artifact, complete.
So it is removed before anything else changes and written last; a job that is killed at any step leaves a
folder without a record, and the next run makes it whole. What was published is remembered meanwhile in a
hidden file, so that a user's own files in the folder are never touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beat
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.storage import StoreBusy, file_sizes, open_filesystem, put_file, put_path
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.stage import Item

RECORD = "recapture.json"
UNFINISHED = ".recapture.json"  # names of the files that may be there while there is no record
OURS = (".mp4", ".png")  # files of a folder that says nothing about its own: an earlier version wrote it
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}")  # of `put_path`


def publish(
    stage: str,
    items: Iterable[Item],
    metrics: Mapping[str, Mapping[str, float]],
    store: ArtifactStore,
    outputs: str,
) -> int:
    """Bring `outputs`/CLIP/TRAJECTORY/ up to date with a stage's artifacts; return how many were written.

    metrics: item name -> its measurements. A folder is not touched if its recapture.json has the same key,
    metrics and files, and each file its size.
    """
    filesystem, root = open_filesystem(outputs)
    present, written = _listing(filesystem, root), 0
    for item in items:
        beat()
        folder = f"{root}/{item.clip_id}/{item.params.label}"
        record = _record(item, metrics.get(item.name, {}))
        written += _brought_up_to_date(filesystem, folder, present(folder), stage, item, record, store)
    return written


def publish_one(
    stage: str, item: Item, metrics: Mapping[str, float], store: ArtifactStore, outputs: str
) -> bool:
    """Bring the folder of one artifact up to date as `publish` does; return whether it was written."""
    filesystem, root = open_filesystem(outputs)
    folder = f"{root}/{item.clip_id}/{item.params.label}"
    sizes = file_sizes(filesystem, folder)
    return _brought_up_to_date(filesystem, folder, sizes, stage, item, _record(item, metrics), store)


def _record(item: Item, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "clip": item.clip_id,
        **item.params.record,
        "key": item.key,
        "metrics": dict(metrics),
    }


def _brought_up_to_date(
    filesystem: fsspec.AbstractFileSystem,
    folder: str,
    sizes: Mapping[str, int],
    stage: str,
    item: Item,
    record: Mapping[str, Any],
    store: ArtifactStore,
) -> bool:
    earlier = _read(filesystem, f"{folder}/{RECORD}")
    files = earlier.get("files", {}) if isinstance(earlier, dict) else {}
    told = {"files": files, **({"caption": earlier["caption"]} if files and "caption" in earlier else {})}
    unchanged = bool(files) and _same(earlier, {**record, **told})
    if unchanged and files.items() <= sizes.items() and UNFINISHED not in sizes:
        return False
    artifact = store.open(stage, item.key)
    told = {"files": artifact.sizes()}
    if "caption" in artifact.meta:
        told["caption"] = artifact.meta["caption"]
    _write(filesystem, folder, artifact, {**record, **told}, earlier, sizes)
    return True


def _write(
    filesystem: fsspec.AbstractFileSystem,
    folder: str,
    artifact: Artifact,
    record: Mapping[str, Any],
    earlier: Any,
    present: Mapping[str, int],
) -> None:
    """Replace what was published in a folder by an artifact's files."""
    wanted = set(record["files"])
    owned = wanted | _published(earlier, _read(filesystem, f"{folder}/{UNFINISHED}"), present)
    filesystem.makedirs(folder, exist_ok=True)
    put_file(filesystem, f"{folder}/{UNFINISHED}", json.dumps(sorted(owned)).encode())
    _remove(filesystem, f"{folder}/{RECORD}")
    for name in present:
        parts = TEMPORARY.fullmatch(name)
        if name in owned - wanted or (parts and parts["name"] in owned | {RECORD, UNFINISHED}):
            _remove(filesystem, f"{folder}/{name}")
    for name in artifact.names():
        beat()
        with artifact.local_path(name) as path:
            put_path(filesystem, f"{folder}/{name}", Path(path))
    sizes = file_sizes(filesystem, folder)
    for name, size in record["files"].items():
        if sizes.get(name) != size:
            raise StoreBusy(
                f"{folder}/{name} has {sizes.get(name, 'no')} bytes after it was written, not {size}; "
                "run the job again"
            )
    put_file(filesystem, f"{folder}/{RECORD}", json.dumps(record, indent=2, sort_keys=True).encode())
    _remove(filesystem, f"{folder}/{UNFINISHED}")


def _published(earlier: Any, unfinished: Any, present: Iterable[str]) -> set[str]:
    """Return the names that earlier publications may have left in a folder."""
    if isinstance(unfinished, list):
        names = set(map(str, unfinished))
    elif isinstance(earlier, dict) and isinstance(earlier.get("files"), dict):
        names = set(earlier["files"])
    else:
        names = {name for name in present if name.endswith(OURS)}
    return names


def _listing(filesystem: fsspec.AbstractFileSystem, root: str) -> Callable[[str], Mapping[str, int]]:
    """Return a function from a folder to its files' sizes; storage over a network is listed only once."""
    if isinstance(filesystem, LocalFileSystem):
        return lambda folder: file_sizes(filesystem, folder)
    filesystem.invalidate_cache()
    folders: dict[str, dict[str, int]] = {}
    found = filesystem.find(root, detail=True) if filesystem.exists(root) else {}
    for path, entry in found.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = int(entry["size"])
    return lambda folder: folders.get(folder, {})


def _read(filesystem: fsspec.AbstractFileSystem, path: str) -> Any:
    """Return the content of a JSON file; None if there is none, or it cannot be read."""
    with suppress(FileNotFoundError, ValueError):
        return json.loads(filesystem.cat_file(path))
    return None


def _remove(filesystem: fsspec.AbstractFileSystem, path: str) -> None:
    with suppress(FileNotFoundError):
        filesystem.rm_file(path)


def _same(one: Any, other: Any) -> bool:
    """Return whether two records are equal, NaN included; much faster than comparing the published text."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
