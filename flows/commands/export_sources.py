"""What `recapture export` writes: the artifacts in the store that belong together, clip by clip."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recapture.conf.errors import UserError
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.dataframes import manifest

SHOWN = 5  # names that an error lists
Row = Mapping[str, Any]


@dataclass(frozen=True)
class ClipSources:
    """The artifacts of a clip: those of its own view by stage, and render and fill by trajectory."""

    clip: str
    inputs: Mapping[str, Artifact]
    filmed: Mapping[str, tuple[Artifact, Artifact | None]] = field(default_factory=dict)
    left_out: Sequence[str] = ()  # trajectories that were filmed from something else

    def keys(self) -> dict[str, str]:
        """Return the keys of all artifacts by stage, with the trajectory where there is one."""
        keys = {stage: artifact.key for stage, artifact in self.inputs.items()}
        for name, made in self.filmed.items():
            keys |= {f"{one.stage}@{name}": one.key for one in made if one is not None}
        return keys


class StoredClips:
    """The finished artifacts of a dataset; the manifests are read once."""

    def __init__(self, store: str, dataset: str) -> None:
        """Read the manifests; raises UserError for a dataset without depth, naming those there are."""
        manifest(dataset, "depth", store=store)
        self._store, self._dataset = ArtifactStore(store), dataset
        self._rows = {
            stage: _finished(store, dataset, stage) for stage in ("depth", "cameras", "render", "fill")
        }

    def clips(self, pattern: str) -> list[str]:
        """Return the clips that match a glob; raises UserError if none does."""
        known = sorted({row["clip_id"] for row in self._rows["depth"]})
        chosen = [clip for clip in known if fnmatch.fnmatchcase(clip, pattern)]
        if not chosen:
            raise UserError(
                f"dataset {self._dataset!r} has no clip with finished depth that matches {pattern!r}; "
                f"it has {_some(known)}"
            )
        return chosen

    def check_trajectories(self, clips: Sequence[str], patterns: Sequence[str]) -> None:
        """Raise UserError for a glob that no trajectory of these clips matches."""
        known = sorted({_label(row) for row in self._rows["render"] if row["clip_id"] in clips})
        for pattern in patterns:
            if not fnmatch.filter(known, pattern):
                raise UserError(
                    f"dataset {self._dataset!r} has no finished render of a trajectory that matches "
                    f"{pattern!r} in these clips; it has {_some(known)}"
                )

    def open(self, clip: str, patterns: Sequence[str]) -> ClipSources:
        """Return the newest artifacts of a clip that belong together, and what else does not.

        The newest render says from which frames, depth and cameras; without renders, the newest depth does.
        Raises ValueError if they are no longer in the store.
        """
        renders = [row for row in self._rows["render"] if row["clip_id"] == clip]
        newest = next(
            (found for row in reversed(renders) if (found := self._inputs(row["parent_keys"]))), None
        )
        inputs = newest or self._of_depth(clip)
        wanted = {artifact.key for artifact in inputs.values()}
        filmed, others = dict[str, tuple[Artifact, Artifact | None]](), set[str]()
        for row in renders:
            label = _label(row)
            if not any(fnmatch.fnmatchcase(label, pattern) for pattern in patterns):
                continue
            opened = self._store.whole("render", [row["key"]])
            if wanted == set(row["parent_keys"]) and opened:
                filmed[label] = (opened[row["key"]], self._fill(row["key"]))
            else:
                others.add(label)
        return ClipSources(clip, inputs, dict(sorted(filmed.items())), sorted(others - filmed.keys()))

    def _of_depth(self, clip: str) -> dict[str, Artifact]:
        row = [row for row in self._rows["depth"] if row["clip_id"] == clip][-1]
        base = {row["key"], *row["parent_keys"]}
        estimates = [one["key"] for one in self._rows["cameras"] if base <= set(one["parent_keys"])]
        found = self._inputs([*base, *estimates[-1:]])
        if not found:
            raise ValueError("its frames or depth are no longer in the store; run the job again")
        return found

    def _inputs(self, keys: Iterable[str]) -> dict[str, Artifact]:
        """Return ingest, depth, and cameras where they are, among the keys; nothing if one is missing."""
        found = dict[str, Artifact]()
        for stage in ("ingest", "depth", "cameras"):
            for artifact in self._store.whole(stage, keys).values():
                found[stage] = artifact
        return found if found.keys() >= {"ingest", "depth"} else {}

    def _fill(self, render: str) -> Artifact | None:
        keys = [row["key"] for row in self._rows["fill"] if render in row["parent_keys"]]
        opened = self._store.whole("fill", keys[-1:])
        return next(iter(opened.values()), None)


def _finished(store: str, dataset: str, stage: str) -> list[Row]:
    """Return the newest row of every finished artifact of a stage, the oldest first; none if it never ran."""
    rows = read_manifest(store, dataset, stage).values()
    done = [row for row in rows if row["status"] in ("ok", "reused")]
    return sorted(done, key=lambda row: row["created_at"])


def _label(row: Row) -> str:
    return str(row["item"]).removeprefix(str(row["clip_id"])).removeprefix("@")


def _some(names: Sequence[str]) -> str:
    return (", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")) or "none"
