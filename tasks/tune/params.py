"""The subjects of tuning items: a clip's pairs of a round, one training, one measurement of the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recapture.datasets.clips.clip import Clip
from recapture.models.tuning.curriculum import Round

DATASET = "dataset"  # in place of a clip id if an adapter is for all clips


@dataclass(frozen=True)
class PairsParams:
    """The pairs of one clip and round."""

    clip: Clip
    number: int  # of the round
    angles: Round
    adapter: str = ""  # name of the training whose adapter recaptures the clip; "": none

    @property
    def clip_id(self) -> str:
        return self.clip.id

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the item reads besides artifacts."""
        return self.clip.files

    @property
    def name(self) -> str:
        return f"{self.clip.id}@round-{self.number}"

    def sources(self, parent: str) -> Sequence[str]:
        return _sources(parent, self.clip, self.adapter)


@dataclass(frozen=True)
class PairsKey:
    """An artifact of pairs that a training learns from."""

    key: str
    judges: bool  # whether its held-out pairs are used; they determine when to stop


@dataclass(frozen=True)
class TrainingParams:
    """One training: of an adapter for a clip, or for all of them."""

    clip_id: str  # or DATASET
    number: int  # of the round
    steps: int
    pairs: tuple[PairsKey, ...]
    adapter: str = ""  # name of the training whose adapter is trained further; "": a new one

    @property
    def name(self) -> str:
        return f"{self.clip_id}@round-{self.number}"

    @property
    def label(self) -> str:
        """Return the prefix of its metrics' names."""
        return "" if self.clip_id == DATASET else f"{self.clip_id}/"

    def sources(self, parent: str) -> Sequence[str]:
        return (self.adapter,) if self.adapter else ()


@dataclass(frozen=True)
class ExploreParams:
    """The measurement of one clip at one angle."""

    clip: Clip
    label: str  # base, round-N, tuned
    angle: float  # degrees of yaw
    adapter: str = ""  # name of the training whose adapter is measured; "": the base itself

    @property
    def clip_id(self) -> str:
        return self.clip.id

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the item reads besides artifacts."""
        return self.clip.files

    @property
    def name(self) -> str:
        return f"{self.clip.id}@{self.label}-{self.angle:g}"

    def sources(self, parent: str) -> Sequence[str]:
        return _sources(parent, self.clip, self.adapter)


def _sources(parent: str, clip: Clip, adapter: str) -> Sequence[str]:
    if parent == "tune":
        return (adapter,) if adapter else ()
    return (clip.id,)
