"""Judge the trained parts on held-out scenes: reconstruction, depth, holes, captions."""

from __future__ import annotations

import colorsys
import re
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from recapture.datasets.scenes.layout import PATTERNS, Scene
from recapture.datasets.scenes.render import render_scene
from recapture.datasets.scenes.sampling import Variety
from recapture.datasets.scenes.stream import SceneClips, SceneStream
from recapture.datasets.scenes.words import COLOURS, NOUNS, WORLD_NOUNS
from recapture.models.pretraining.depth import SIDE, depth_quality, predict_depth
from recapture.models.pretraining.vae import reconstruction_quality
from recapture.models.training.masks import boxes, brushes, ellipses, objects
from recapture.models.training.seeds import generator
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.parallel_vae import decode_latents as parallel_decode
from recapture.models.wan.parallel_vae import encode_moments
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.pretrain.data import channels_first
from recapture.tasks.pretrain.export import SHIFT, trained_base
from recapture.tasks.pretrain.feature_part import finished_features
from recapture.tasks.pretrain.judge_features import degradation_rows, judge_feature_net
from recapture.tasks.pretrain.parts import Pretraining

ASKED = ("red", "yellow", "green", "blue", "pink", "white", "black")
GUIDANCE = 3.0
STEPS = 20
AUTOENCODERS = ("vae", "refine", "sharpen")
VARIETIES: tuple[Variety, ...] = ("classic", "wide")


def judge(run: Pretraining, part: str) -> dict[str, float]:
    """Return the scores of a finished part; those with a gate are listed in `gate_bounds`."""
    with torch.no_grad():
        if part in AUTOENCODERS:
            return judge_vae(run, part)
        if part == "depth":
            return judge_depth(run)
        if part == "features":
            first, second = (held_out_clips(run, "wide", seed).video for seed in (1, 2))
            return judge_feature_net(finished_features(run.config, run.weights, run.device), first, second)
        base = trained_base(run)
        clips = held_out_clips(run, "wide")
        stream = SceneStream(range(run.config.held_out), run.device, variety="wide")
        return judge_holes(base, clips) | judge_colours(base, stream, run.config.held_out, run.config.side)


def held_out_clips(run: Pretraining, variety: Variety, seed: int = 1) -> SceneClips:
    """Return as many clips as there are held-out scenes of a variety, each of a random one of them."""
    count, side = run.config.held_out, run.config.side
    return SceneStream(range(count), run.device, variety=variety).draw(seed, count, 17, side, side)


def judge_vae(run: Pretraining, part: str) -> dict[str, float]:
    """Return PSNR, chroma R2 and sharpness ratio, of the mean and the worst clip."""
    vae, _, _ = run.finished_vae(part)
    scores: dict[str, float] = {}
    for variety in VARIETIES:
        parts = []
        for video in channels_first(held_out_clips(run, variety)).split(8):
            result = parallel_decode(vae, encode_moments(vae, video)[0]).clamp(-1, 1)
            parts.append(reconstruction_quality(result, video))
        for name in parts[0]:
            values = torch.cat([part[name] for part in parts])
            scores[f"{variety}/{name}"] = float(values.mean())
            scores[f"{variety}/{name}_worst"] = float(values.min())
    return scores


def judge_depth(run: Pretraining) -> dict[str, float]:
    """Return AbsRel after fitting one scale per clip, and flicker."""
    model = run.finished_depth()
    scores: dict[str, float] = {}
    for variety in VARIETIES:
        clips = held_out_clips(run, variety)
        each = []
        for video, depth in zip(clips.video, clips.depth):
            size = (SIDE, SIDE)
            squashed = interpolate(video, size, mode="bilinear", antialias=True)
            nearest = interpolate(depth[:, None], size, mode="nearest-exact")[:, 0]
            each.append(depth_quality(model, squashed, nearest))
        for name in each[0]:
            scores[f"{variety}/{name}"] = sum(one[name] for one in each) / len(each)
    return scores


