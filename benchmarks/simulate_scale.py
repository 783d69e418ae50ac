"""Ten million clips on a thousand GPUs: which part of a job breaks first, and at which size.

    python benchmarks/simulate_scale.py --measure --write    # the constants, on this machine: 3 minutes
    python benchmarks/simulate_scale.py --write              # tables and plot from them: some minutes

The limits are arithmetic on the constants; the fleets are simulated event by event (bench/fleet.py): a driver
per share of the dataset, its GPUs, losses and replacements. What could not be measured here is named as an
assumption in ASSUMED and in the tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.driver_costs import SHARD, STAGES, measure
from bench.fleet import Fleet, Ran, simulate
from bench.tables import PAGES, Cell, Column, Table, load, publish, this_run

DAYS = 30
CLIPS, GPUS = 10_000_000, 1000
ASSUMED = {
    "request": 0.030,  # s for one request to an object store
    "requests": 16,  # at the same time, per driver (store.REQUESTS)
    "page": 0.100,  # s for one page of 1000 names of a listing
    "files": 5,  # per artifact
    "driver_memory": 64 * 2**20,  # KiB
    "lost_per_hour": 0.05,
    "replaced_after": 390.0,  # s: a new machine in 300, its model loaded in 90
    "spread": 0.5,  # standard deviation of a clip's GPU seconds over their mean (log-normal)
}
HOUR = 3600.0


@dataclass(frozen=True)
class Limit:
    """Something that grows with the clips of one driver, or of all of them."""

    name: str
    per_clip: float
    unit: str
    most: float
    shared: bool = False  # by all drivers: more of them do not help

    def at(self, clips: int, drivers: int) -> float:
        """Return its size at so many clips."""
        return self.per_clip * clips / (1 if self.shared else drivers)

    def breaks_at(self, drivers: int) -> float:
        """Return the number of clips at which it reaches its limit."""
        return self.most / self.per_clip * (1 if self.shared else drivers)


def limits(constants: dict[str, float]) -> list[Limit]:
    """Return everything that grows with the number of clips, each with the largest size that is endured."""
    request = ASSUMED["request"] / ASSUMED["requests"]
    objects = STAGES * ASSUMED["files"]
    job = DAYS * 24.0
    return [
        Limit("driver's memory", constants["memory"] / 2**20, "GiB", ASSUMED["driver_memory"] / 2**20),
        Limit("checking a finished job, object store", STAGES * 2 * request / HOUR, "h", 1.0),
        Limit(
            "plan and checks of a finished job, CPU",
            STAGES * (constants["plan"] + constants["check"]) / 1e6 / HOUR,
            "h",
            1.0,
        ),
        Limit("looking up keys in manifest parts", STAGES * ASSUMED["request"] / SHARD / HOUR, "h", 1.0),
        Limit("handing out items (Ray)", STAGES * constants["item"] / 1e3 / HOUR, "h", job),
        Limit("Prefect's server", STAGES / SHARD * constants["task"] / 1e3 / HOUR, "h", job / 2, shared=True),
        Limit(
            "MLflow's database", STAGES / SHARD * constants["metrics"] / 1e3 / HOUR, "h", job / 2, shared=True
        ),
        Limit("listing all objects (gc)", objects / 1000 * ASSUMED["page"] / HOUR, "h", 24.0, shared=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="Measure the constants, and stop.")
    parser.add_argument("--clips", type=int, default=CLIPS // 10, help="Clips of the simulated jobs.")
    parser.add_argument("--write", action="store_true", help="Write tables and plot into the pages.")
    given = parser.parse_args()
    if given.measure:
        with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
            columns = [Column("constant"), Column("value", ".3g"), Column("unit"), Column("measured with")]
            measured = measure(Path(root), 20_000)
        publish([Table("scale-constants", "", columns, measured, this_run())], write=given.write)
        return
    constants = {str(row[0]): float(str(row[1])) for row in load("scale-constants").rows}
    constants["item"] = float(str(load("scale").cell("10000 / ray, 2 workers", "overhead, ms")))
    known = limits(constants)
    fleets = [fleet_row(*one, constants["item"]) for one in configurations(given.clips)]
    publish([limits_table(known), fleets_table(fleets)], write=given.write)
    if given.write:
        plot(known, constants["item"], PAGES / "plots/scale.png")


def limits_table(known: list[Limit]) -> Table:
    """Return a row for everything that grows, with the size at which it breaks."""
    columns = [Column("what"), Column("limit"), Column("clips at the limit, 1 driver", ",.0f")]
    columns += [Column("16 drivers", ",.0f"), Column("10 million clips, 1 driver"), Column("each of 16")]
    columns += [Column("each of 128")]
    rows: list[list[Cell]] = [
        [
            one.name,
            f"{one.most:.3g} {one.unit}",
            _rounded(one.breaks_at(1)),
            _rounded(one.breaks_at(16)),
            *(f"{float(f'{one.at(CLIPS, drivers):.2g}'):g} {one.unit}" for drivers in (1, 16, 128)),
        ]
        for one in sorted(known, key=lambda one: one.breaks_at(1))
    ]
    return Table("scale-limits", "What breaks, the first first", columns, rows, this_run())


def _rounded(clips: float) -> float:
    return float(f"{clips:.2g}")


def configurations(clips: int) -> Iterator[tuple[int, float, int, bool]]:
    """Yield clips, mean GPU seconds of each, drivers, and whether GPUs are lost."""
    for seconds in (6.0, 20.0, 82.0, 250.0):
        for drivers in (1, 16):
            yield clips, seconds, drivers, True
    yield clips, 82.0, 128, True
    yield clips, 82.0, 16, False


def fleet_row(clips: int, seconds: float, drivers: int, lossy: bool, item_ms: float) -> list[Cell]:
    """Return the row of a job that was simulated."""
    parts = simulated(clips, seconds, drivers, lossy, item_ms)
    whole = max(part.seconds for part in parts)
    busy, wasted = sum(part.busy for part in parts), sum(part.wasted for part in parts)
    assert sum(part.done for part in parts) == clips
    tail = whole - min(part.until_tail for part in parts)
    scaled = CLIPS / clips  # the length of a job of ten million such clips, its tail apart
    return [
        seconds,
        drivers,
        "5 % per hour" if lossy else "none",
        clips,
        ((whole - tail) * scaled + tail) / 86400,
        busy / (GPUS * whole),
        100 * wasted / busy,
        sum(part.losses for part in parts),
        tail / 60,
    ]


def simulated(clips: int, seconds: float, drivers: int, lossy: bool, item_ms: float) -> list[Ran]:
    """Return what each share of a job comes to; shares are as uneven as the hashes of ids make them."""
    random = np.random.default_rng(0)
    sizes = random.multinomial(clips, [1 / drivers] * drivers)
    gpus = [GPUS // drivers + (one < GPUS % drivers) for one in range(drivers)]
    spread = np.sqrt(np.log1p(ASSUMED["spread"] ** 2))
    parts = []
    for size, own in zip(sizes, gpus):
        fleet = Fleet(
            own,
            driver=STAGES * item_ms / 1e3,
            lost_per_hour=ASSUMED["lost_per_hour"] if lossy else 0.0,
            replaced_after=ASSUMED["replaced_after"],
        )
        drawn = random.lognormal(np.log(seconds) - spread**2 / 2, spread, size)
        parts.append(simulate(map(float, drawn), fleet, random))
    return parts


def fleets_table(rows: list[list[Cell]]) -> Table:
    """Return the table of simulated jobs."""
    columns = [Column("GPU seconds per clip", "g"), Column("drivers", "d"), Column("losses")]
    columns += [Column("clips simulated", ",d"), Column("10 million clips, days", ".1f")]
    columns += [Column("GPUs busy", ".3f"), Column("work lost, %", ".2f"), Column("GPUs lost", ",d")]
    columns += [Column("tail, min", ".1f")]
    title = f"{GPUS} GPUs, simulated"
    return Table("scale-fleets", title, columns, rows, this_run())


def plot(known: list[Limit], item_ms: float, path: Path) -> None:
    """Draw how the parts of a job grow towards their limits, and how busy one driver keeps its GPUs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    clips = np.geomspace(1e4, 1e8, 50)
    for number, one in enumerate(sorted(known, key=lambda one: one.breaks_at(1))):
        colour = f"C{number}"
        share = one.per_clip * clips / one.most
        left.loglog(clips, share, color=colour, label=one.name)
        if not one.shared:
            left.loglog(clips, share / 16, color=colour, linestyle=":", linewidth=1)
    left.axhline(1, color="black", linewidth=1)
    left.axvline(CLIPS, color="grey", linewidth=0.7)
    left.set(xlabel="clips", ylabel="share of its limit", ylim=(1e-5, 1e3))
    left.set_title("One driver; dotted: each of 16")
    left.legend(fontsize=7, loc="upper left")
    gpus = np.geomspace(10, 20_000, 60)
    for seconds in (6, 20, 82):
        for drivers, style in ((1, "-"), (16, ":")):
            rate = drivers / (STAGES * item_ms / 1e3)
            right.semilogx(
                gpus, np.minimum(1, rate * seconds / gpus), style, color=f"C{(6, 20, 82).index(seconds)}",
                label=f"{seconds} s per clip" if drivers == 1 else None,
            )  # fmt: skip
    right.axvline(GPUS, color="grey", linewidth=0.7)
    right.set(xlabel="GPUs", ylabel="largest busy share", ylim=(0, 1.05))
    right.set_title("GPUs that one driver keeps busy; dotted: 16")
    right.legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
