"""Write the model cards of the embedded base and depth model from the record of their training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any, Self

from recapture.conf.pretrain import PretrainConfig
from recapture.datasets.scenes.words import caption_words
from recapture.models.pretraining.depth import SIDE
from recapture.models.pretraining.inpainter import BUCKETS, shrink_buckets
from recapture.tasks.pretrain.gates import gate_table, missed, part_gates

LICENCE = """---
license: apache-2.0
---
"""
TEXTURES = """with photographs that ship in scikit-image (CC0, public domain) and scikit-learn
(china.jpg, flower.jpg: CC BY 2.0) as some of the textures"""
WORLD_TEXTURES = ", matplotlib (public domain) and scikit-learn"  # worlds show one of matplotlib, too
RECORD = "training.json"  # next to the card
_PLACES = {
    "output",
    "work",
    "start",
    "state",
    "device",
    "tracking",
}  # specific to a machine, not part of the recipe


@dataclass(frozen=True)
class Training:
    """The record of the training of one exported directory.

    settings: those of PretrainConfig, without locations. parameters: number of parameters per model. scores:
    part -> score -> value on held-out scenes. seconds: part -> training time on `machine`. earlier: part ->
    the settings of the runs that its weights come from, oldest first.
    """

    settings: Mapping[str, Any]
    parameters: Mapping[str, int]
    scores: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    machine: str
    earlier: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: PretrainConfig,
        parameters: Mapping[str, int],
        scores: Mapping[str, Mapping[str, float]],
        seconds: Mapping[str, float],
        machine: str,
        earlier: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> Self:
        """Return the record of a run."""
        settings = config.model_dump(mode="json", exclude=_PLACES)
        return cls(settings, parameters, scores, seconds, machine, earlier)

    def steps(self, part: str) -> str:
        """Return the steps of a part's runs, such as "9000 + 12000"."""
        runs = [*self.earlier.get(part, ()), self.settings[part]]
        return " + ".join(str(run["steps"]) for run in runs if run["steps"])

    @property
    def config(self) -> PretrainConfig:
        """Return the run's settings, with default locations."""
        return PretrainConfig.model_validate(self.settings)

    def write(self, folder: Path) -> None:
        """Write the record into a directory."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record in a directory."""
        return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))


def base_card(training: Training) -> str:
    """Return the model card of the base."""
    config = training.config
    counted = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in training.parameters.items())
    buckets = shrink_buckets(BUCKETS, config.inpainter_scale)
    mixture = " and ".join(f'{share:.0%} "{name}"' for name, share in config.varieties.items())
    sharpened = ""
    if "sharpen" in training.seconds:
        sharpened = f", its decoder {training.steps('sharpen')} steps against an adversary"
    frames = sorted(bucket.frames for bucket in buckets)
    sides = sorted(side for bucket in buckets for side in (bucket.height, bucket.width))
    text = f"""# The embedded base of recapture

A tiny video inpainter in the classes and layout of Wan2.1-Fun-InP: `AutoencoderKLWan` (8 x 8 x 4, 16
channels), `WanTransformer3DModel` (36 channels in, 16 out, patches 1 x 2 x 2), `UMT5EncoderModel`, float16.
Parameters: {counted}. It makes the pipeline run for real without a download. It is no foundation model.

**Data.** Procedural 4D scenes of this project, {mixture}, seeds from 1,000,000 ({config.scenes} scenes of
each, ever new moments and cameras), {_textures(config)}. Captions come from the scenes' own grammar of
{len(caption_words(config.varieties))} words.

**Recipe.** `recapture pretrain`: autoencoder {training.steps("vae")} steps, again on long clips
{training.steps("refine")} steps{sharpened}, transformer and text encoder {training.steps("inpainter")} steps
of {config.inpainter_batch} clips for each GPU; Muon and AdamW, averaged weights. Holes are of every shape,
whole objects and whole frames among them, and never those of a camera move (`models/training/masks.py`).
Training time: {timed(training)}. All settings: `{RECORD}`.

**Limits.** Good inside its world, soft outside it: on real clips fills are blurred and colours drift. Fine
texture is beyond the autoencoder (see PSNR). Captions outside the grammar are mostly unknown words. Clips of
{frames[0]} to {frames[-1]} frames and {sides[0]} to {sides[-1]} pixels a side were seen."""
    return _card(text, training)


