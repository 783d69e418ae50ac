"""Editing in the same pass as the camera change, on held-out scenes with the embedded base.

    python benchmarks/editing.py --scenes 24 --seeds 3
    python benchmarks/editing.py --scenes 24 --seeds 3 --device cuda --workers 15

One body of a scene is masked in all of 17 frames of 128 x 128 (by its id map, or by a box track around it,
grown as `mask.dilate` does). The masked clip is rendered along an orbit to the right that reaches the full
angle in the last frame, and its holes are filled: the edit first (as `recapture run --mask.…` does), or all
at once. Nothing is propagated. The edit asks for that body in one plain other colour, so its truth is known:
the same scene with the body repainted, from the new camera. Each edit is made with the caption that asks for
it and with the scene's own caption, and with the first frame repainted (known, and lifted by frame 0's depth)
and without. Measured from frame 1 on (the first may be given), on the body's pixels: PSNR against the truth,
over all and over the last 4 frames; whether the fill is nearer to the truth of the asked colour than to those
of the other colours; and PSNR in the other holes. Rows that an earlier call measured with the same settings
are not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.cached_rows import At, CachedRows, setting_key
from bench.editing_scenes import Edit, editable, make_edit
from bench.held_out import CEILING, FRAMES, decibel, default_filler, round_trip
from bench.parallel import device, share
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.conf.fill import FillConfig
from recapture.datasets.scenes.sampling import Variety
from recapture.models.fill.edited import fill_edited
from recapture.models.wan.load import Base, load_base

METRICS = ("psnr_edit", "psnr_edit_end", "asked_colour", "psnr_elsewhere")
COMPARED = ("psnr_edit", "asked_colour")
UNEDITED = "the scene unedited"
MASKS = {"objects": "The body's own mask", "box": "A box track around the body"}
CHOOSES = ("scenes", "seeds", "angles", "guidance")  # arguments that only choose what is measured


@dataclass(frozen=True)
class Row:
    """One way to make the edit."""

    prompt: bool  # that asks for it; else the scene's own caption
    first_frame: bool
    edit_first: bool  # else every hole at once
    guidance: float

    @property
    def name(self) -> str:
        """Return the row's name in tables."""
        words = "prompt" if self.prompt else "own caption"
        words += ", first frame" if self.first_frame else ""
        return f"{words}, {'edit first' if self.edit_first else 'at once'}, guidance {self.guidance:g}"


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    base: str
    variety: Variety
    mask: Literal["objects", "box"]
    steps: int
    noise_scale: float
    ends: float  # start no scene after this time


Job = tuple[float, int, list[tuple[Row | str, int]]]  # angle, scene, (row, seed)


def main() -> None:
    given = arguments()
    rows = [
        Row(prompt, first, edit_first, guidance)
        for guidance, edit_first, first, prompt in product(given.guidance, *((False, True),) * 3)
    ]
    measured = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    scenes = editable(given.variety, given.scenes)
    jobs: list[Job] = []
    for number, angle in product(scenes, given.angles):
        every: list[tuple[Row | str, int]] = [(UNEDITED, 0), (CEILING, 0)]
        every += [(row, seed) for row in rows for seed in range(given.seeds)]
        wanted = [(row, seed) for row, seed in every if (angle, number, seed, name_of(row)) not in measured]
        if wanted:
            jobs.append((angle, number, wanted))
    ends = time.time() + given.seconds
    setting = Setting(given.base, given.variety, given.mask, given.steps, given.noise_scale, ends)
    work = partial(measure_scene, setting)
    for found in share(work, jobs, workers=given.workers, device=given.device):
        for at, scores in found:
            measured.add(at, scores)
    run = this_run(device=given.device, base=given.base, measured_on=measured.measured_on())
    for angle in given.angles:
        last = given.seeds - 1, rows[-1].name
        whole = [number for number in scenes if (angle, number, *last) in measured]
        if whole:
            found_at = Found(measured, angle, whole, given.seeds, MASKS[given.mask])
            name = f"{given.write or 'editing'}-{given.mask}-{angle:g}"
            publish([table(name, found_at, rows, run)], write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--noise-scale", type=float, default=FillConfig().noise_scale)
    parser.add_argument("--steps", type=int, default=FillConfig().steps)
    parser.add_argument("--mask", choices=("objects", "box"), default="objects")
    parser.add_argument("--variety", choices=("classic", "wide"), default="wide")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Start no scene after this time.")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/editing.jsonl"))
    add_write(parser, "editing")
    return parser.parse_args(words)


