"""What many clips cost beside their work, and how long a finished job takes to find that it is finished.

    python benchmarks/scale.py            # 10,000 clips
    python benchmarks/scale.py --clips 100000

A stage that writes a few bytes goes through everything but Prefect: plan, executor, store, manifest, shard by
shard, then once more when everything is there. Prints the rows of scale.md. Overhead is what is left of the
time when that of writing the same artifacts without any of it, measured on a sample, is taken away.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from datetime import UTC, datetime

import psutil
from pool_overhead import SmallFile

from recapture.conf.schema import ExecutionConfig
from recapture.datasets.keys import content_key
from recapture.datasets.manifest import compact, read_manifest
from recapture.datasets.store import ArtifactStore
from recapture.tasks.pool import Executor, RetryPolicy, open_executor
from recapture.tasks.run import run_stage
from recapture.tasks.stage import Item

SAMPLE = 2000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    parser.add_argument("--shard", type=int, default=ExecutionConfig().shard)
    options = parser.parse_args()
    todo = [
        Item(f"clip/{number}", f"clip/{number}", content_key("small_file", "1", {}, {}, {"n": number}))
        for number in range(options.clips)
    ]
    config = ExecutionConfig(executor=options.executor)
    with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
        alone = writing_alone(f"{root}/alone", min(SAMPLE, options.clips))
        store = f"{root}/artifacts"
        with open_executor(config, store) as executor:
            executor.run(SmallFile(), todo[: os.cpu_count()], lambda outcome: None, RetryPolicy())
            memory = psutil.Process().memory_info().rss  # with its libraries loaded and its workers started
            first = run(executor, store, todo, options.shard, "ok")
        after_first = psutil.Process().memory_info().rss
        with open_executor(config, store) as executor:
            again = run(executor, store, todo, options.shard, "reused")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        reading, rows = seconds_to_read(store)
        started = time.perf_counter()
        parts = compact(store, "set", "small_file")
        compacting = time.perf_counter() - started
    per_clip = 1000 * first / options.clips
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    date = datetime.now(UTC).date()
    print(f"{date}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load}\n")
    print("| clips | executor | ms a clip | overhead | finished job again | driver, start → end (peak) |")
    print("|---:|---|---:|---:|---:|---:|")
    print(
        f"| {options.clips} | {options.executor} | {per_clip:.2f} | {per_clip - alone:.2f} | {again:.1f} s "
        f"| {memory / MIB:.0f} → {after_first / MIB:.0f} ({peak / MIB:.0f}) MiB |\n"
    )
    print(f"{rows} rows read in {reading:.1f} s from {parts} parts; compacted in {compacting:.1f} s")


def writing_alone(root: str, count: int) -> float:
    """Return milliseconds an artifact without plan, executor and manifest."""
    store, stage = ArtifactStore(root), SmallFile()
    started = time.perf_counter()
    for number in range(count):
        item = Item(f"clip/{number}", f"clip/{number}", content_key("alone", "1", {}, {}, {"n": number}))
        with store.create("alone", item.key) as output:
            stage.run(item, {}, output)
    return 1000 * (time.perf_counter() - started) / count


def run(executor: Executor, root: str, todo: list[Item], shard: int, expected: str) -> float:
    """Return the seconds of one run over all shards."""
    store, stage = ArtifactStore(root), SmallFile()
    started = time.perf_counter()
    for number, start in enumerate(range(0, len(todo), shard)):
        items = todo[start : start + shard]
        run_id = f"{expected}1"
        outcomes = run_stage(stage, items, store, executor, dataset="set", run_id=run_id, shard=number)
        wrong = [outcome for outcome in outcomes if outcome.status not in (expected, "reused")]
        if wrong or (expected == "reused" and any(outcome.status != "reused" for outcome in outcomes)):
            raise SystemExit(f"{len(wrong)} items went wrong; the numbers would mean nothing")
    return time.perf_counter() - started


def seconds_to_read(root: str) -> tuple[float, int]:
    started = time.perf_counter()
    rows = read_manifest(root, "set", "small_file")
    return time.perf_counter() - started, len(rows)


if __name__ == "__main__":
    main()
