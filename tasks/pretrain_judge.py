"""What a trained inpainter is judged by: filling general holes, and heeding the caption's colours."""

from __future__ import annotations

import colorsys
import re
from dataclasses import replace

import torch
from torch import Tensor

from recapture.datasets.scene_layout import PATTERNS, Scene
from recapture.datasets.scene_stream import SceneClips, SceneStream
from recapture.datasets.scene_words import COLOURS
from recapture.datasets.scenes import render_scene
from recapture.models.pretraining.masks import boxes, brushes, ellipses, objects
from recapture.models.pretraining.seeds import generator
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents
from recapture.tasks.pretrain_export import SHIFT

ASKED = ("red", "yellow", "green", "blue", "pink", "white", "black")
GUIDANCE = 3.0
STEPS = 20


def generate(
    base: Base, video: Tensor, visible: Tensor, caption: str, seed: int, guidance: float, steps: int = STEPS
) -> Tensor:
    """Fill the holes of video [T, 3, H, W] where visible [T, H, W] is False; nothing is pasted back."""
    latents = sample(
        base,
        condition(base, video, visible),
        encode_text(base, caption),
        scheduler=make_scheduler("euler", SHIFT),
        steps=steps,
        generator=torch.Generator().manual_seed(seed),
        guidance_scale=guidance,
    )
    return decode_latents(base.vae, latents)[0].clamp(-1, 1)


def judge_holes(base: Base, clips: SceneClips, guidance: float = 1.0) -> dict[str, float]:
    """PSNR (dB) in general holes of held-out clips, beside the mean colour of what is known."""
    device = clips.video.device
    random = generator(3, 0, device)
    count, frames, _, height, width = clips.video.shape
    size = (frames, height, width)
    scores: dict[str, list[float]] = {}
    drawn = {f.__name__: f(count, size, random) for f in (boxes, ellipses, brushes)}
    drawn["objects"] = objects(clips.object_id, random)
    for name, masks in drawn.items():
        for index in range(count):
            video, visible = clips.video[index], masks[index]
            if visible.all() or not visible.any():
                continue
            result = generate(base, video, visible, clips.captions[index], index, guidance)
            mean = (video * visible[:, None]).sum((0, 2, 3)) / visible.sum()
            scores.setdefault(f"{name}/psnr_hole", []).append(hole_psnr(result, video, visible))
            scores.setdefault(f"{name}/psnr_hole_mean_colour", []).append(
                hole_psnr(mean[:, None, None].expand_as(video), video, visible)
            )
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    kinds = list(drawn)
    means["psnr_hole"] = sum(means[f"{kind}/psnr_hole"] for kind in kinds) / len(kinds)
    means["hole_gain"] = means["psnr_hole"] - sum(
        means[f"{kind}/psnr_hole_mean_colour"] for kind in kinds
    ) / len(kinds)
    return means


def judge_colours(base: Base, stream: SceneStream, count: int, side: int) -> dict[str, float]:
    """Whether a hidden object takes the caption's colour.

    In `count` held-out scenes the first body is made plain and of one of ASKED, hidden in all frames, and
    filled with the right caption and with a wrong one. accuracy: share of fills nearest (mean squared error
    on the body) to the true picture of the colour that was asked for, among ASKED. caption_gain: hole PSNR
    with the right caption less that with the wrong one, dB.
    """
    hits, tried, gain = 0, 0, 0.0
    for index in range(3 * count):
        if tried == count:
            break
        clip = stream.draw(7_000 + index, 1, 17, side, side)
        scene = stream.scenes.take(clip.scene_index.to(clip.video.device), [clip.captions[0]])
        asked, wrong = ASKED[index % len(ASKED)], ASKED[(index + 3) % len(ASKED)]
        truths = torch.stack([_repainted(scene, clip, colour) for colour in ASKED])
        body = clip.object_id[0] == 1
        if not 0.01 < float(body.float().mean()) < 0.3:
            continue
        tried += 1
        truth = truths[ASKED.index(asked)]
        visible = objects(torch.where(body, 1, 0)[None], generator(5, index, body.device))[0]
        filled = {
            colour: generate(base, truth, visible, said(clip.captions[0], colour), index, GUIDANCE)
            for colour in (asked, wrong)
        }
        error = ((filled[asked][None] - truths).square().mean(2) * body).sum((1, 2, 3))
        hits += int(error.argmin()) == ASKED.index(asked)
        gain += hole_psnr(filled[asked], truth, ~body) - hole_psnr(filled[wrong], truth, ~body)
    return {"colour_accuracy": hits / max(1, tried), "caption_gain": gain / max(1, tried), "scenes": tried}


def said(caption: str, colour: str) -> str:
    """The caption with its first body plain and of this colour."""
    return re.sub(r"^an? .+? (sphere|box|cylinder|pole|slab) ", rf"a {colour} \1 ", caption, count=1)


def _repainted(scene: Scene, clip: SceneClips, colour: str) -> Tensor:
    """The clip [T, 3, H, W] with its first body plain and of this colour."""
    hue, saturation, value = COLOURS[colour]
    rgb = torch.tensor(colorsys.hsv_to_rgb(hue / 360, saturation, value), device=clip.video.device)
    first = torch.nn.functional.pad(scene.label == 1, (6, 0))  # [1, 6 + N]; the room's faces come first
    pattern = torch.where(first, PATTERNS.index("plain"), scene.pattern)
    colours = torch.where(first[..., None, None], rgb.to(scene.colours), scene.colours)
    painted = replace(scene, pattern=pattern, colours=colours)
    _, _, _, height, width = clip.video.shape
    return render_scene(painted, clip.intrinsics, clip.world_to_camera, clip.times, height, width).video[0]


def hole_psnr(result: Tensor, truth: Tensor, visible: Tensor) -> float:
    """PSNR (dB, range 2) of [T, 3, H, W] where visible [T, H, W] is False."""
    error = (result - truth).square().mean(1)[~visible].mean()
    return float(10 * torch.log10(4 / error.clamp_min(1e-10)))
