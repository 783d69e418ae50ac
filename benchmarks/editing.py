"""Editing in the same pass as the camera change, on held-out scenes with the embedded base.

    python benchmarks/editing.py --scenes 24 --seeds 3
    python benchmarks/editing.py --scenes 24 --seeds 3 --device cuda --workers 15

One body of a scene is masked in all of 17 frames of 128 x 128 (its id map, or a box track about it, grown as
`mask.dilate` does), the masked clip is rendered along an orbit to the right that reaches the full angle in
the last frame, and its holes are filled: the edit first (as `recapture run --mask.…` does), or all at once.
Nothing is propagated. The edit: that body plain and of another colour. So its truth is known: the same scene
with the body repainted, from the new camera. Each edit is made with the caption that asks for it and with the
scene's own, and with the first frame repainted (known, and lifted by frame 0's depth) and without. Measured
in frames 1 on (the first may be given), on the body's pixels: PSNR against the truth; that of the last 4
frames alone; whether the fill is nearer to the truth of the asked colour than to those of the other colours;
and PSNR in the other holes. Every measurement goes to --rows as a JSON line; a row that is there is not
measured again.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import platform
import re
import shlex
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from embedded_base import FRAMES, SIDE, decibel, default_filler, interval, round_trip
from parallel import device, share
from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.datasets.scene_layout import PATTERNS, ROOM_FACES, Scene
from recapture.datasets.scene_words import COLOURS, NOUNS
from recapture.datasets.scenes import SceneFrames, render_scene, sample_scene, source_cameras
from recapture.models.fill.edited import fill_edited, replaced_in
from recapture.models.fill.view import RenderedView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path
from recapture.models.wan.load import Base, load_base

ASKED = ("red", "yellow", "green", "blue", "pink", "white", "black")
METRICS = ("psnr_edit", "psnr_edit_end", "asked_colour", "psnr_elsewhere")
UNEDITED, CEILING = "the scene unedited", "truth through the VAE (ceiling)"
BODY_SHARE = (0.01, 0.25)  # of the picture, from the source and from the new cameras
DILATE = 2

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One way to make the edit."""

    prompt: bool  # that asks for it; else the scene's own caption
    first_frame: bool
    edit_first: bool  # else every hole at once
    guidance: float

    @property
    def name(self) -> str:
        words = "prompt" if self.prompt else "own caption"
        words += ", first frame" if self.first_frame else ""
        return f"{words}, {'edit first' if self.edit_first else 'at once'}, guidance {self.guidance:g}"


@dataclass(frozen=True)
class Edit:
    """A scene with one body to be repainted, and everything that is known of it."""

    caption: str
    prompt: str
    colour: str
    views: dict[bool, tuple[RenderedView, Tensor]]  # the masked clip along the new path, and where it shows
    # what is replaced [T, H, W]; True: with frame 0 repainted and known
    truths: dict[str, Tensor]  # colour -> [T, 3, H, W] along the new path
    unedited: Tensor  # [T, 3, H, W] along the new path
    body: Tensor  # [T, H, W] bool, along the new path
    inside: Tensor  # [T, H, W] bool, where the new path shows the room


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[0.0, 20.0])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--noise-scale", type=float, default=FillConfig().noise_scale)
    parser.add_argument("--steps", type=int, default=FillConfig().steps)
    parser.add_argument("--mask", choices=("objects", "box"), default="objects")
    parser.add_argument("--variety", choices=("classic", "wide"), default="wide")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin no scene after so long.")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/editing.jsonl"))
    given = parser.parse_args()
    rows = [
        Row(prompt, first, edit_first, guidance)
        for guidance in given.guidance
        for edit_first in (False, True)
        for first in (False, True)
        for prompt in (False, True)
    ]
    measured = read_rows(given.rows)
    setting = (given.variety, given.mask, given.steps, given.noise_scale)
    scenes = editable(given.variety, given.scenes)
    ends = time.time() + given.seconds
    jobs = []
    for number in scenes:
        for angle in given.angles:
            at = (*setting, angle, number)
            wanted = [(name, 0) for name in (UNEDITED, CEILING) if (*at, 0, name) not in measured]
            wanted += [
                (row, seed)
                for row in rows
                for seed in range(given.seeds)
                if (*at, seed, row.name) not in measured
            ]
            if wanted:
                jobs.append((at, wanted, ends))
    work = partial(measure_scene, given.base)
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for found in share(work, jobs, workers=given.workers, device=given.device):
        with given.rows.open("a") as file:
            file.writelines(json.dumps([*key, scores]) + "\n" for key, scores in found)
        measured |= dict(found)
    print(f"`python benchmarks/editing.py {shlex.join(sys.argv[1:])}`,", end=" ")
    print(f"{platform.machine()}, {given.device}, {date.today()}\n")
    for angle in given.angles:
        last = given.seeds - 1, rows[-1].name
        whole = [(*setting, angle, n) for n in scenes if (*setting, angle, n, *last) in measured]
        if whole:
            print_table(angle, rows, whole, given.seeds, measured)


