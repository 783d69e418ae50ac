"""Which stages should share a GPU with the fill, in which order, and how many CPU cores a GPU needs.

    python benchmarks/simulate_workers.py --write    # seconds

The job's own board, intake, pools and order, on simulated workers (bench/simulated_pools.py). Times of the
stages are those of a real job and of benchmarks/stage_costs.py, see STAGES and MEASURING.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.simulated_pools import TimedStage, simulate_job
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.tasks.engine.ray_order import Order
from recapture.tasks.engine.stage import Resources

CLIPS = 64
CPU, FILL = Resources(), Resources(cpus=4, gpus=0.8)
FIFTH, TENTH = Resources(cpus=2, gpus=0.2), Resources(cpus=2, gpus=0.1)
RENDERED = ("ingest", "depth", "render")
# Seconds per clip of 81x480x832; those with part of a GPU in a real job of 30 steps on an H200.
STAGES = (
    TimedStage("ingest", 2.5, CPU),
    TimedStage("depth", 2.2, FIFTH, ("ingest",)),
    TimedStage("render", 3.6, FIFTH, ("ingest", "depth")),
    TimedStage("fill", 30.0, FILL, RENDERED, reading=1.0, writing=2.0, slots=2),
    TimedStage("baselines", 34.0, FIFTH, RENDERED),
    TimedStage("measure", 28.0, FIFTH, (*RENDERED, "fill", "baselines")),
    TimedStage("deliver", 7.2, CPU, ("ingest", "render", "fill")),
)
# Baselines and measure: with part of a GPU as above and as wanted, on one core as measured and as wanted.
MEASURING = {"62 s": (34.0, 28.0), "3 s": (1.5, 1.5), "143 CPU s": (95.0, 48.0), "15 CPU s": (10.0, 5.0)}
Layout = tuple[str, str, Resources, Resources, int]
LAYOUTS: Sequence[Layout] = (
    ("one worker with 0.2, later stages first", "62 s", FIFTH, FIFTH, 16),
    ("one worker with 0.2", "62 s", FIFTH, FIFTH, 16),
    ("two workers with 0.1", "62 s", TENTH, TENTH, 16),
    ("one worker with 0.2", "3 s", FIFTH, FIFTH, 16),
    ("CPU workers, one with 0.2 for depth and render", "143 CPU s", CPU, FIFTH, 16),
    ("CPU workers, one with 0.2 for depth and render", "15 CPU s", CPU, FIFTH, 16),
    ("CPU workers, two with 0.1 for depth and render", "15 CPU s", CPU, TENTH, 16),
    ("CPU workers, one with 0.2 for depth and render", "15 CPU s", CPU, FIFTH, 8),
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_write(parser, "workers")
    parser.add_argument("--fill", type=float, nargs="+", default=[30.0, 6.0], help="Seconds of sampling.")
    options = parser.parse_args(words)
    publish([table(list(rows(options.fill)))], write=bool(options.write))


def rows(fills: Sequence[float]) -> Iterator[list[Cell]]:
    """Yield a row per layout and time of sampling."""
    for fill in fills:
        for name, measuring, measured_on, rendered_on, cores in LAYOUTS:
            order = _LaterFirst() if "later" in name else Order()
            job = stages(fill, MEASURING[measuring], measured_on, rendered_on)
            ran = simulate_job(job, [{"CPU": float(cores), "GPU": 1.0}], CLIPS, order=order)
            turns = ran.of("fill")
            filling = CLIPS * fill / (turns[-1].ended - turns[0].began)
            shares = filling, CLIPS * fill / ran.seconds
            yield [name, measuring, f"{fill:g}", cores, ran.seconds / CLIPS, *shares, ran.most_begun]


def stages(
    fill: float, measuring: tuple[float, float], measured: Resources, rendered: Resources
) -> list[TimedStage]:
    """Return the stages of the job with other times and resources."""
    other = {"fill": (fill, FILL), "depth": (2.2, rendered), "render": (3.6, rendered)}
    other |= {"baselines": (measuring[0], measured), "measure": (measuring[1], measured)}
    return [
        replace(stage, turn=other[stage.name][0], resources=other[stage.name][1])
        if stage.name in other
        else stage
        for stage in STAGES
    ]


class _LaterFirst(Order):
    def of(self, pool, pools):  # type: ignore[no-untyped-def]
        return pool.open


def table(rows: list[list[Cell]]) -> Table:
    """Return the table."""
    columns = [Column("baselines and measure on"), Column("both take"), Column("sampling, s")]
    columns += [Column("cores", "d"), Column("s per clip", ".1f"), Column("GPU busy while filling", ".3f")]
    columns += [Column("GPU busy, whole job", ".3f"), Column("most clips begun", "d")]
    title = f"{CLIPS} clips of 81x480x832 on one GPU, simulated"
    return Table("workers", title, columns, rows, this_run())


if __name__ == "__main__":
    main()
