"""The rows of benchmarks/motion.py: ways to give a motion to a target, and what has to be tuned for each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from recapture.datasets.scenes.motion_scenes import REFERENCES, Category
from recapture.models.motion.augment import Augmentation
from recapture.models.motion.heads import HeadRule
from recapture.models.motion.objective import MotionLoss, MotionTerm
from recapture.models.motion.sparse import Kind, Positions, Sparse
from recapture.models.motion.tune import MotionSettings
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.step import Settings
from recapture.models.wan.head_masks import Projections

Method = Literal["truth", "still", "base", "explicit", "completed", "guided", "adapter", "both"]
RATE, BATCH, COPIES = 2e-3, 2, 8
LIGHT, SHIFT, ZOOM = 0.2, 0.15, 0.1
CATEGORY_STEPS = 4  # times the steps of one reference, where one adapter serves a category


@dataclass(frozen=True)
class Tuning:
    """How an adapter is tuned; the defaults are those of `recapture transfer`."""

    heads: HeadRule = "all"
    loss: MotionLoss = "signed"
    augment: Literal["none", "colour", "position", "both"] = "both"
    sparse: Kind = "full"
    positions: Positions = "aligned"
    projections: Projections = "q,k,v"
    steps: int = 150
    rank: int = 16
    decay_from: float = 1.0  # share of the steps from which the learning rate falls to 0
    hole_weight: float = 1.0
    reversed: bool = False
    whole_category: bool = False

    @property
    def key(self) -> str:
        """Return a name that differs for every other tuning."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def copies(self) -> int:
        """Return how many augmented copies there are; 0: the reference alone."""
        return 0 if self.augment == "none" else COPIES

    def augmentation(self) -> Augmentation:
        """Return how far copies differ from the reference."""
        colour, place = self.augment in ("colour", "both"), self.augment in ("position", "both")
        return Augmentation(
            "permute" if colour else "none",
            LIGHT if colour else 0.0,
            SHIFT if place else 0.0,
            ZOOM if place else 0.0,
        )

    def settings(self, frames: int, seed: int) -> MotionSettings:
        """Return the settings for windows of `frames` frames; sparse ones keep about half of them."""
        kept = frames if self.sparse == "full" else (frames - 1) // 8 * 4 + 1
        steps = self.steps * (CATEGORY_STEPS if self.whole_category else 1)
        training = Settings(
            steps=steps,
            batch=BATCH,
            rate=RATE,
            weight_decay=0.0,
            warm_up=10,
            clip=1.0,
            ema=0.9,
            seed=seed,
            objective=Objective("uniform", 3.0, self.hole_weight, 0.1),
            micro_batch=None,
            gradient_checkpointing=False,
            log_every=steps,
            validate_every=steps,
            patience=0,
            packed_share=0.0,
            decay_from=self.decay_from,
        )
        sparse = Sparse(self.sparse, frames, kept, self.positions)
        return MotionSettings(training, self.rank, self.projections, MotionTerm(self.loss, 0.5), sparse)


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    title: str
    method: Method
    tuning: Tuning | None = None
    scale: float = 1.0
    wrong: bool = False  # the adapter of another reference


