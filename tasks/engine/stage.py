"""The contract of stages: stage, item and outcome. Nothing here knows where a stage runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from recapture.conf.section import Section
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.keys import content_keys
from recapture.datasets.store.writer import ArtifactWriter

Status = Literal["ok", "reused", "expected", "error", "quarantined", "dropped", "blocked"]
NO_SETTINGS: Mapping[str, Any] = {}
# Errors that the item did not cause: the next run makes the parent again, or plans with what is there now.
PARENT_FAULTS = frozenset({"ArtifactMissing", "ArtifactDamaged", "InputChanged"})


@dataclass(frozen=True)
class Resources:
    """Resources of one worker of a stage; fractions share a GPU."""

    cpus: float = 1.0
    gpus: float = 0.0
    bundles: int = 1  # more than 1: equal parts, each on one node, for processes that the stage starts

    @property
    def weight(self) -> tuple[float, float, int]:
        """Return what sorts kinds of workers from the lightest to the heaviest."""
        return (self.gpus, self.cpus, self.bundles)


class Params(Protocol):
    """The subject of one item of a stage, such as a clip and a trajectory."""

    @property
    def clip_id(self) -> str: ...

    @property
    def name(self) -> str:
        """Return the item's name, unique in its stage."""
        ...

    def sources(self, parent: str) -> Sequence[str]:
        """Return candidate names of its item in a parent stage; the first that was planned is its input."""
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
    params: P_co = None  # type: ignore[assignment]  # the subject of the item, of the type that its stage takes
    planned: bool = False  # whether the key is `PlannedStage.key_of` what was there at the time of the plan


def parent_stage(name: str) -> str:
    """Return the stage of an input: `fill` for `fill/1`, the second of several inputs from one stage."""
    return name.partition("/")[0]


class Stage(Protocol[P_contra]):
    """One step of the pipeline as a worker sees it; small to pickle until `setup` has run."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Increment this whenever the same inputs would produce different output."""
        ...

    @property
    def resources(self) -> Resources: ...

    @property
    def slots(self) -> int:
        """Return how many items one worker may work on at once; more than 1 needs `conf.turn`."""
        ...

    @property
    def parents(self) -> Sequence[str]:
        """Return the stages that it reads."""
        ...

    @property
    def reads(self) -> Mapping[str, str]:
        """Return parent -> the stage whose artifact stands in for it."""
        ...

    @property
    def timeout_seconds(self) -> float | None:
        """Return how long an item may make no progress; None: as the job says."""
        ...

    @property
    def places(self) -> Sequence[str]:
        """Return files and folders, besides the dataset, that items read from; see `outage.blame`."""
        ...

    def check_inputs(self, params: P_contra) -> None:
        """Raise InputChanged if a file that is not in the key's other parts has changed since the plan."""
        ...

    def setup(self) -> None:
        """Load models, once per worker."""
        ...

    def run(
        self, item: Item[P_contra], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        """Make one artifact from its parents' and return its metrics; raise to fail this item alone."""
        ...


@runtime_checkable
class InParts(Protocol[P_contra]):
    """A stage whose longer items consist of parts that workers can make independently of each other."""

    @property
    def name(self) -> str: ...

    @property
    def resources(self) -> Resources: ...

    def most_parts(self, item: Item[P_contra]) -> int:
        """Return how many parts an item may have, as far as the plan knows."""
        ...

    def parts(self, item: Item[P_contra], inputs: Mapping[str, Artifact]) -> Sequence[str]:
        """Return the names of the parts in the order in which `run` makes them; none for one in one piece."""
        ...

    def run_part(
        self, item: Item[P_contra], inputs: Mapping[str, Artifact], name: str, output: ArtifactWriter
    ) -> None:
        """Make one part; `run` takes it from the `parts` of its own output instead of making it."""
        ...


@dataclass(kw_only=True)
class PlannedStage(ABC, Generic[P]):
    """A stage that declares what its artifacts are made from, so that a planner can give them their keys.

    A key is the hash of name, version, `settings`, the keys of the inputs, and `identity`. Subclasses add
    the settings that they read, and `run`.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"  # increment this whenever the same inputs would produce different output
    parents: ClassVar[tuple[str, ...]] = ()
    resources: Resources = Resources()
    reads: Mapping[str, str] = field(default_factory=dict)  # parent -> the stage that stands in for it
    also: tuple[str, ...] = ()  # stages that are read besides, for items for which they were planned

    @property
    def slots(self) -> int:
        """Return how many items one worker may work on at once: 1, unless the stage takes turns."""
        return 1

    @property
    def timeout_seconds(self) -> float | None:
        """Return how long an item may make no progress; None: as the job says."""
        return None

    @property
    def places(self) -> Sequence[str]:
        """Return files and folders, besides the dataset, that items read from; none by default."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Return warnings for the log, before the stage runs, and for the summary; none by default."""
        return ()

    def settings(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the part of the configuration that determines the bytes; none by default.

        Return the same object for items with the same settings: the planner then serialises it only once.
        """
        return NO_SETTINGS

    def identity(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        """Return what determines the bytes besides the settings and the parents."""
        return {}

    def follows(self, params: Sequence[P]) -> Mapping[str, Sequence[str]]:
        """Return item name -> names of the items of this stage that are made before it and are its inputs.

        `run` gets their artifacts, and those of their own parents, as STAGE/0, STAGE/1, ...; an item that
        could not be made is left out. An empty mapping: items do not depend on each other.
        """
        return {}

    def key_of(self, params: P, inputs: Mapping[str, str]) -> str:
        """Return the content key of an item, from what its files are now."""
        key = content_keys(self.name, self.version, self.settings(params, inputs))
        return key(inputs, self.identity(params, inputs))

    def check_inputs(self, params: P) -> None:
        """Raise InputChanged if a file that the plan has hashed once for all has changed; check nothing."""

    def setup(self) -> None:
        """Load nothing."""

    @abstractmethod
    def run(self, item: Item[P], inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        """Make one artifact from its parents' and return its metrics; raise to fail this item alone."""


@dataclass
class ConfiguredStage(PlannedStage[P]):
    """A stage with one section of the configuration, all of which determines its bytes."""

    config: Section

    def settings(self, params: P, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return self._keyed

    @cached_property
    def _keyed(self) -> Mapping[str, Any]:
        return self.config.keyed()


class InputChanged(RuntimeError):
    """A file is not what it was when the job was planned: its artifact would have another key."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} changed since the job was planned; run the job again")


class WorkerLost(RuntimeError):
    """A process that works on an item has died; a retry may succeed."""


@dataclass(frozen=True)
class Outcome:
    """The result of one item. Workers return it; they never raise."""

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
    gpu_seconds: float = 0.0  # in turns on the GPU that the stage was given, see `conf.turn`
    bytes: int = 0
    device: str = ""
    vram_peak_mb: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    retriable: bool = False  # another attempt may help, whatever the type of its error

    @property
    def usable(self) -> bool:
        """Return whether the artifact exists, or is expected to exist."""
        return self.status in ("ok", "reused", "expected")
