"""What an executor costs an item, beside the work itself.

    python benchmarks/pool_overhead.py

A stage that writes one small file, so that what is left is the way there and back: this process, the pool of
warm Ray workers, and plain Ray tasks that do the same work without a pool. Then the same with a set-up that
takes as long as a small model takes to load. Every case does its items `--repeats` times on new keys; the
table has the median. Prints the table of pool.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from pydantic import BaseModel

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.engine.executor import Executor, InlineExecutor
from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item, Outcome, Resources
from recapture.tasks.engine.worker import work


class NoConfig(BaseModel):
    """Nothing to configure."""


@dataclass(frozen=True)
class SmallFile:
    """Writes a few bytes; `setup` takes `setup_seconds`."""

    setup_seconds: float = 0.0
    name: str = "small_file"
    version: str = "1"
    resources: Resources = Resources()

    @property
    def config(self) -> BaseModel:
        return NoConfig()

    def setup(self) -> None:
        time.sleep(self.setup_seconds)

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        output.write_bytes("x.bin", item.name.encode())
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--items-with-setup", type=int, default=20)
    parser.add_argument("--setup-seconds", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
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
    print_table(rows, options, ray_start, workers_start)


def start_ray() -> None:
    ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


Run = Callable[[SmallFile, Sequence[Item]], None]


def both(
    run: Run, light: SmallFile, heavy: SmallFile | None, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Return milliseconds an item without and with a set-up, a value a repeat."""
    without = [per_item(run, light, options.items) for _ in range(options.repeats)]
    with_setup = (
        [per_item(run, heavy, options.items_with_setup) for _ in range(options.repeats)] if heavy else []
    )
    return without, with_setup


def per_item(run: Run, stage: SmallFile, count: int) -> float:
    todo = items(count)
    return 1000 * seconds(lambda: run(stage, todo)) / count


def seconds(action: Callable[[], Any]) -> float:
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
    if len(outcomes) != len(todo) or any(outcome.status != "ok" for outcome in outcomes):
        raise SystemExit("an item was not made; the numbers would mean nothing")


def run_with(executor: Executor) -> Run:
    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        check(executor.run(stage, todo, lambda outcome: None, RetryPolicy()), todo)

    return run


@contextmanager
def store_only(root: str) -> Iterator[Run]:
    store = ArtifactStore(root)

    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        for item in todo:
            with store.create(stage.name, item.key) as output:
                stage.run(item, {}, output)

    yield run


@contextmanager
def plain_tasks(root: str) -> Iterator[Run]:
    """What one writes first: a Ray task an item, which sets the stage up each time."""

    def one(stage: SmallFile, item: Item) -> Outcome:
        stage.setup()
        return work(stage, item, ArtifactStore(root), 1)

    task = ray.remote(one).options(num_cpus=1)

    def run(stage: SmallFile, todo: Sequence[Item]) -> None:
        check(ray.get([task.remote(stage, item) for item in todo]), todo)

    yield run


def print_table(
    rows: Sequence[tuple[str, list[float], list[float]]],
    options: argparse.Namespace,
    ray_start: float,
    workers_start: float,
) -> None:
    print(f"`python {' '.join(sys.argv)}`, {os.cpu_count()} cores, {datetime.now(UTC).date()}", end=" ")
    print(f"(Python {platform.python_version()}, Ray {ray.__version__}; median of {options.repeats}, in")
    print("brackets the best and the worst).\n")
    light, heavy = (
        f"{options.items} items",
        f"{options.items_with_setup} items, set-up {options.setup_seconds:g} s",
    )
    print(f"| ms an item | {light} | {heavy} |\n|---|---:|---:|")
    for name, without, with_setup in rows:
        print(f"| {name} | {spread(without)} | {spread(with_setup)} |")
    print(f"\nRay starts in {ray_start:.1f} s, its first workers in {workers_start:.1f} s.")


def spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):.2f} ({min(values):.2f}…{max(values):.2f})"


if __name__ == "__main__":
    main()