DEFAULT = Tuning()
MAIN: dict[str, Row] = {
    "truth": Row("truth through the VAE (ceiling)", "truth"),
    "still": Row("frame 0 repeated (floor)", "still"),
    "base": Row("base", "base"),
    "wrong": Row("adapter of another reference", "adapter", DEFAULT, wrong=True),
    "reversed": Row("adapter of the reversed clip", "adapter", replace(DEFAULT, reversed=True)),
    "explicit": Row("explicit 3D motion", "explicit"),
    "guided": Row("training-free solver", "guided"),
    "adapter": Row("adapter (default)", "adapter", DEFAULT),
}
_CHANGED: dict[str, tuple[str, Tuning]] = {
    **{
        f"heads-{rule}": (f"heads: {rule}", replace(DEFAULT, heads=rule))
        for rule in ("half", "inverted", "random")
    },
    "loss-none": ("motion loss: none", replace(DEFAULT, loss="none")),
    "loss-released": ("motion loss: released", replace(DEFAULT, loss="released")),
    "augment-none": ("augmentation: none", replace(DEFAULT, augment="none")),
    "augment-colour": ("augmentation: colour", replace(DEFAULT, augment="colour")),
    "augment-position": ("augmentation: position", replace(DEFAULT, augment="position")),
    "sparse-native": (
        "sparse: frames, native positions",
        replace(DEFAULT, sparse="frames", positions="native"),
    ),
    "sparse-paper": ("sparse: frames, the paper's", replace(DEFAULT, sparse="frames", positions="paper")),
    "sparse-aligned": ("sparse: frames, aligned", replace(DEFAULT, sparse="frames")),
    "sparse-latents": ("sparse: latents", replace(DEFAULT, sparse="latents")),
    "sparse-mixed": ("sparse: mixed", replace(DEFAULT, sparse="mixed")),
    "qk": ("q and k alone", replace(DEFAULT, projections="q,k")),
    "qkvo": ("q, k, v and o", replace(DEFAULT, projections="q,k,v,o")),
    **{f"steps-{count}": (f"{count} steps", replace(DEFAULT, steps=count)) for count in (50, 300, 600)},
    **{f"rank-{rank}": (f"rank {rank}", replace(DEFAULT, rank=rank)) for rank in (4, 64)},
    "decay": ("learning rate falls from half-way", replace(DEFAULT, decay_from=0.5)),
    "holes": ("no weight on holes", replace(DEFAULT, hole_weight=0.0)),
    "category": ("one adapter per category", replace(DEFAULT, whole_category=True)),
}
ABLATIONS: dict[str, Row] = {
    **{name: Row(title, "adapter", tuning) for name, (title, tuning) in _CHANGED.items()},
    **{
        f"scale-{scale:g}": Row(f"scale {scale:g}", "adapter", DEFAULT, scale)
        for scale in (0.5, 0.75, 1.25, 1.5)
    },
    "completed": Row("explicit 3D motion, scene completed by the base", "completed"),
    "both": Row("adapter and training-free solver", "both", DEFAULT),
}
ROWS = MAIN | ABLATIONS


@dataclass(frozen=True)
class Job:
    """One tuning (or none), and all cells that it serves."""

    category: Category
    reference: int  # whose motion it is
    seed: int
    tuning: Tuning | None
    cells: tuple[tuple[str, int], ...]  # name of a row, reference whose targets are scored

    @property
    def cost(self) -> float:
        """Return about how long it takes, in steps."""
        steps = 0 if self.tuning is None else self.tuning.steps * (4 if self.tuning.whole_category else 1)
        return steps + 10 * len(self.cells)


def cell_name(row: str, category: Category, reference: int, seed: int) -> str:
    """Return the name of a cell's file."""
    return f"{category}-{reference:02d}-{seed}-{row}"


def jobs_of(
    rows: list[str], categories: list[Category], references: int, seeds: int, done: set[str]
) -> list[Job]:
    """Return the jobs of all cells that are not done, those that tune longest first."""
    wanted: dict[tuple[Category, int, int, Tuning | None], list[tuple[str, int]]] = {}
    for category in categories:
        for reference in range(references):
            for seed in range(seeds):
                for name in rows:
                    if cell_name(name, category, reference, seed) in done:
                        continue
                    row = ROWS[name]
                    own = other_of(reference, references) if row.wrong else reference
                    wanted.setdefault((category, own, seed, row.tuning), []).append((name, reference))
    jobs = [Job(*at, tuple(cells)) for at, cells in wanted.items()]
    return sorted(jobs, key=lambda job: -job.cost)


def other_of(reference: int, references: int) -> int:
    """Return another reference of the same category: the next of those that are measured."""
    return (reference + 1) % (references if references > 1 else REFERENCES)
