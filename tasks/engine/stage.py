"""What a stage is, what it works on and what comes of it. Nothing here knows where a stage runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter

Status = Literal["ok", "reused", "error", "quarantined", "dropped", "blocked"]
PARENT_FAULTS = frozenset({"ArtifactMissing", "ArtifactDamaged"})  # error types that are not the item's own


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs; fractions share a GPU."""

    cpus: float = 1.0
    gpus: float = 0.0
    bundles: int = 1  # more: in so many equal parts, each on one node, for processes that the stage starts


@dataclass(frozen=True)
class Item:
    """One artifact to make: a clip, or a clip along a trajectory."""

    clip_id: str
    name: str  # unique in its stage: "bmx/003" or "bmx/003@orbit_right_20"
    key: str
    inputs: Mapping[str, str] = field(default_factory=dict)  # parent stage, or stage/number -> parent key
    params: Mapping[str, Any] = field(default_factory=dict)


def parent_stage(name: str) -> str:
    """Return the stage of an input: of `fill/1`, the second of several from one stage, it is `fill`."""
    return name.partition("/")[0]


class Stage(Protocol):
    """One step of the pipeline; light to pickle until `setup` has run on a worker."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Raised when the same inputs give other bytes."""
        ...

    @property
    def resources(self) -> Resources: ...

    @property
    def config(self) -> BaseModel:
        """The frozen part of the configuration that the stage reads."""
        ...

    def setup(self) -> None:
        """Load models, once a worker."""
        ...

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        """Make one artifact from its parents' and return its metrics; raise to fail this item alone."""
        ...


class ClipStage(Stage, Protocol):
    """A stage over clips, or over clips and trajectories, that says what its artifacts depend on."""

    @property
    def parents(self) -> tuple[str, ...]: ...

    @property
    def per_trajectory(self) -> bool: ...

    def identity(self, clip: Clip, trajectory: TrajectoryConfig | None) -> Mapping[str, Any]:
        """Return what, beside the configuration and the parents, decides the artifact's bytes."""
        ...


class TransientError(RuntimeError):
    """A failure that trying again may mend, such as throttled storage."""


class WorkerLost(RuntimeError):
    """A process that works on an item has died; trying again may mend it."""


@dataclass(frozen=True)
class Outcome:
    """What came of one item. Workers return it; they never raise."""

    item: str
    clip_id: str
    key: str
    stage: str
    status: Status
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    attempts: int = 1
    seconds: float = 0.0
    bytes: int = 0
    device: str = ""
    vram_peak_mb: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Return whether the artifact is there."""
        return self.status in ("ok", "reused")
