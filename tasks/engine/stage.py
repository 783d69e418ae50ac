"""What a stage is, what it works on and what comes of it. Nothing here knows where a stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from recapture.conf.section import Section
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter

Status = Literal["ok", "reused", "expected", "error", "quarantined", "dropped", "blocked"]
PARENT_FAULTS = frozenset({"ArtifactMissing", "ArtifactDamaged"})  # error types that are not the item's own


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs; fractions share a GPU."""

    cpus: float = 1.0
    gpus: float = 0.0
    bundles: int = 1  # more: that many equal parts, each on one node, for processes that the stage starts


class Params(Protocol):
    """What one item of a stage is about."""

    @property
    def clip_id(self) -> str: ...

    @property
    def name(self) -> str:
        """Return the item's name, unique in its stage."""
        ...

    def sources(self, parent: str) -> Sequence[str]:
        """Return names that the item may have in a parent stage; the first that was planned is its input."""
        ...


P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)
P_contra = TypeVar("P_contra", contravariant=True)


@dataclass(frozen=True)
class Item(Generic[P_co]):
    """One artifact to make."""

    clip_id: str
    name: str  # unique in its stage: "bmx/003" or "bmx/003@orbit_right_20"
    key: str
    inputs: Mapping[str, str] = field(default_factory=dict)  # parent stage, or stage/number -> parent key
    params: P_co = None  # type: ignore[assignment]  # what the item is about, in the type of its stage


def parent_stage(name: str) -> str:
    """Return the stage of an input: of `fill/1`, the second of several from one stage, it is `fill`."""
    return name.partition("/")[0]


class Stage(Protocol[P_contra]):
    """One step of the pipeline as a worker sees it; light to pickle until `setup` has run."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Increment this whenever the same inputs would produce different output."""
        ...

    @property
    def resources(self) -> Resources: ...

    @property
    def reads(self) -> Mapping[str, str]:
        """Return parent -> the stage whose artifact stands in for it."""
        ...

    @property
    def timeout_seconds(self) -> float | None:
        """Return the time limit of one item; None: the job's."""
        ...

    def setup(self) -> None:
        """Load models, once per worker."""
        ...

    def run(
        self, item: Item[P_contra], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        """Make one artifact from its parents' and return its metrics; raise to fail this item alone."""
        ...


@dataclass(kw_only=True)
class PlannedStage(Generic[P]):
    """A stage that declares what its artifacts are made from, so that a planner can give them their keys.

    A key is the hash of name, version, `settings`, the keys of the inputs, and `identity`. Subclasses add
    what they read of the configuration, and `run`.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"  # increment this whenever the same inputs would produce different output
    parents: ClassVar[tuple[str, ...]] = ()
    resources: Resources = Resources()
    reads: Mapping[str, str] = field(default_factory=dict)  # parent -> the stage that stands in for it

    @property
    def timeout_seconds(self) -> float | None:
        """Return the time limit of one item; None: the job's."""
        return None

    def settings(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the part of the configuration that decides the bytes.

        Return the same object for items with the same settings: the planner then writes it down once.
        """
        raise NotImplementedError

    def identity(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        """Return what decides the bytes besides the settings and the parents."""
        return {}

    def follows(self, params: Sequence[P]) -> Mapping[str, Sequence[str]]:
        """Return item name -> names of the items that are made before it and are among its inputs.

        Their artifacts and those that they alone were made from are given as STAGE/0, STAGE/1, ...; an item
        that could not be made is left out. An empty mapping: items do not depend on each other.
        """
        return {}

    def setup(self) -> None:
        """Load nothing."""

    def run(self, item: Item[P], inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        """Make one artifact from its parents' and return its metrics; raise to fail this item alone."""
        raise NotImplementedError


@dataclass
class ConfiguredStage(PlannedStage[P]):
    """A stage with one section of the configuration, which decides its bytes as a whole."""

    config: Section

    def settings(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return self._keyed

    @cached_property
    def _keyed(self) -> Mapping[str, Any]:
        return self.config.keyed()


class TransientError(RuntimeError):
    """A failure that another try may overcome, such as throttled storage."""


class WorkerLost(RuntimeError):
    """A process that works on an item has died; another try may overcome it."""


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
        """Return whether the artifact exists, or is expected to."""
        return self.status in ("ok", "reused", "expected")
