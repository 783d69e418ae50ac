"""The classical fill at real size: what its holes are worth against the truth, and what they cost.

    python benchmarks/classical_fill.py --write
    python benchmarks/classical_fill.py --sheet outputs/classical_fill.png

Procedural scenes of 480x832, whose own camera films 3 frames; the new camera is turned about what is in the
middle of the picture, by the same angle in every frame. So few frames see nothing of each other's holes: all
of them are inpainted, from coarse to fine where a hole is deep (the default), or at full size (`DEEP` of
models/fill/inpaint.py set to infinity), as it was before. CPU seconds are those of a whole `fill_classical`.
--sheet draws the middle frames.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.schema import RenderConfig
from recapture.datasets.readers.scenes import SceneSpec
from recapture.datasets.scenes.render import look_at, render_scene, source_cameras
from recapture.models.fill import inpaint
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.cameras import camera_centres, rotation_degrees
from recapture.models.geometry.rasterize import render
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.clip.sheets import contact_sheet
from recapture.tasks.jobs.render import surface_settings

FRAMES, HEIGHT, WIDTH = 3, 480, 832
ANGLES = (10.0, 20.0, 30.0, 45.0)
WAYS = {"full size": math.inf, "coarse to fine": inpaint.DEEP}
SURFACE = surface_settings(RenderConfig())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sheet", metavar="FILE", help="Draw the middle frame of every scene.")
    add_write(parser, "classical_fill")
    options = parser.parse_args()
    rows, pictures = [], dict[str, list[Tensor]]()
    jobs = [(seed, ANGLES[seed % len(ANGLES)]) for seed in range(options.scenes)]
    with ProcessPoolExecutor(options.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        made = list(pool.map(measured, *zip(*jobs)))
    for row, drawn in made:
        rows.append(row)
        for name, frame in drawn.items():
            pictures.setdefault(name, []).append(frame)
    means = [sum(float(str(row[place])) for row in rows) / len(rows) for place in range(2, len(rows[0]))]
    rows.append(["mean", None, *means])
    columns = [Column("scene"), Column("orbit, degrees", "g"), Column("holes, %", ".1f")]
    columns += [Column(f"{way}, dB", ".2f") for way in WAYS] + [Column("gain, dB", "+.2f")]
    columns += [Column(f"{way}, CPU s", ".1f") for way in WAYS]
    title = f"{FRAMES} frames of {HEIGHT}x{WIDTH}, PSNR of holes"
    table = Table(options.write or "classical_fill", title, columns, rows, this_run())
    publish([table], write=options.write is not None)
    if options.sheet:
        shown = {name: to_frames(torch.stack(frames)) for name, frames in pictures.items()}
        contact_sheet(shown, [str(row[0]) for row in rows[:-1]]).save(options.sheet)


def measured(seed: int, angle: float) -> tuple[list[Cell], dict[str, Tensor]]:
    """Return a scene's row, and its middle frame as it is, rendered, and filled in each way."""
    view, source, truth = filmed(seed, angle)
    hole = ~view.visible
    found, seconds, drawn = [], [], {"truth": truth[FRAMES // 2], "render": view.video[FRAMES // 2]}
    for way, deep in WAYS.items():
        inpaint.DEEP = deep  # type: ignore[assignment]
        begun = time.process_time()
        filled = fill_classical(view, source, surface=SURFACE)
        seconds.append(time.process_time() - begun)
        error = (filled - truth).movedim(1, -1)[hole].square().mean()
        found.append(float(10 * torch.log10(4 / error)))
        drawn[way] = filled[FRAMES // 2]
    share = 100 * float(hole.float().mean())
    return [f"scene {seed}", angle, share, *found, found[1] - found[0], *seconds], drawn


def filmed(seed: int, angle: float) -> tuple[RenderedView, SourceView, Tensor]:
    """Return what the new camera sees of the source, the source, and what is really there."""
    scene, times = SceneSpec(seed=seed).scene(), torch.arange(FRAMES).float()
    lens, cameras = source_cameras(scene, FRAMES, HEIGHT, WIDTH)
    seen = render_scene(scene, lens, cameras, times, HEIGHT, WIDTH)
    known = torch.isfinite(seen.depth)
    turned = orbit(cameras.double(), angle, float(seen.depth[:, HEIGHT // 2, WIDTH // 2].median()))
    there = render_scene(scene, lens, turned.to(lens), times, HEIGHT, WIDTH)
    new = render(seen.video, seen.depth, lens, cameras, lens, turned, surface=SURFACE, known=known)
    view = RenderedView(new.video, new.visible, new.depth, new.stretch, lens, turned)
    source = SourceView(seen.video, seen.depth, known, lens, cameras, torch.arange(FRAMES))
    return view, source, there.video


def orbit(cameras: Tensor, angle: float, distance: float) -> Tensor:
    """Return cameras [T,4,4] turned about the points at this distance on their axes."""
    centres = camera_centres(cameras)
    pivots = centres + distance * cameras[:, 2, :3]
    return look_at(pivots + (centres - pivots) @ rotation_degrees("y", angle).T, pivots)


if __name__ == "__main__":
    main()
