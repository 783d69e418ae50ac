"""Ways to put known pixels and a generated video together, against the truth of held-out scenes.

    python benchmarks/compositing.py --scenes 5
    python benchmarks/compositing.py cost                  # at 81x480x832, in CPU seconds
    python benchmarks/compositing.py cost --device cuda    # in seconds of a GPU

Seven families (bench/families.py), 17 frames of 128 x 128; `base` and `inverse` are sampled once per case and
composited in every way. Means over the cases of all families at one angle, and over the families of thin,
crescent and dotted holes. A case takes 6 to 12 CPU seconds; those that were measured by an earlier call, or
by `default_fill.py`, with the same sources are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.compared_fills import BASE_AT, CLASSICAL, METHODS, WAYS, Scores, add_arguments, mean_of, measured
from bench.compositing_cost import cost_table
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run

METRICS = ("psnr_hole", "psnr_visible", "psnr_seam", "psnr", "steady_seam", "sharpness_hole")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("quality", "cost"), nargs="?", default="quality")
    parser.add_argument("--device", default="cpu", help="of the stage cost")
    add_arguments(parser)
    add_write(parser, "compositing")
    given = parser.parse_args()
    begin = given.write or "compositing"
    if given.stage == "cost":
        name = f"{begin}-cost" + ("-cuda" if given.device != "cpu" else "")
        table_of_costs = cost_table(name, given.device, this_run(device=given.device))
        publish([table_of_costs], write=given.write is not None)
        return
    rows = measured(given)
    run = this_run(base=given.base, measured_on=rows.measured_on)
    for angle in (*BASE_AT, 0.0):
        cases = [scores for (_, at, _), scores in rows.scores.items() if at == angle]
        name = f"{begin}-{f'{angle:g}' if angle else 'shapes'}"
        title = f"{angle:g}°" if angle else "Thin, crescent and dotted holes"
        publish([table(name, f"{title}, {len(cases)} cases", cases, run)], write=given.write is not None)


def table(name: str, title: str, cases: Sequence[Scores], run: Run) -> Table:
    """Return the means of every fill and way."""
    rows: list[list[Cell]] = [[CLASSICAL, "", *(mean_of(cases, CLASSICAL, metric) for metric in METRICS)]]
    ways = [(method, way) for method in METHODS for way in WAYS]
    rows += [[*one, *(mean_of(cases, ", ".join(one), metric) for metric in METRICS)] for one in ways]
    columns = [Column("fill"), Column("composited"), *(Column(metric, ".2f") for metric in METRICS)]
    return Table(name, title, columns, rows, run)


if __name__ == "__main__":
    main()
