"""What an executor adds to each item, besides the work itself.

    python benchmarks/pool_overhead.py

A stage that writes one small file is run in this process, by the pool of warm Ray workers, and by plain Ray
tasks that do the same work without a pool. Then the same with a set-up that takes as long as a small model
takes to load. Every case runs its items --repeats times with new keys. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from bench.small_file import SmallFile
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import Executor, InlineExecutor
from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item, Outcome
from recapture.tasks.engine.worker import work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--items-with-setup", type=int, default=20)
    parser.add_argument("--setup-seconds", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    add_write(parser, "pool")
    options = parser.parse_args()
    light, heavy = SmallFile(), SmallFile(options.setup_seconds)
    ray_start = seconds(start_ray)
    rows: list[tuple[str, list[float], list[float]]] = []
    with tempfile.TemporaryDirectory(prefix="recapture-bench-") as root:
        with store_only(root) as alone:
            rows.append(("the file alone, no executor", *both(alone, light, None, options)))
        with InlineExecutor(root) as inline:
            rows.append(("inline", *both(run_with(inline), light, heavy, options)))
        with RayExecutor(root) as pool:
            workers_start = seconds(lambda: run_with(pool)(light, items(os.cpu_count() or 1)))
            rows.append(("pool of warm Ray workers", *both(run_with(pool), light, heavy, options)))
        with plain_tasks(root) as tasks:
            tasks(light, items(os.cpu_count() or 1))  # starts the worker processes
            rows.append(("plain Ray tasks", *both(tasks, light, heavy, options)))
    ray.shutdown()
    made = table(options.write or "pool", rows, options, ray_start, workers_start)
    publish([made], write=options.write is not None)


def start_ray() -> None:
    """Start a local Ray without dashboard and logs."""
    ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


Case = Callable[[SmallFile, Sequence[Item]], None]


def both(
    run: Case, light: SmallFile, heavy: SmallFile | None, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Return milliseconds per item without and with a set-up, one value per repeat."""
    without = [per_item(run, light, options.items) for _ in range(options.repeats)]
    with_setup = (
        [per_item(run, heavy, options.items_with_setup) for _ in range(options.repeats)] if heavy else []
    )
    return without, with_setup


def per_item(run: Case, stage: SmallFile, count: int) -> float:
    """Return milliseconds per item for `count` new items."""
    todo = items(count)
    return 1000 * seconds(lambda: run(stage, todo)) / count


def seconds(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def items(count: int) -> list[Item]:
    """Return items with keys that no artifact has yet."""
    salt = time.time_ns()
    return [
        Item(
            f"clip/{number}",
            f"clip/{number}",
            content_key("small_file", "1", {}, {}, {"n": number, "s": salt}),
        )
        for number in range(count)
    ]


def check(outcomes: Sequence[Outcome], todo: Sequence[Item]) -> None:
    """Raise SystemExit unless every item was made."""
    if len(outcomes) != len(todo) or any(outcome.status != "ok" for outcome in outcomes):
        raise SystemExit("an item was not made; the numbers would mean nothing")


def run_with(executor: Executor) -> Case:
    """Return a case that runs items by an executor."""

    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        check(executor.run(stage, todo, lambda outcome: None, RetryPolicy()), todo)

    return run


@contextmanager
def store_only(root: str) -> Iterator[Case]:
    """Yield a case that only writes the artifacts."""
    store = ArtifactStore(root)

    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        for item in todo:
            with store.create(stage.name, item.key) as output:
                stage.run(item, {}, output)

    yield run


@contextmanager
def plain_tasks(root: str) -> Iterator[Case]:
    """Yield the naive solution: one Ray task per item, which sets the stage up each time."""

    def one(stage: SmallFile, item: Item) -> Outcome:
        stage.setup()
        return work(stage, item, ArtifactStore(root), 1)

    task = ray.remote(one).options(num_cpus=1)

    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        check(ray.get([task.remote(stage, item) for item in todo]), todo)

    yield run


def table(
    name: str,
    rows: Sequence[tuple[str, list[float], list[float]]],
    options: argparse.Namespace,
    ray_start: float,
    workers_start: float,
) -> Table:
    """Return the medians."""
    cells: list[list[Cell]] = [[case, spread(light), spread(heavy)] for case, light, heavy in rows]
    heading = f"{options.items_with_setup} items, set-up {options.setup_seconds:g} s"
    columns = [Column("ms per item"), Column(f"{options.items} items"), Column(heading)]
    here = this_run()
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    run = Run(here.command, f"{here.machine}, Ray {ray.__version__}, load {load}", here.date, here.commit)
    title = f"Median of {options.repeats} repeats, best and worst in brackets"
    note = f"Ray starts in {ray_start:.1f} s, its first workers in {workers_start:.1f} s."
    return Table(name, title, columns, cells, run, [note])


def spread(values: Sequence[float]) -> str | None:
    """Return the median, and the best and the worst in brackets."""
    if not values:
        return None
    return f"{statistics.median(values):.2f} ({min(values):.2f}…{max(values):.2f})"


if __name__ == "__main__":
    main()
