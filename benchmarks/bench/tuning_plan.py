"""What tuning.py trains and measures, and what all of its jobs share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.held_out import default_filler, held_out
from bench.parallel import device
from recapture.conf.tune import MaskSharesConfig
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import Packing
from recapture.models.fill.view import SourceView
from recapture.models.wan.load import load_base

ROUNDS = ((5.0, 15.0), (15.0, 30.0), (30.0, 45.0))
PACKING = Packing(2, 8)
MASKS: dict[str, dict[str, float]] = {
    "point cloud": {"point_cloud": 1.0},
    "composite": MaskSharesConfig().model_dump(),
}


@dataclass(frozen=True)
class Arm:
    """One way to train; names its adapter."""

    name: str
    masks: str = "composite"
    iterative: bool = False
    cycles: int = 2  # recaptures per clip and round
    pseudo: float = 0.0  # weight of a recapture as a target
    rounds: int = len(ROUNDS)  # trained on the pairs of the first rounds up to this number
    first_block: int = 0
    more: int = 0  # number of further clips that are trained on but not measured
    packed_share: float = 0.0  # of the steps that show frames of another camera
    scope: str = "dataset"  # clip: an adapter for each clip; both: the same, starting from the dataset's


@dataclass(frozen=True)
class Fill:
    """One way to fill; `arm` None is the base."""

    name: str
    arm: str | None = None
    inverse: bool = False
    packed: bool = False
    steps: int | None = None  # of sampling; None: the default


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
    """What all jobs share."""

    base: str
    folder: Path  # of pairs and adapters, keyed by all that they depend on
    first: int
    clips: int
    steps: int
    clip_steps: int
    batch: int
    rank: int
    rate: float
    moves: int  # pairs per clip and round
    angles: tuple[float, ...]
    ends: float  # start nothing after this time

    @property
    def scenes(self) -> range:
        """Return the seeds of the scenes."""
        return range(self.first, self.first + self.clips)

    def adapter(self, arm: Arm, seed: int, clip: int) -> Path:
        """Return the folder of the adapter that a clip is filled under."""
        name = f"{arm.name.replace(' ', '_').replace(',', '')}-{seed}"
        return self.folder / "adapters" / (name if arm.scope == "dataset" else f"{name}-{clip}")

    def missing(self, arm: Arm, seed: int) -> list[int]:
        """Return the clips whose adapter is missing, or the first of all clips that share one."""
        clips = self.scenes if arm.scope != "dataset" else self.scenes[:1]
        return [clip for clip in clips if not self.adapter(arm, seed, clip).exists()]

    def further(self, arm: Arm) -> range:
        """Return the further clips that an arm is trained on."""
        return range(1000, 1000 + arm.more)

    def pairs(self, clip: int, seed: int, masks: str, number: int) -> Path:
        """Return the file of a clip's encoded pairs of a round."""
        name = f"{clip}-{seed}-{masks.replace(' ', '_')}-{number}.safetensors"
        return self.folder / "pairs" / name


@cache
def filler(base: str) -> DiffusionFiller:
    """Return a filler with a job's default settings, on this process's device."""
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
