"""What many clips cost besides their work, and how long a finished job takes to find that it is finished.

    python benchmarks/scale.py                        # 10,000 clips: a minute
    python benchmarks/scale.py --clips 10000 100000   # several minutes
    python benchmarks/scale.py --stages 6             # a finished job of all stages, with Prefect and MLflow

A stage that writes a few bytes goes through everything but Prefect: plan, executor, store, manifest, shard
by shard, then once more when every artifact exists. Overhead is the time minus that of writing the same
artifacts without any of this, which is measured on a sample.

With --stages 6 the job is `recapture run` over an index of clips that do not exist and whose artifacts are
made up (a few bytes and ten measurements), so that the job only has to find that it is finished.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from typing import Literal

import psutil

from bench.small_file import SmallFile
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.index import write_index
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.manifest import compact, read_manifest
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.environment import QUIET
from recapture.tasks.engine.executor import Executor, open_executor
from recapture.tasks.engine.planner import StagePlan, supposed
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.job import ClipJob, recapture_stages

SAMPLE = 2000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000])
    parser.add_argument("--executor", choices=("inline", "ray"), nargs="+", default=["inline"])
    parser.add_argument("--shard", type=int, default=ExecutionConfig().shard)
    parser.add_argument("--stages", type=int, choices=(1, 6), default=1)
    add_write(parser, "scale")
    options = parser.parse_args()
    begin = options.write or "scale"
    if options.stages == 6:
        name, title = f"{begin}-finished", "A finished job of six stages"
        columns = [
            Column("clips", "d"),
            Column("load, before → after"),
            Column("finished job again, s", ".0f"),
        ]
        columns += [Column("CPU, s", ".1f")]
        columns += [Column("of that scan and plan, CPU s", ".1f"), Column("checking artifacts, CPU s", ".1f")]
        rows = [finished_job(clips, options.shard) for clips in options.clips]
    else:
        name, title = begin, "Artifacts of a few bytes"
        columns = [
            Column("clips", "d"),
            Column("executor"),
            Column("load", ".1f"),
            Column("ms per clip", ".2f"),
        ]
        columns += [Column("overhead, ms", ".2f"), Column("finished job again, s", ".1f")]
        columns += [Column("CPU of the driver, ms per clip", ".2f")]
        columns += [Column("driver, start → end (peak), MiB")]
        rows = [
            one_stage(clips, executor, options.shard)
            for clips in options.clips
            for executor in options.executor
        ]
    made = Table(name, title, columns, rows, this_run())
    publish([made], write=options.write is not None)


def one_stage(clips: int, executor_name: Literal["inline", "ray"], shard: int) -> list[Cell]:
    """Return the row of a stage that writes a few bytes for each clip."""
    todo: list[Item] = [
        Item(f"clip/{number}", f"clip/{number}", content_key("small_file", "1", {}, {}, {"n": number}))
        for number in range(clips)
    ]
    config = ExecutionConfig(executor=executor_name)
    with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
        alone = writing_alone(f"{root}/alone", min(SAMPLE, clips))
        store = f"{root}/artifacts"
        with open_executor(config, store) as executor:
            executor.run(SmallFile(), todo[: os.cpu_count()], lambda outcome: None, RetryPolicy())
            memory = psutil.Process().memory_info().rss  # with its libraries loaded and its workers started
            spent = time.process_time()
            first = run(executor, store, todo, shard, "ok")
            spent = time.process_time() - spent
        after_first = psutil.Process().memory_info().rss
        with open_executor(config, store) as executor:
            again = run(executor, store, todo, shard, "reused")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        reading, rows = seconds_to_read(store)
        started = time.perf_counter()
        parts = compact(store, "set", "small_file")
        compacting = time.perf_counter() - started
    print(f"{rows} rows read in {reading:.1f} s from {parts} parts; compacted in {compacting:.1f} s")
    per_clip = 1000 * first / clips
    driver = f"{memory / MIB:.0f} → {after_first / MIB:.0f} ({peak / MIB:.0f})"
    load = os.getloadavg()[0]
    return [clips, executor_name, load, per_clip, per_clip - alone, again, 1000 * spent / clips, driver]


def finished_job(clips: int, shard: int) -> list[Cell]:
    """Return the row of a whole job whose every artifact exists."""
    with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
        os.environ |= {**QUIET, "PREFECT_HOME": f"{root}/prefect"}
        from recapture.flows.recapture_dataset import recapture

        listed = (made_up_clip(number) for number in range(clips))
        write_index(f"{root}/clips.parquet", listed)
        words = ["--dataset.name", "set", "--dataset.uri", f"{root}/clips.parquet", "--tracking.videos", "0"]
        words += ["--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"]
        words += ["--trajectories", "[{preset: orbit_right}]", "--execution.shard", str(shard)]
        config = load_config(arguments=[*words, "--execution.executor", "inline"])
        started = time.process_time()
        plans = supposed(ClipJob.of(config, recapture_stages(config)).plans())
        planning = time.process_time() - started
        make_up(plans, config.store)
        recapture(config)  # names the artifacts in the manifests, and publishes
        before = os.getloadavg()[0]
        checking = sum(run_planned(plan, config.store, shard) for plan in plans)
        started, spent = time.perf_counter(), time.process_time()
        summary = recapture(config)
        again, spent = time.perf_counter() - started, time.process_time() - spent
        assert summary.reused_everything and summary.delivered == clips
    return [clips, f"{before:.1f} → {os.getloadavg()[0]:.1f}", again, spent, planning, checking]


def made_up_clip(number: int) -> Clip:
    """Return a clip that does not exist."""
    name = f"clip/{number:06d}"
    return Clip(
        name,
        f"/videos/{name}.mp4",
        "video",
        "24",
        frames=49,
        width=832,
        height=480,
        duration=49 / 24,
        audio=False,
        caption="",
        content_hash=name,
    )


def make_up(plans: Sequence[StagePlan], root: str) -> None:
    """Write an artifact of a few bytes for every item of some plans."""
    store = ArtifactStore(root)
    measured = {f"{method}/metric{number}": 0.5 for method in ("base", "copy_source") for number in range(5)}
    for plan in plans:
        for item in plan.items:
            with store.create(plan.stage.name, item.key) as output:
                output.write_bytes("x.bin", item.name.encode())
                output.metrics = measured if plan.stage.name == "measure" else {}


def run_planned(plan: StagePlan, root: str, shard: int) -> float:
    """Return the CPU seconds of finding a stage's artifacts and their rows, shard by shard."""
    store = ArtifactStore(root)
    started = time.process_time()
    with open_executor(ExecutionConfig(executor="inline"), root) as executor:
        context = RunContext(store, executor, "set", "r")
        for number, items in enumerate(plan.shards(shard)):
            outcomes = run_stage(plan.stage, items, context, shard=number)
            assert all(outcome.status == "reused" for outcome in outcomes)
    return time.process_time() - started


