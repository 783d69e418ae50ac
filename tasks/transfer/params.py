"""The subjects of items of a motion transfer: a base, a reference, and a reference on a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recapture.datasets.clips.clip import Clip
from recapture.models.motion.examples import Start

BASE = "base"  # in place of a reference: the base without any motion adapter, from the same noise
OF_TARGET = ("ingest", "depth", "cameras", "mask", "select")  # stages with items of clips


@dataclass(frozen=True)
class HeadsParams:
    """The heads of the base, looked at once for all references, with a scene of this project's."""

    start: Start
    clip_id: str = BASE
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{BASE}@{self.start}"

    def sources(self, parent: str) -> Sequence[str]:
        return ()


@dataclass(frozen=True)
class ReferenceParams:
    """One reference: its encoded examples, and the tuning on them."""

    clip: Clip
    caption: str
    heads: str = ""  # name of the item with the base's heads; "": every head is used

    @property
    def clip_id(self) -> str:
        return self.clip.id

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the item reads besides artifacts."""
        return self.clip.files

    @property
    def name(self) -> str:
        return self.clip.id

    @property
    def label(self) -> str:
        """Return the prefix of its metrics' names."""
        return f"{self.clip.id}/"

    def sources(self, parent: str) -> Sequence[str]:
        if parent == "heads":
            return (self.heads,) if self.heads else ()
        return (self.clip.id,)


@dataclass(frozen=True)
class TransferParams:
    """A reference's motion on a target, from one seed; or what the base alone makes of the target."""

    clip: Clip  # the target
    reference: Clip | None  # None: what the base is shown of the target depends on no reference
    caption: str
    seed: int  # counted from that of the job
    frames: int
    alone: bool = False  # without the reference's motion
    tuned: bool = True  # with an adapter of the reference
    suffix: str = ""  # of its name, where there are results of other seeds or lengths

    @property
    def clip_id(self) -> str:
        return self.clip.id

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the item reads besides artifacts."""
        return (*self.clip.files, *(() if self.reference is None else self.reference.files))

    @property
    def label(self) -> str:
        """Return the name of the result among those of the target: a folder."""
        of = "" if self.reference is None else f"-{plain(self.reference.id)}"
        return f"{BASE if self.alone else 'motion'}{of}{self.suffix}"

    @property
    def name(self) -> str:
        return f"{self.clip.id}@{self.label}"

    @property
    def record(self) -> Mapping[str, Any]:
        """Return what a published result says of how it was made, beside its clip."""
        reference = None if self.reference is None else self.reference.id
        return {"reference": reference, "caption": self.caption, "sample": self.seed}

    def of_base(self, *, shown_alike: bool) -> TransferParams:
        """Return what the base makes of the same noise; shown_alike: whatever the reference is."""
        return replace(self, alone=True, reference=None if shown_alike else self.reference)

    def sources(self, parent: str) -> Sequence[str]:
        """Return the names of its item in a parent stage: of the target, of the reference, or its own."""
        if parent == "motion_tune" and (self.alone or not self.tuned):
            return ()
        if parent in ("motion_examples", "motion_tune"):
            return () if self.reference is None else (self.reference.id,)
        if parent in OF_TARGET:
            return (self.clip.id,)
        if parent == "transfer_base":
            return tuple(self.of_base(shown_alike=alike).name for alike in (True, False))
        return (self.name,)


def plain(clip_id: str) -> str:
    """Return a clip id as one part of a path; ids that differ may become equal, which the job refuses."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", clip_id)
