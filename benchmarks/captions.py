"""Does a caption help the fill? The embedded captioner against no caption and the scenes' own.

    python benchmarks/captions.py --scenes 5

The scenes of the default fill's check (bench/families.py), 17 frames of 128 x 128, orbits of 20 and 45
degrees, filled with the default settings of a job. `nothing`: no caption, as a clip without one has it by
default. `embedded`: what caption.source embedded says of the source's pictures. `own`: the caption that the
scene was made from, which no captioner can beat by knowing more. `another's`: the own caption of the next
scene, so what a wrong one costs.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from bench.cached_rows import CachedRows, setting_key
from bench.compared_fills import filler_of, score
from bench.families import MOVED, case
from bench.parallel import share
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.models.captions.regions import look_at_pairs
from recapture.models.metrics.image import seam_ring
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.clip.spoken_regions import chosen_pairs, spoken

ANGLES = (20.0, 45.0)
CAPTIONS = ("nothing", "embedded", "own", "another's")
At = tuple[str, float, int]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--scenes", type=int, default=5, help="per family and angle")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/captions.jsonl"))
    add_write(parser, "captions")
    given = parser.parse_args()
    rows = CachedRows(given.rows, setting_key(__file__, argparse.Namespace(base=given.base)))
    wanted = list(product(MOVED, ANGLES, range(given.scenes)))
    todo = [(given.base, *at) for at in wanted if at not in rows]
    for at, scores in share(measure, todo, workers=given.workers):
        rows.add(at, scores)
    run = this_run(base=given.base, measured_on=rows.measured_on())
    measured = {at: rows[at] for at in wanted}
    publish([table(given.write or "captions", measured, run)], write=given.write is not None)


def measure(job: tuple[str, str, float, int]) -> tuple[At, dict[str, dict[str, float]]]:
    """Return the scores of one case under every caption."""
    path, family, angle, number = job
    given = case(family, angle, number)
    frames = to_frames(given.source.video)
    captions = {
        "nothing": "",
        "embedded": spoken(look_at_pairs([(frames[a], frames[b]) for a, b in chosen_pairs(len(frames))])),
        "own": given.caption,
        "another's": case(family, angle, number + 1).caption,
    }
    ring, found = seam_ring(given.view.visible, 8), {}
    filler = filler_of(path, "inverse")
    for name, caption in captions.items():
        filled = filler.fill(given.view, given.source, caption=caption, seed=0)
        found[name] = score(filled, given, ring)
    return (family, angle, number), found


def table(name: str, scores: dict[At, dict[str, dict[str, float]]], run: Run) -> Table:
    """Return the mean PSNR of holes under each caption, and its gain over no caption with an interval."""
    rows: list[list[Cell]] = []
    for family in (*MOVED, "all"):
        for angle in ANGLES:
            cases = [one for (kind, at, _), one in scores.items() if at == angle and family in (kind, "all")]
            of = {caption: np.array([one[caption]["psnr_hole"] for one in cases]) for caption in CAPTIONS}
            plain = float(of["nothing"].mean())
            gains = [with_interval(of[caption] - of["nothing"]) for caption in CAPTIONS[1:]]
            rows.append([f"{family}, {angle:g}", len(cases), plain, *gains])
    columns = [Column("family, degrees"), Column("cases"), Column("nothing, dB", ".2f")]
    columns += [Column(f"{caption}, gain in dB") for caption in CAPTIONS[1:]]
    return Table(name, "PSNR of holes", columns, rows, run)


if __name__ == "__main__":
    main()
