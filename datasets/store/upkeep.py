"""Find artifacts that manifests promise but the store lacks, and artifacts that no manifest needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from recapture.datasets.store.artifact import META
from recapture.datasets.store.errors import ArtifactDamaged, ArtifactMissing
from recapture.datasets.store.lease import leases
from recapture.datasets.store.manifest import datasets, forget, read_manifest, stages
from recapture.datasets.store.storage import changed_at, open_filesystem, raising_storage_faults
from recapture.datasets.store.store import ArtifactStore


@dataclass(frozen=True)
class Problem:
    """An artifact that a manifest promises and that is missing or damaged."""

    stage: str
    key: str
    item: str
    what: Literal["missing", "damaged"]
    message: str


Reason = Literal[
    "named by no manifest",
    "never finished",
    "left over from a write",
    "made with other settings",
    "lease of a killed job",
    "scan not used for 90 days",
]
UNUSED = 90 * 86400.0  # seconds; scans that are used are written once a week


@dataclass(frozen=True)
class Garbage:
    """Something below objects/ that nothing needs; stage and key are empty for a single leftover file."""

    path: str
    stage: str
    key: str
    bytes: int
    why: Reason
    dataset: str = ""  # whose manifest names it, if any does


def verify(root: str, dataset: str) -> Iterator[tuple[str, int, list[Problem]]]:
    """Yield each stage of a dataset's manifests, how many artifacts it promises, and their problems.

    Reads every byte of every artifact. Raises ManifestDamaged for a manifest that cannot be read.
    """
    store = ArtifactStore(root)
    for stage in stages(root, dataset):
        rows = read_manifest(root, dataset, stage, lenient=False)
        promised = {key: row["item"] for key, row in rows.items() if row["status"] in ("ok", "reused")}
        found = (_examine(store, stage, key, item) for key, item in promised.items())
        yield stage, len(promised), [problem for problem in found if problem is not None]


def garbage(root: str, older_than_hours: float) -> list[Garbage]:
    """Find what no manifest of any dataset names, was never finished, or was left over by a killed writer.

    Kept is whatever changed within the last `older_than_hours`, or since a job began that runs or was killed
    within these hours (see `lease`): a job records its artifacts only at the end of a shard. So is everything
    without a modification time. Raises ManifestDamaged for a
    manifest that cannot be read, because what it names would be lost.
    """
    limit = _limit(root, older_than_hours)
    folders = _folders(root)  # before the manifests, so that concurrent commits are kept
    named = {
        (stage, key)
        for dataset in datasets(root)
        for stage in stages(root, dataset)
        for key in read_manifest(root, dataset, stage, lenient=False)
    }
    found = [
        Garbage(one.path, "", "", 0, "lease of a killed job")
        for one in leases(root)
        if not one.protects(older_than_hours)
    ]
    for (stage, key), files in folders.items():
        folder = files[0].path.rpartition("/")[0]
        whole = any(file.name == META for file in files)
        if max(file.changed for file in files) < limit and not (whole and (stage, key) in named):
            why: Reason = "named by no manifest" if whole else "never finished"
            found.append(Garbage(folder, stage, key, sum(file.bytes for file in files), why))
            continue
        found += [
            Garbage(file.path, "", "", file.bytes, "left over from a write")
            for file in files
            if file.name.startswith(".") and file.changed < limit
        ]
    found += _old_scans(root, limit)
    return sorted(found, key=lambda item: item.path)


def _limit(root: str, older_than_hours: float) -> float:
    """Return the moment from which on everything is kept, in seconds since 1970."""
    by_age = datetime.now(UTC).timestamp() - older_than_hours * 3600
    return min([by_age, *(one.started for one in leases(root) if one.protects(older_than_hours))])


def superseded(
    root: str, dataset: str, needed: Mapping[str, Collection[str]], older_than_hours: float
) -> list[Garbage]:
    """Find finished artifacts of a dataset that are not needed and that no other dataset names.

    needed: stage -> keys; stages that are not in it are left alone. Kept is whatever `garbage` keeps for its
    age. Raises ManifestDamaged like garbage.
    """
    others = {
        (stage, key)
        for other in datasets(root)
        if other != dataset
        for stage in stages(root, other)
        for key in read_manifest(root, other, stage, lenient=False)
    }
    old = {
        (stage, key)
        for stage in set(stages(root, dataset)) & needed.keys()
        for key in read_manifest(root, dataset, stage, lenient=False).keys() - set(needed[stage])
    }
    limit = _limit(root, older_than_hours)
    return [
        Garbage(
            path=files[0].path.rpartition("/")[0],
            stage=stage,
            key=key,
            bytes=sum(file.bytes for file in files),
            why="made with other settings",
            dataset=dataset,
        )
        for (stage, key), files in sorted(_folders(root).items())
        if (stage, key) in old - others and max(file.changed for file in files) < limit
    ]


def remove_superseded(root: str, found: Sequence[Garbage]) -> None:
    """Delete what superseded found: first the manifests' rows, so that none promises a missing artifact."""
    for dataset, stage in sorted({(item.dataset, item.stage) for item in found}):
        forget(root, dataset, stage, {item.key for item in found if item.stage == stage})
    for item in found:
        remove(root, item)


def remove(root: str, item: Garbage) -> None:
    """Delete one piece of garbage."""
    if item.key:
        ArtifactStore(root).delete(item.stage, item.key)
        return
    filesystem, _ = open_filesystem(root)
    if filesystem.exists(item.path):
        filesystem.rm_file(item.path)


@dataclass(frozen=True)
class _File:
    path: str
    name: str
    bytes: int
    changed: float  # seconds since 1970


def _old_scans(root: str, limit: float) -> Iterator[Garbage]:
    """Yield what is remembered of datasets that nobody scans any more, and left-overs beside it."""
    filesystem, base = open_filesystem(root)
    folder, unused = f"{base}/scans", min(limit, datetime.now(UTC).timestamp() - UNUSED)
    if not filesystem.exists(folder):
        return
    for entry in filesystem.ls(folder, detail=True):
        path, changed = entry["name"], changed_at(entry)
        if path.rpartition("/")[2].startswith(".") and changed < limit:
            yield Garbage(path, "", "", int(entry["size"]), "left over from a write")
        elif changed < unused:
            yield Garbage(path, "", "", int(entry["size"]), "scan not used for 90 days")


def _examine(store: ArtifactStore, stage: str, key: str, item: str) -> Problem | None:
    try:
        artifact = store.open(stage, key)
        for name in artifact.names():
            artifact.read_bytes(name)
    except ArtifactMissing as error:
        return Problem(stage, key, item, "missing", str(error))
    except ArtifactDamaged as error:
        return Problem(stage, key, item, "damaged", str(error))
    return None


def _folders(root: str) -> dict[tuple[str, str], list[_File]]:
    """Return (stage, key) -> the files in that artifact's folder."""
    filesystem, base = open_filesystem(root)
    filesystem.invalidate_cache()
    top = f"{base}/objects"
    if not filesystem.exists(top):
        return {}
    with raising_storage_faults(top, writing=False):
        listing = filesystem.find(top, detail=True)
    folders: dict[tuple[str, str], list[_File]] = {}
    for path, entry in listing.items():
        steps = path[len(top) :].strip("/").split("/")
        if len(steps) == 4:  # stage / first letters of the key / key / file
            file = _File(path, steps[3], int(entry["size"]), changed_at(entry))
            folders.setdefault((steps[0], steps[2]), []).append(file)
    return folders
