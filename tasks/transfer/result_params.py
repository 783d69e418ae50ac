"""A transferred result as a clip: what the stages of a recapture read in place of a filmed one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.transfer.params import TransferParams


@dataclass(frozen=True)
class ResultParams(ClipParams):
    """A result, or a result along a trajectory. clip: the target that it was made of."""

    transfer: TransferParams | None = None

    def __post_init__(self) -> None:
        name = self.made.name
        object.__setattr__(self, "name", f"{name}@{self.trajectory.label}" if self.trajectory else name)

    @property
    def made(self) -> TransferParams:
        """Return the item that made the result."""
        assert self.transfer is not None
        return self.transfer

    @property
    def label(self) -> str:
        """Return the name of the result among those of the target: a folder."""
        return f"{self.made.label}/{self.trajectory.label}" if self.trajectory else self.made.label

    def sources(self, parent: str) -> Sequence[str]:
        return () if parent == "cameras" else (self.name, self.made.name)
