"""The model cards of the embedded base and of its depth model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from recapture.conf.pretrain import PARTS, PretrainConfig

LICENCE = """---
license: apache-2.0
---
"""


def base_card(
    config: PretrainConfig, sizes: Mapping[str, int], scores: Mapping[str, float], log: Path
) -> str:
    """The model card of the base."""
    counted = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in sizes.items())
    return f"""{LICENCE}# The embedded base of recapture

A tiny video inpainter in the classes and layout of Wan2.1-Fun-InP: `AutoencoderKLWan` (8 x 8 x 4, 16
channels), `WanTransformer3DModel` (36 channels in, 16 out, patches 1 x 2 x 2), `UMT5EncoderModel`, float16.
Parameters: {counted}. It makes the pipeline run for real without a download. It is no foundation model.

**Data.** Procedural 4D scenes of this project, variety "wide", seeds from 1,000,000 ({config.scenes} scenes,
ever new moments and cameras), with photographs that ship in scikit-image (CC0, public domain) and
scikit-learn (china.jpg, flower.jpg: CC BY 2.0) as some of the textures. Captions come from the scenes' own
grammar of 60 words.

**Recipe.** `recapture pretrain`: autoencoder {config.vae.steps} steps, again on long clips
{config.refine.steps} steps, transformer and text encoder {config.inpainter.steps} steps of
{config.inpainter_batch} clips; Muon and AdamW, averaged weights. Holes: boxes, ellipses, brushes, borders,
frames, whole objects, everything; never those of a camera move. Training time: {timed(log)}.

**Limits.** Good inside its world, soft outside it: on real clips fills are blurred and colours drift. Fine
texture is beyond the autoencoder (see PSNR). Captions outside the grammar are mostly unknown words. Clips of
17 to 49 frames and about 80 to 176 pixels a side were seen.

{score_lines(scores)}
"""


def depth_card(config: PretrainConfig, size: int, scores: Mapping[str, float], log: Path) -> str:
    """The model card of the depth model."""
    return f"""{LICENCE}# The embedded depth model of recapture

A tiny `DepthAnythingForDepthEstimation` ({size / 1e6:.2f} M parameters, float16) that says depth in scene
units, frame by frame, on frames squashed to 128 x 128. Trained for {config.depth.steps} steps of
{config.depth_batch} frames on the procedural scenes of this project. Training time:
{timed(log, ("depth",))}. On real clips expect rooms where there are none;
name a larger model in `depth.model`.

{score_lines(scores)}
"""


def score_lines(scores: Mapping[str, float]) -> str:
    """A Markdown table of scores on held-out scenes."""
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(scores.items())]
    return "\n".join(["| on held-out scenes | |", "|---|---|", *rows])


def seconds(log: Path) -> dict[str, float]:
    """Seconds that each part's logged steps took, without the making of its data between them."""
    took: dict[str, float] = {}
    last: dict[str, int] = {}
    if log.exists():
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            part, step = entry["part"], entry["step"]
            steps = step - last.get(part, 0)
            if steps > 0:
                took[part] = took.get(part, 0.0) + steps / entry["steps_per_second"]
            last[part] = max(step, last.get(part, 0))
    return took


def timed(log: Path, parts: Collection[str] = PARTS) -> str:
    """Say "vae 400 s, depth 300 s on NVIDIA H200" of a log; "not logged" of none."""
    took = ", ".join(f"{part} {value:.0f} s" for part, value in seconds(log).items() if part in parts)
    if not took:
        return "not logged"
    machines = {json.loads(line)["machine"] for line in log.read_text().splitlines()}
    return f"{took} on {', '.join(sorted(machines))}"