def generate(
    base: Base, video: Tensor, visible: Tensor, caption: str, seed: int, guidance: float, steps: int = STEPS
) -> Tensor:
    """Return video [T, 3, H, W] with holes (visible [T, H, W] False) filled; nothing is pasted back."""
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
    """Return PSNR (dB) in holes of held-out clips, and that of filling with the mean known colour."""
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
    """Return how often a hidden object gets the caption's colour.

    In `count` held-out scenes the first body gets one plain colour of ASKED, is hidden in all frames, and is
    filled with the right caption and with a wrong one. colour_accuracy: share of fills that are nearest (mean
    squared error on the body) to the true picture of the requested colour, among all of ASKED. caption_gain:
    hole PSNR with the right caption minus that with the wrong one, in dB.
    """
    hits, tried, gain = 0, 0, 0.0
    for index in range(3 * count):
        if tried == count:
            break
        clip = stream.draw(7_000 + index, 1, 17, side, side)
        scene = stream.scenes.take(clip.scene_index.to(clip.video.device), [clip.captions[0]])
        asked, wrong = ASKED[index % len(ASKED)], ASKED[(index + 3) % len(ASKED)]
        body = clip.object_id[0] == 1
        if not 0.01 < float(body.float().mean()) < 0.3:
            continue
        tried += 1
        truths = torch.stack([_repainted(scene, clip, colour) for colour in ASKED])
        truth = truths[ASKED.index(asked)]
        visible = objects(torch.where(body, 1, 0)[None], generator(5, index, body.device))[0]
        filled = {
            colour: generate(
                base, truth, visible, recoloured_caption(clip.captions[0], colour), index, GUIDANCE
            )
            for colour in (asked, wrong)
        }
        error = ((filled[asked][None] - truths).square().mean(2) * body).sum((1, 2, 3))
        hits += int(error.argmin()) == ASKED.index(asked)
        gain += hole_psnr(filled[asked], truth, ~body) - hole_psnr(filled[wrong], truth, ~body)
    return {"colour_accuracy": hits / max(1, tried), "caption_gain": gain / max(1, tried), "scenes": tried}


def recoloured_caption(caption: str, colour: str) -> str:
    """Return the caption with its first body in this plain colour."""
    nouns = "|".join((*NOUNS, *WORLD_NOUNS))
    return re.sub(rf"^an? .+? ({nouns}) ", rf"a {colour} \1 ", caption, count=1)


def _repainted(scene: Scene, clip: SceneClips, colour: str) -> Tensor:
    """Return the clip [T, 3, H, W] with its first body in this plain colour."""
    hue, saturation, value = COLOURS[colour]
    rgb = torch.tensor(colorsys.hsv_to_rgb(hue / 360, saturation, value), device=clip.video.device)
    first = torch.nn.functional.pad(scene.label == 1, (6, 0))  # [1, 6 + N]; the room's faces come first
    pattern = torch.where(first, PATTERNS.index("plain"), scene.pattern)
    colours = torch.where(first[..., None, None], rgb.to(scene.colours), scene.colours)
    painted = replace(scene, pattern=pattern, colours=colours)
    _, _, _, height, width = clip.video.shape
    return render_scene(painted, clip.intrinsics, clip.world_to_camera, clip.times, height, width).video[0]


def hole_psnr(result: Tensor, truth: Tensor, visible: Tensor) -> float:
    """Return the PSNR (dB, range 2) of [T, 3, H, W] where visible [T, H, W] is False."""
    error = (result - truth).square().mean(1)[~visible].mean()
    return float(10 * torch.log10(4 / error.clamp_min(1e-10)))


@torch.no_grad()
def sample_grid(run: Pretraining, part: str, columns: int = 4) -> Image.Image:
    """Return a picture of a finished part's results on held-out clips, one column per clip.

    Autoencoder: clip and reconstruction. Depth: clip, truth and prediction, brighter is nearer. Inpainter:
    clip with its hole, and fill. Feature network: clip, and degradations that it is judged on.
    """
    clips = held_out_clips(run, "wide")
    columns = min(columns, len(clips.video))
    middle = clips.video.shape[1] // 2
    video = clips.video[:columns]
    rows = [video[:, middle]]
    if part in AUTOENCODERS:
        vae, _, _ = run.finished_vae(part)
        moments, _ = encode_moments(vae, channels_first(clips)[:columns])
        rows.append(parallel_decode(vae, moments).clamp(-1, 1)[:, :, middle])
    elif part == "depth":
        squashed = interpolate(rows[0], (SIDE, SIDE), mode="bilinear", antialias=True)
        predicted = predict_depth(run.finished_depth(), squashed)[:, None]
        predicted = interpolate(predicted, rows[0].shape[-2:], mode="nearest-exact")
        rows += [_nearness(clips.depth[:columns, middle, None]), _nearness(predicted)]
    elif part == "features":
        rows += degradation_rows(video, middle)
    else:
        base = trained_base(run)
        size = video.shape[1], *video.shape[-2:]
        visible = boxes(columns, size, generator(4, 0, video.device))
        filled = [
            generate(base, one, known, caption, seed, guidance=1.0)
            for seed, (one, known, caption) in enumerate(zip(video, visible, clips.captions))
        ]
        rows = [(video * visible[:, :, None])[:, middle], torch.stack(filled)[:, middle]]
    picture = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    return Image.fromarray(to_frames(picture[None].cpu())[0])


def _nearness(depth: Tensor) -> Tensor:
    inverse = 1 / depth.clamp_min(1e-3)
    low, high = (inverse.flatten(1).quantile(q, dim=1).view(-1, 1, 1, 1) for q in (0.02, 0.98))
    return ((inverse - low) / (high - low).clamp_min(1e-6) * 2 - 1).clamp(-1, 1).expand(-1, 3, -1, -1)
