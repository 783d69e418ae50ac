"""Stages over clips, and over clips along trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.reread import content_now
from recapture.tasks.clip.trajectory_file import TrajectoryFile
from recapture.tasks.engine.stage import ConfiguredStage, InputChanged


@dataclass(frozen=True)
class ClipParams:
    """A clip, or a clip along a trajectory."""

    clip: Clip
    trajectory: TrajectoryConfig | None = None
    file: TrajectoryFile | None = None  # what the plan found in the trajectory's file
    estimated: bool = False  # whether the cameras stage has an item for the clip
    name: str = field(init=False)  # CLIP, or CLIP@TRAJECTORY; stored, because plans read it often

    def __post_init__(self) -> None:
        name = f"{self.clip.id}@{self.trajectory.label}" if self.trajectory else self.clip.id
        object.__setattr__(self, "name", name)

    @property
    def clip_id(self) -> str:
        return self.clip.id

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the item reads besides artifacts."""
        if self.trajectory is None:
            return self.clip.files
        subject = self.trajectory.subject
        named = (self.trajectory.file, None if subject is None else subject.uri)
        return (*self.clip.files, *(one for one in named if one is not None))

    @property
    def weight(self) -> float:
        """Return the number of pixels: of items that wait for a worker, those with more come first."""
        return float(self.clip.frames) * self.clip.width * self.clip.height

    @property
    def timed(self) -> bool:
        """Return whether the new video may have another number of frames than the clip."""
        return self.trajectory is not None and self.trajectory.time is not None

    @property
    def label(self) -> str:
        """Return the trajectory's label, or an empty string."""
        return self.trajectory.label if self.trajectory else ""

    @property
    def path(self) -> TrajectoryConfig:
        """Return the trajectory; the item must have one."""
        assert self.trajectory is not None
        return self.trajectory

    @property
    def record(self) -> Mapping[str, Any]:
        """Return what a published result says of how it was made, beside its clip."""
        return {"trajectory": self.path.model_dump(mode="json")}

    def sources(self, parent: str) -> Sequence[str]:
        return () if parent == "cameras" and not self.estimated else (self.name, self.clip.id)


def check_clip(clip: Clip) -> None:
    """Raise InputChanged if a clip's files are not those that the plan has hashed."""
    try:
        same = content_now(clip) == clip.content_hash
    except ValueError:  # a scan would refuse it
        same = False
    if not same:
        raise InputChanged(f"clip {clip.id!r}: {clip.uri!r}, or a file that belongs to it,")


@dataclass
class ClipStage(ConfiguredStage[ClipParams]):
    """A stage that makes one artifact per clip or, if `per_trajectory`, per clip and trajectory."""

    per_trajectory: ClassVar[bool] = False

    def takes(self, params: ClipParams) -> bool:
        """Return whether it has an item for such a clip; where not, stages that read it `also` go without."""
        return True
