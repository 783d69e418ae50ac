"""What tuning.py trains and measures, and what all of its jobs have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from embedded_base import default_filler, held_out
from parallel import device
from torch import Tensor

from recapture.conf.tune import MaskSharesConfig
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import Packing
from recapture.models.fill.view import SourceView
from recapture.models.wan.load import load_base

ROUNDS = ((5.0, 15.0), (15.0, 30.0), (30.0, 45.0))
PACKING = Packing(2, 8)
MASKS = {"point cloud": {"point_cloud": 1.0}, "composite": MaskSharesConfig().model_dump()}


@dataclass(frozen=True)
class Arm:
    """One way to train; its adapter goes by its name."""

    name: str
    masks: str = "composite"
    iterative: bool = False
    cycles: int = 2  # recaptures a clip and round
    pseudo: float = 0.0  # weight of a recapture as a target
    rounds: int = len(ROUNDS)  # trained on the pairs of so many
    first_block: int = 0
    more: int = 0  # further clips that are trained on and not measured
    packed_share: float = 0.0  # of the steps that show frames of another camera
    scope: str = "dataset"  # or a clip: an adapter for each; both: the same, from the dataset's own


@dataclass(frozen=True)
class Fill:
    """One way to fill; `arm` None is the base."""

    name: str
    arm: str | None = None
    inverse: bool = False
    packed: bool = False
    steps: int | None = None  # of sampling, in place of the default


ARMS = (
    Arm("point-cloud masks", masks="point cloud"),
    Arm("single"),
    Arm("rounds without cycle pairs", iterative=True, cycles=0),
    Arm("iterative", iterative=True),
    Arm("single, 5-15 only", rounds=1),
    Arm("iterative, pseudo-targets", iterative=True, pseudo=0.25),
    Arm("single, upper five of seven blocks", first_block=2),
    Arm("single, 168 more clips", more=168),
    Arm("single, packed in training", packed_share=0.3),
    Arm("a clip", scope="clip"),
    Arm("both", scope="both"),
)
FILLS = (
    Fill("base"),
    Fill("base, one step", steps=1),
    *(Fill(arm.name, arm.name) for arm in ARMS),
    Fill("single, one step", "single", steps=1),
    Fill("inverse", inverse=True),
    Fill("iterative, inverse", "iterative", inverse=True),
    Fill("iterative, packed", "iterative", packed=True),
    Fill("single, packed", "single", packed=True),
    Fill("single, packed in training and fill", "single, packed in training", packed=True),
)


@dataclass(frozen=True)
class Plan:
    """What is the same in all jobs."""

    base: str
    adapters: str
    first: int
    clips: int
    steps: int
    clip_steps: int
    batch: int
    rank: int
    rate: float
    moves: int  # pairs a clip and round
    angles: tuple[float, ...]
    ends: float  # begin nothing after this time

    @property
    def scenes(self) -> range:
        """Return the seeds of the scenes."""
        return range(self.first, self.first + self.clips)

    def adapter(self, arm: Arm, seed: int, clip: int) -> Path:
        """Return the folder of the adapter that a clip is filled under."""
        name = f"{arm.name.replace(' ', '_').replace(',', '')}-{seed}"
        return Path(self.adapters) / (name if arm.scope == "dataset" else f"{name}-{clip}")

    def missing(self, arm: Arm, seed: int) -> list[int]:
        """Return the clips whose adapter is missing; one stands for all that share it."""
        clips = self.scenes if arm.scope != "dataset" else self.scenes[:1]
        return [clip for clip in clips if not self.adapter(arm, seed, clip).exists()]

    def further(self, arm: Arm) -> range:
        """Return the clips that an arm is trained on besides."""
        return range(1000, 1000 + arm.more)

    def pairs(self, clip: int, seed: int, masks: str, number: int) -> Path:
        """Return the file of a clip's encoded pairs of a round."""
        name = f"{clip}-{seed}-{masks.replace(' ', '_')}-{number}.safetensors"
        return Path(self.adapters).parent / "pairs" / name


@cache
def filler(base: str) -> DiffusionFiller:
    """Return what fills as a job's defaults do, on this process's device."""
    return default_filler(load_base(base, device=device()), packing=PACKING)


def source_of(clip: int) -> tuple[SourceView, float, str]:
    """Return a scene's source view on this process's device, the depth of the pivot, and the caption."""
    _, source, _, _, caption = held_out(clip, "wide", 0.0)
    side = source.depth.shape[-1]
    third = slice(side // 3, side - side // 3)
    return on_device(source), float(source.depth[0, third, third].median()), caption


def on_device(view: Any) -> Any:
    """Return a view with its tensors on this process's device."""
    return replace(
        view, **{name: value.to(device()) for name, value in vars(view).items() if isinstance(value, Tensor)}
    )