def editable(variety: str, count: int) -> list[int]:
    """Return the first `count` scenes with a body of a usable size in every view."""
    found = []
    for number in range(10 * count):
        if len(found) == count:
            break
        if largest_body(number, variety) is not None:
            found.append(number)
    return found


@cache
def largest_body(number: int, variety: str) -> int | None:
    """Return the id of the body that covers most of the source; None where it is too small or too large."""
    scene = sample_scene(number, variety=variety)
    some = slice(None, None, 8)
    times = torch.arange(FRAMES, dtype=torch.float32)[some]
    intrinsics, pose = source_cameras(scene, FRAMES, SIDE, SIDE)
    ids = render_scene(scene, intrinsics[some], pose[some], times, SIDE, SIDE, antialias=1).object_id
    shares = {label: (ids == label).float().mean((1, 2)) for label in range(1, len(scene.kinds) + 1)}
    best = max(shares, key=lambda label: float(shares[label].mean()))
    low, high = float(shares[best].min()), float(shares[best].max())
    return best if BODY_SHARE[0] <= low and high <= BODY_SHARE[1] else None


def measure_scene(
    path: str, job: tuple[Key, list[tuple[Row | str, int]], float]
) -> list[tuple[Key, dict[str, float]]]:
    """Return (key, scores) of everything that is wanted of one scene at one angle."""
    at, wanted, ends = job
    if time.time() > ends:
        return []
    variety, mask, steps, noise_scale, angle, number = at
    base = open_base(path)
    edit = make_edit(number, variety, mask, angle)
    found = []
    for row, seed in wanted:
        if row == UNEDITED:
            result = edit.unedited
        elif row == CEILING:
            result = round_trip(base, edit.truths[edit.colour])
        else:
            assert isinstance(row, Row)
            filler = default_filler(base, steps=steps, guidance_scale=row.guidance, noise_scale=noise_scale)
            view, replaced = edit.views[row.first_frame]
            caption = edit.prompt if row.prompt else edit.caption
            if row.edit_first:
                result = fill_edited(filler, view, replaced, caption=caption, seed=seed).video
            else:
                result = filler.fill_both(view, caption=caption, seed=seed).video
        name = row if isinstance(row, str) else row.name
        found.append(((*at, seed, name), score(result.cpu(), edit)))
    return found


@cache
def open_base(path: str) -> Base:
    return load_base(path, device=device())


