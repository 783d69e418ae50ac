"""What many clips cost beside their work, and how long a finished job takes to find that it is finished.

    python benchmarks/scale.py            # 10,000 clips
    python benchmarks/scale.py --clips 100000
    python benchmarks/scale.py --stages 6 # a finished job of all its stages, with Prefect and MLflow

A stage that writes a few bytes goes through everything but Prefect: plan, executor, store, manifest, shard by
shard, then once more when everything is there. Prints the rows of scale.md. Overhead is what is left of the
time when that of writing the same artifacts without any of it, measured on a sample, is taken away.

With --stages 6 the job is `recapture run` over an index of clips that do not exist, whose artifacts are made
up (a few bytes and ten measurements), so that there is nothing left to do but to find that out.
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

from recapture.conf.load import load_config
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.index import write_index
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.manifest import compact, read_manifest
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.environment import QUIET
from recapture.tasks.engine.executor import Executor, open_executor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.run_stage import run_stage
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.job import Job, StagePlan, plan_job, recapture_stages

SAMPLE = 2000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    parser.add_argument("--shard", type=int, default=ExecutionConfig().shard)
    parser.add_argument("--stages", type=int, choices=(1, 6), default=1)
    options = parser.parse_args()
    if options.stages == 6:
        finished_job(options.clips, options.shard)
        return
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
    print_machine()
    print("| clips | executor | ms a clip | overhead | finished job again | driver, start → end (peak) |")
    print("|---:|---|---:|---:|---:|---:|")
    print(
        f"| {options.clips} | {options.executor} | {per_clip:.2f} | {per_clip - alone:.2f} | {again:.1f} s "
        f"| {memory / MIB:.0f} → {after_first / MIB:.0f} ({peak / MIB:.0f}) MiB |\n"
    )
    print(f"{rows} rows read in {reading:.1f} s from {parts} parts; compacted in {compacting:.1f} s")


def finished_job(clips: int, shard: int) -> None:
    """Print the row of a whole job whose every artifact is there, and what of it goes where."""
    with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
        os.environ |= {**QUIET, "PREFECT_HOME": f"{root}/prefect"}
        from recapture.flows.recapture_dataset import recapture

        listed = (made_up_clip(number) for number in range(clips))
        write_index(f"{root}/clips.parquet", listed)
        words = ["--dataset.name", "set", "--dataset.uri", f"{root}/clips.parquet", "--tracking.videos", "0"]
        words += ["--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"]
        words += ["--trajectories", "[{preset: orbit_right}]", "--execution.shard", str(shard)]
        config = load_config(arguments=[*words, "--execution.executor", "inline"])
        started = time.perf_counter()
        job = plan_job(config, recapture_stages(config))
        planning = time.perf_counter() - started
        make_up(job)
        recapture(config)  # names the artifacts in the manifests, and publishes
        before = os.getloadavg()[0]
        checking = sum(run_planned(plan, config.store, shard) for plan in job.stages)
        started = time.perf_counter()
        summary = recapture(config)
        again = time.perf_counter() - started
        assert summary.reused_everything and summary.delivered == clips
    print_machine()
    print(
        "| clips | load, before → after | finished job again | of that scan and plan | checking artifacts |"
    )
    print("|---:|---:|---:|---:|---:|")
    print(
        f"| {clips} | {before:.1f} → {os.getloadavg()[0]:.1f} | {again:.0f} s | {planning:.0f} s "
        f"| {checking:.0f} s |"
    )


def made_up_clip(number: int) -> Clip:
    name = f"clip/{number:06d}"
    size = {"frames": 49, "width": 832, "height": 480, "duration": 49 / 24}
    return Clip(
        name, f"/videos/{name}.mp4", "video", "24", **size, audio=False, caption="", content_hash=name
    )


def make_up(job: Job) -> None:
    store = ArtifactStore(job.config.store)
    measured = {f"{method}/metric{number}": 0.5 for method in ("base", "copy_source") for number in range(5)}
    for plan in job.stages:
        for item in plan.items:
            with store.create(plan.stage.name, item.key) as output:
                output.write_bytes("x.bin", item.name.encode())
                output.metrics = measured if plan.stage.name == "measure" else {}


def run_planned(plan: StagePlan, root: str, shard: int) -> float:
    """Return the seconds of finding a stage's artifacts and their rows, shard by shard."""
    store = ArtifactStore(root)
    started = time.perf_counter()
    with open_executor(ExecutionConfig(executor="inline"), root) as executor:
        for number, items in enumerate(plan.shards(shard)):
            outcomes = run_stage(plan.stage, items, store, executor, dataset="set", run_id="r", shard=number)
            assert all(outcome.status == "reused" for outcome in outcomes)
    return time.perf_counter() - started


def print_machine() -> None:
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    date = datetime.now(UTC).date()
    print(f"{date}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load}\n")


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