def _textures(config: PretrainConfig) -> str:
    return TEXTURES.replace(" and scikit-learn", WORLD_TEXTURES) if "world" in config.varieties else TEXTURES


def depth_card(training: Training) -> str:
    """Return the model card of the depth model."""
    config = training.config
    millions = sum(training.parameters.values()) / 1e6
    text = f"""# The embedded depth model of recapture

A tiny `DepthAnythingForDepthEstimation` ({millions:.2f} M parameters, float16) that says depth in scene
units, frame by frame, on frames squashed to {SIDE} x {SIDE}.

**Data.** Rendered depth of the procedural 4D scenes of this project ({config.scenes} scenes, seeds from
1,000,000), {_textures(config)}.

**Recipe.** `recapture pretrain`: {training.steps("depth")} steps of {config.depth_batch} frames; Muon and
AdamW, averaged weights. Training time: {timed(training)}. All settings: `{RECORD}`.

**Limits.** On real clips expect rooms where there are none; name a larger model in `depth.model`."""
    return _card(text, training)


def features_card(training: Training) -> str:
    """Return the model card of the feature network."""
    config = training.config
    millions = sum(training.parameters.values()) / 1e6
    shown = _textures(config)
    text = f"""# The embedded feature network of recapture

A small convolutional network ({millions:.2f} M parameters, float16) in whose features pictures and clips are
compared: `feature_distance`, `view_agreement`, `frechet_image`, `frechet_clip`. It is neither Inception nor
I3D nor AlexNet: its numbers compare results of this project, and nothing published.

**Data.** Procedural 4D scenes of this project ({config.scenes} scenes, seeds from 1,000,000), {shown}; a
quarter of every batch is photographs that a camera moves over.

**Recipe.** `recapture pretrain`: {training.steps("features")} steps of {config.features_batch} clips of 8
frames, all tasks at once: how much a picture is degraded beside the original, and without it; what is wrong
with the motion of a clip; words of the caption; depth; which two views show the same. Muon and AdamW,
averaged weights. Training time: {timed(training)}. All settings: `{RECORD}`.

**Limits.** It has seen no faces and little of the real world. How bad a degradation of full dose looks,
beside others, was set by eye, not by a study."""
    return _card(text, training)


def _card(text: str, training: Training) -> str:
    config, scored = training.config, training.scores.items()
    gates = [gate for part, scores in scored for gate in part_gates(config.gates, part, scores)]
    failed = missed(gates)
    verdict = f"All {len(gates)} gates are met."
    if failed:
        names = ", ".join(gate.name for gate in failed)
        verdict = f"{len(failed)} of {len(gates)} gates are not met: {names}. Exported all the same, with "
        verdict += "`gates.enforce: false`."
    paragraphs = [_wrapped(paragraph) for paragraph in [*text.split("\n\n"), "## Gates", verdict]]
    flat = {name: value for scores in training.scores.values() for name, value in scores.items()}
    tables = [gate_table(gates), "## Scores on held-out scenes", score_table(flat)]
    return LICENCE + "\n\n".join([*paragraphs, *tables]) + "\n"


def score_table(scores: Mapping[str, float]) -> str:
    """Return a Markdown table of scores."""
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(scores.items())]
    return "\n".join(["| score | value |", "|---|---|", *rows])


def timed(training: Training) -> str:
    """Return the training time, such as "vae 400 s, refine 300 s on NVIDIA H200"."""
    before = {part: sum(run["seconds"] for run in runs) for part, runs in training.earlier.items()}
    took = ", ".join(
        f"{part} {value + before.get(part, 0):.0f} s" for part, value in training.seconds.items()
    )
    return f"{took} on {training.machine}"


def _wrapped(text: str) -> str:
    return fill(" ".join(text.split()), width=110, break_long_words=False, break_on_hyphens=False)