def name_of(row: Row | str) -> str:
    """Return a row's name in tables."""
    return row if isinstance(row, str) else row.name


def measure_scene(setting: Setting, job: Job) -> list[tuple[At, dict[str, float]]]:
    """Return (at, scores) of everything that is wanted of one scene at one angle."""
    angle, number, wanted = job
    if time.time() > setting.ends:
        return []
    base = open_base(setting.base)
    edit = make_edit(number, setting.variety, setting.mask, angle)
    found = []
    for row, seed in wanted:
        if row == UNEDITED:
            result = edit.unedited
        elif row == CEILING:
            result = round_trip(base, edit.truths[edit.colour])
        else:
            assert isinstance(row, Row)
            filler = default_filler(
                base, steps=setting.steps, guidance_scale=row.guidance, noise_scale=setting.noise_scale
            )
            view, replaced = edit.views[row.first_frame]
            caption = edit.prompt if row.prompt else edit.caption
            if row.edit_first:
                result = fill_edited(filler, view, replaced, caption=caption, seed=seed).video
            else:
                result = filler.fill_both(view, caption=caption, seed=seed).video
        name = row if isinstance(row, str) else row.name
        found.append(((angle, number, seed, name), score(result.cpu(), edit)))
    return found


@cache
def open_base(path: str) -> Base:
    """Return the base on this process's device."""
    return load_base(path, device=device())


def score(result: Tensor, edit: Edit) -> dict[str, float]:
    """Return METRICS; asked_colour is 1 or 0. NaN where there is nothing to measure."""
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


@dataclass(frozen=True)
class Found:
    """What was measured at one angle."""

    measured: CachedRows
    angle: float
    scenes: Sequence[int]
    seeds: int
    title: str

    def of(self, row: Row | str, metric: str) -> np.ndarray:
        """Return a row's mean over seeds, for each scene."""
        seeds = range(1 if isinstance(row, str) else self.seeds)
        name = name_of(row)
        return np.array(
            [
                np.mean([self.measured[self.angle, scene, seed, name][metric] for seed in seeds])
                for scene in self.scenes
            ]
        )

    def gain(self, row: Row, other: Row, metric: str) -> list[float] | None:
        """Return the mean difference of two rows with its interval."""
        return with_interval(self.of(row, metric) - self.of(other, metric))


def table(name: str, found: Found, rows: Sequence[Row], run: Run) -> Table:
    """Return means, and the gain of a prompt over the own caption and of edit first over at once."""
    cells: list[list[Cell]] = []
    every: list[Row | str] = [UNEDITED, CEILING, *rows]
    for row in every:
        line: list[Cell] = [name_of(row)]
        for metric in METRICS:
            values = found.of(row, metric)
            line.append(float(values[~np.isnan(values)].mean()))
        if isinstance(row, Row):
            others = (
                replace(row, prompt=False) if row.prompt else None,
                replace(row, edit_first=False) if row.edit_first else None,
            )
            line += [
                None if other is None else found.gain(row, other, metric)
                for other in others
                for metric in COMPARED
            ]
        else:
            line += [None] * 4
        cells.append(line)
    columns = [Column(""), *(Column(metric, ".3g") for metric in METRICS)]
    columns += [Column(f"Δ {metric} to {to}") for to in ("own caption", "at once") for metric in COMPARED]
    title = f"{found.title}, {found.angle:g}°, {len(found.scenes)} scenes, {found.seeds} seeds"
    return Table(name, title, columns, cells, run)


if __name__ == "__main__":
    main()
