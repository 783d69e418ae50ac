"""What a job leaves for its results page and for later comparisons: a record per run, beside the page.

Layout: {outputs}/{dataset}/_page/runs/{run}.json.gz; the newest KEPT of a dataset are kept.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from recapture.conf.errors import UserError
from recapture.datasets.store.storage import list_files, open_filesystem, put_file

KEPT = 20
FOLDER = "_page"
RUNS = f"{FOLDER}/runs"
VERSION = 1
DELIVERED, MISSING, DROPPED = "delivered", "missing", "dropped"
BASELINES, UNPASTED = ("copy_source", "classical"), "_unpasted"


@dataclass
class Videos:
    """The wanted videos of a job, column by column: all lists have the same length."""

    clip: list[str] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)  # of the delivered artifact; empty if there is none
    status: list[str] = field(default_factory=list)  # DELIVERED, MISSING or DROPPED
    reason: list[str] = field(default_factory=list)  # why there is none
    metrics: dict[str, list[float | None]] = field(default_factory=dict)  # METHOD/METRIC -> values

    def __len__(self) -> int:
        return len(self.clip)

    def add(
        self, clip: str, label: str, key: str, status: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Add a video."""
        count = len(self)
        for column, value in zip(
            (self.clip, self.label, self.key, self.status, self.reason), (clip, label, key, status, reason)
        ):
            column.append(value)
        for name, number in metrics.items():
            measured = self.metrics.setdefault(name, [])
            measured += [None] * (count - len(measured))
            measured.append(None if math.isnan(number) else number)

    def of_clips(self) -> Iterator[tuple[str, list[int]]]:
        """Yield each clip with the places of its videos, in the order of the clips."""
        places: dict[str, list[int]] = {}
        for at, clip in enumerate(self.clip):
            places.setdefault(clip, []).append(at)
        yield from places.items()

    def value(self, name: str, at: int) -> float | None:
        """Return a measurement of one video; None if it has none."""
        column = self.metrics.get(name, ())
        return column[at] if at < len(column) else None

    @property
    def methods(self) -> list[str]:
        """Return the methods that were measured, that of the results first."""
        found = list(dict.fromkeys(name.partition("/")[0] for name in self.metrics))
        return sorted(found, key=lambda one: (one in BASELINES, one.endswith(UNPASTED)))


@dataclass
class Report:
    """One job, or the jobs of all shares of a dataset: what ran, what is missing, what was measured."""

    run: str
    flow: str
    dataset: str
    ended: str  # ISO 8601, UTC
    seconds: float
    clips: int
    wanted: int
    delivered: int
    share: str | None = None
    mlflow_run: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""  # YAML
    files: Sequence[str] = ()  # of every video's folder, the video first
    stages: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)  # item, stage, error
    videos: Videos = field(default_factory=Videos)
    pages: dict[str, str] = field(default_factory=dict)  # clip -> digest of its page as it was written

    def dump(self) -> bytes:
        """Return the record as compressed JSON; the same report gives the same bytes."""
        text = json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":"))
        return gzip.compress(text.encode(), compresslevel=5, mtime=0)

    @classmethod
    def load(cls, content: bytes) -> Report:
        """Read what `dump` wrote; raises ValueError for anything else."""
        given = json.loads(gzip.decompress(content))
        if not isinstance(given, dict) or given.pop("version", None) != VERSION:
            raise ValueError("it is of another version")
        try:
            return cls(**{**given, "videos": Videos(**given["videos"])})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


def write_record(root: str, report: Report) -> None:
    """Write the record of a run below root, OUTPUTS/DATASET, and delete all but the newest."""
    filesystem, base = open_filesystem(root)
    put_file(filesystem, f"{base}/{RUNS}/{_file(report)}", report.dump())
    for old in sorted(_paths(root))[:-KEPT]:
        with suppress(FileNotFoundError):
            filesystem.rm_file(old)


def run_names(root: str) -> list[str]:
    """Return the runs that have a record, the newest first."""
    return [_run(path) for path in sorted(_paths(root), reverse=True)]


def read_record(root: str, run: str | None = None) -> Report:
    """Return the record of a run, by its beginning, or of the newest one, with those of other shares.

    Raises UserError if there is none, if several begin so, or if it cannot be read.
    """
    paths = sorted(_paths(root), reverse=True)
    if not paths:
        raise UserError(f"{root} has no record of a job; `recapture run` writes one with its results page")
    if run is None:
        newest = _read(root, paths[0])
        return newest if newest.share is None else _of_all_shares(root, newest, paths[1:])
    found = [path for path in paths if _run(path).startswith(run)]
    if len(found) != 1:
        known = ", ".join(_run(path) for path in paths)
        many = f"{len(found)} runs begin with" if found else "there is no record of"
        raise UserError(f"{many} {run!r} in {root}; choose one of {known}")
    return _read(root, found[0])


def _of_all_shares(root: str, newest: Report, others: Sequence[str]) -> Report:
    """Join the newest report of each share of as many."""
    joined, seen = newest, {newest.share}
    of = str(newest.share).partition("/")[2]
    for path in others:
        one = _read(root, path)
        if one.share is not None and one.share.partition("/")[2] == of and one.share not in seen:
            seen.add(one.share)
            joined = _joined(joined, one)
    return joined


def _joined(one: Report, other: Report) -> Report:
    videos = Videos()
    for part in (one.videos, other.videos):
        for at in range(len(part)):
            values = {name: part.value(name, at) for name in part.metrics}
            measured = {name: value for name, value in values.items() if value is not None}
            given = (part.clip[at], part.label[at], part.key[at], part.status[at], part.reason[at])
            videos.add(*given, measured)
    stages = {row["stage"]: dict(row) for row in one.stages}
    for row in other.stages:
        mine = stages.setdefault(row["stage"], {"stage": row["stage"]})
        for name, value in row.items():
            if name != "stage":
                mine[name] = mine.get(name, 0) + value
    return replace(
        one,
        share=None,
        seconds=one.seconds + other.seconds,
        clips=one.clips + other.clips,
        wanted=one.wanted + other.wanted,
        delivered=one.delivered + other.delivered,
        stages=list(stages.values()),
        warnings=one.warnings + other.warnings,
        failures=one.failures + other.failures,
        videos=videos,
        pages=one.pages | other.pages,
    )


def _read(root: str, path: str) -> Report:
    filesystem, _ = open_filesystem(root)
    try:
        return Report.load(filesystem.cat_file(path))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}; delete it, and run the job again") from error


def _paths(root: str) -> list[str]:
    filesystem, base = open_filesystem(root)
    filesystem.invalidate_cache()
    return [path for path in list_files(filesystem, f"{base}/{RUNS}") if path.endswith(".json.gz")]


def _file(report: Report) -> str:
    """Name the file by time, so that files in the order of their names are in the order of time."""
    return f"{report.ended.replace(':', '').replace('-', '')}-{report.run}.json.gz"


def _run(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json.gz").rpartition("-")[2]
