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
import json
import platform
import shlex
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from editing_scenes import Edit, editable, make_edit
from embedded_base import FRAMES, decibel, default_filler, interval, round_trip
from parallel import device, share
from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.models.fill.edited import fill_edited
from recapture.models.wan.load import Base, load_base

METRICS = ("psnr_edit", "psnr_edit_end", "asked_colour", "psnr_elsewhere")
UNEDITED, CEILING = "the scene unedited", "truth through the VAE (ceiling)"

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
    """Means over scenes and seeds; the gain of a prompt over the own caption, of edit first over at once."""
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
        for wanted, change in (("prompt", {"prompt": False}), ("edit_first", {"edit_first": False})):
            compare = isinstance(row, Row) and getattr(row, wanted)
            cells += [gain(row, replace(row, **change), metric) if compare else "" for metric in compared]
        print(f"| {row if isinstance(row, str) else row.name} | " + " | ".join(cells) + " |")
    print(flush=True)


def read_rows(path: Path) -> dict[Key, dict[str, float]]:
    """(variety, mask, steps, noise scale, angle, scene, seed, row) -> what was measured before."""
    if not path.exists():
        return {}
    return {tuple(key): scores for *key, scores in map(json.loads, path.read_text().splitlines())}


if __name__ == "__main__":
    main()