def writing_alone(root: str, count: int) -> float:
    """Return milliseconds per artifact without plan, executor and manifest."""
    store, stage = ArtifactStore(root), SmallFile()
    started = time.perf_counter()
    for number in range(count):
        item: Item = Item(
            f"clip/{number}", f"clip/{number}", content_key("alone", "1", {}, {}, {"n": number})
        )
        with store.create("alone", item.key) as output:
            stage.run(item, {}, output)
    return 1000 * (time.perf_counter() - started) / count


def run(executor: Executor, root: str, todo: list[Item], shard: int, expected: str) -> float:
    """Return the seconds of one run over all shards."""
    store, stage = ArtifactStore(root), SmallFile()
    started = time.perf_counter()
    context = RunContext(store, executor, "set", f"{expected}1")
    for number, start in enumerate(range(0, len(todo), shard)):
        outcomes = run_stage(stage, todo[start : start + shard], context, shard=number)
        wrong = [outcome for outcome in outcomes if outcome.status not in (expected, "reused")]
        if wrong or (expected == "reused" and any(outcome.status != "reused" for outcome in outcomes)):
            raise SystemExit(f"{len(wrong)} items went wrong; the numbers would mean nothing")
    return time.perf_counter() - started


def seconds_to_read(root: str) -> tuple[float, int]:
    """Return the seconds of reading a manifest, and the number of its rows."""
    started = time.perf_counter()
    rows = read_manifest(root, "set", "small_file")
    return time.perf_counter() - started, len(rows)


if __name__ == "__main__":
    main()