def make_edit(number: int, variety: str, mask: str, angle: float) -> Edit:
    """Mask the largest body of a scene and render what is left of it along the orbit."""
    scene = sample_scene(number, variety=variety)
    body = largest_body(number, variety)
    assert body is not None
    caption = scene.captions[0]
    others = [colour for colour in ASKED if colour not in body_phrases(caption)[body - 1].group()]
    colour = others[number % len(others)]
    times = torch.arange(FRAMES, dtype=torch.float32)
    cameras = source_cameras(scene, FRAMES, SIDE, SIDE)
    source = render_scene(scene, *cameras, times, SIDE, SIDE)
    third = slice(SIDE // 3, SIDE - SIDE // 3)
    pivot = float(source.depth[0, third, third].median())
    path = preset_path("orbit_right", *cameras, pivot, angle_degrees=angle)
    target = path.intrinsics.float(), path.world_to_camera.float()

    def seen(one: Scene) -> SceneFrames:
        return render_scene(one, *target, times, SIDE, SIDE)

    unedited = seen(scene)
    repainted = {name: repaint(scene, body, name) for name in ASKED}
    hidden = covered(source.object_id == body, mask)
    first = hidden.clone()
    first[0] = False
    repainted_first = source.video.clone()
    repainted_first[0] = render_scene(
        repainted[colour], *(camera[:1] for camera in cameras), times[:1], SIDE, SIDE
    ).video[0]
    return Edit(
        caption,
        ask(caption, body, colour),
        colour,
        {
            False: masked_view(source.video, source.depth, hidden, cameras, target),
            True: masked_view(repainted_first, source.depth, first, cameras, target),
        },
        {name: seen(one).video for name, one in repainted.items()},
        unedited.video,
        unedited.object_id == body,
        torch.isfinite(unedited.depth),
    )


def masked_view(
    video: Tensor,  # [T, 3, H, W]
    depth: Tensor,  # [T, H, W]
    body: Tensor,  # [T, H, W] bool, to be redrawn
    cameras: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
) -> tuple[RenderedView, Tensor]:
    """The masked clip seen by the target cameras as mask and render stage do it, and where it is redrawn."""
    known = torch.isfinite(depth) & ~grown(grown(body, DILATE), 1, cv2.MORPH_RECT)
    marked = torch.cat([video, body[:, None].float()], 1)
    at, replaced = replaced_in(render(marked, depth, *cameras, *target, known=known | body))
    return RenderedView(at.video, at.visible, at.depth, at.stretch, *target), replaced


def covered(body: Tensor, mask: str) -> Tensor:
    """The body [T, H, W] bool itself, or the box about it in each frame."""
    if mask == "objects":
        return body
    boxes = torch.zeros_like(body)
    for one, box in zip(body, boxes):
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        if len(rows):
            box[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1] = True
    return boxes


def grown(hidden: Tensor, pixels: int, shape: int = cv2.MORPH_ELLIPSE) -> Tensor:
    """[T, H, W] bool, each frame dilated."""
    side = 2 * pixels + 1
    kernel = cv2.getStructuringElement(shape, (side, side))
    frames = [cv2.dilate(one.astype(np.uint8), kernel) > 0 for one in hidden.numpy()]
    return torch.from_numpy(np.stack(frames))


def repaint(scene: Scene, body: int, colour: str) -> Scene:
    """The scene with one body plain and of this colour."""
    rgb = torch.tensor(rgb_of(colour)).to(scene.colours)
    skin = torch.nn.functional.pad(scene.label == body, (ROOM_FACES, 0))
    return replace(
        scene,
        patterns=scene.patterns | {"plain"},
        pattern=torch.where(skin, PATTERNS.index("plain"), scene.pattern),
        colours=torch.where(skin[:, None, None], rgb, scene.colours),
    )


def rgb_of(colour: str) -> tuple[float, float, float]:
    hue, saturation, value = COLOURS[colour]
    return colorsys.hsv_to_rgb(hue / 360, saturation, value)


def body_phrases(caption: str) -> list[re.Match[str]]:
    """What a caption says of each body, up to its noun, in the order of their ids."""
    return list(re.finditer(rf"\ban? (?P<looks>.+?) (?P<noun>{'|'.join(NOUNS)})\b", caption))


def ask(caption: str, body: int, colour: str) -> str:
    """The caption with one body plain and of this colour."""
    phrase = body_phrases(caption)[body - 1]
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{caption[: phrase.start()]}{article} {colour} {phrase['noun']}{caption[phrase.end() :]}"


def score(result: Tensor, edit: Edit) -> dict[str, float]:
    """`METRICS`; asked_colour is 1 or 0. NaN where there is nothing to measure."""
    later, end = torch.arange(FRAMES) > 0, torch.arange(FRAMES) >= FRAMES - 4
    body = edit.body & later[:, None, None]
    errors = {name: (result - truth).square().mean(1) for name, truth in edit.truths.items()}
    error = errors[edit.colour]
    nearest = min(errors, key=lambda name: float(errors[name][body].mean()))
    elsewhere = ~edit.views[False][0].visible & ~edit.body & edit.inside & later[:, None, None]
    return {
        "psnr_edit": decibel(error[body]),
        "psnr_edit_end": decibel(error[body & end[:, None, None]]),
        "asked_colour": float(nearest == edit.colour) if body.any() else float("nan"),
        "psnr_elsewhere": decibel(error[elsewhere]),
        "body_share": float(edit.body.float().mean()),
    }


def print_table(
    angle: float, rows: list[Row], scenes: list[Key], seeds: int, measured: dict[Key, dict[str, float]]
) -> None:
    """Means over scenes and seeds; of prompts, the gain over the own caption, and over all holes at once."""
    print(f"### {angle:g}°, {len(scenes)} scenes, {seeds} seeds\n")
    compared = ("psnr_edit", "asked_colour")
    heads = [f"Δ {metric} to {to}" for to in ("own caption", "at once") for metric in compared]
    print("| | " + " | ".join((*METRICS, *heads)) + " |")
    print("|---|" + "---:|" * (len(METRICS) + len(heads)))

    def means(row: Row | str, metric: str) -> np.ndarray:
        name, count = (row, 1) if isinstance(row, str) else (row.name, seeds)
        return np.array(
            [np.mean([measured[(*at, seed, name)][metric] for seed in range(count)]) for at in scenes]
        )

    def gain(row: Row, other: Row, metric: str) -> str:
        gains = means(row, metric) - means(other, metric)
        gains = gains[~np.isnan(gains)]
        low, high = interval(gains)
        return f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]"

    for row in (UNEDITED, CEILING, *rows):
        values = [means(row, metric) for metric in METRICS]
        cells = [f"{some[~np.isnan(some)].mean():.3g}" for some in values]
        if isinstance(row, Row) and row.prompt:
            cells += [gain(row, replace(row, prompt=False), metric) for metric in compared]
            at_once = replace(row, edit_first=False)
            cells += [gain(row, at_once, metric) if row.edit_first else "" for metric in compared]
        else:
            cells += [""] * len(heads)
        print(f"| {row if isinstance(row, str) else row.name} | " + " | ".join(cells) + " |")
    print(flush=True)


def read_rows(path: Path) -> dict[Key, dict[str, float]]:
    """(variety, mask, steps, noise scale, angle, scene, seed, row) -> what was measured before."""
    if not path.exists():
        return {}
    return {tuple(key): scores for *key, scores in map(json.loads, path.read_text().splitlines())}


if __name__ == "__main__":
    main()
