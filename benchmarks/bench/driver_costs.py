"""What a driver spends per clip, part, row and task, measured on this machine for the simulation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.tables import Cell
from recapture.conf.load import load_config
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.index import write_index
from recapture.datasets.store.manifest import named_keys, write_part
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.mlflow_link import start_run
from recapture.tasks.engine.planner import StagePlan, supposed
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.job import ClipJob, recapture_stages

STAGES, SHARD = 6, 256
PARTS, BATCHES, TASKS = 100, 200, 100


def measure(root: Path, clips: int) -> list[list[Cell]]:
    """Return rows of name, value, unit and how it was measured; CPU seconds unless the row says otherwise."""
    rows: list[list[Cell]] = []
    memory = psutil.Process().memory_info().rss
    plans: list[StagePlan] = []
    spent = cpu(lambda: plans.extend(_plans(root, clips)))
    outcomes = [_reused(plan, item.name, item.clip_id, item.key) for plan in plans for item in plan.items]
    grown = psutil.Process().memory_info().rss - memory
    items = len(outcomes)
    rows.append(["plan", 1e6 * spent / items, "µs of CPU per clip and stage", f"{clips} clips of an index"])
    kib = grown / clips / 1024
    rows.append(["memory", kib, "KiB of the driver per clip", f"plan and outcomes of {STAGES} stages"])
    rows.append(["check", *_check(root, min(2000, clips))])
    rows.append(["part", *_parts(root)])
    rows.append(["metrics", *_metrics(root)])
    rows.append(["task", *_tasks(root)])
    return rows


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process that some work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _plans(root: Path, clips: int) -> list[StagePlan]:
    write_index(str(root / "clips.parquet"), _clips(clips))
    words = ["--dataset.uri", str(root / "clips.parquet"), "--trajectories", "[{preset: orbit_right}]"]
    words += [word for name in ("store", "outputs", "state") for word in (f"--{name}", str(root / name))]
    config = load_config(arguments=words)
    return supposed(ClipJob.of(config, recapture_stages(config)).plans())


def _clips(count: int) -> Iterator[Clip]:
    for number in range(count):
        name = f"clip/{number:06d}"
        about = {"fps": "24", "frames": 49, "width": 832, "height": 480, "duration": 49 / 24}
        yield Clip(name, f"/videos/{name}.mp4", "video", audio=False, caption="", content_hash=name, **about)  # type: ignore[arg-type]


def _reused(plan: StagePlan, item: str, clip: str, key: str) -> Outcome:
    return Outcome(item, clip, key, plan.stage.name, "reused", metrics={"psnr": 1.0})


def _check(root: Path, count: int) -> tuple[Cell, ...]:
    store = ArtifactStore(str(root / "checked"))
    keys = [f"{number:032x}" for number in range(count)]
    for key in keys:
        with store.create("stage", key) as output:
            output.write_bytes("x.bin", b"x")
    spent = cpu(lambda: store.whole("stage", keys))
    return 1e6 * spent / count, "µs of CPU per artifact", "marker and sizes of one file, local"


def _parts(root: Path) -> tuple[Cell, ...]:
    store = str(root / "named")
    for part in range(PARTS):
        rows = [_row(part * SHARD + number) for number in range(SHARD)]
        write_part(store, "set", "stage", "run", part, rows)
    spent = cpu(lambda: named_keys(store, "set", "stage", {f"{0:032x}"}))
    return 1e3 * spent / PARTS, "ms of CPU per manifest part", f"keys of {SHARD} rows, local"


def _row(number: int) -> dict[str, object]:
    name = f"clip/{number:06d}"
    return {"clip_id": name, "item": name, "key": f"{number:032x}", "status": "ok", "metrics": {"a": 1.0}}


def _metrics(root: Path) -> tuple[Cell, ...]:
    tracker = start_run(f"sqlite:///{root / 'mlflow.db'}", "set", "run", {})
    numbers = {f"number{one}": 1.0 for one in range(6)}
    tracker.metrics(numbers, step=0)

    def log() -> None:
        for step in range(BATCHES):
            tracker.metrics(numbers, step=step + 1)

    spent = cpu(log)
    tracker.finish(False)
    return 1e3 * spent / BATCHES, "ms of CPU per shard in MLflow", "six metrics, SQLite"


def _tasks(root: Path) -> tuple[Cell, ...]:
    with _prefect(root):
        from prefect import flow, task
        from prefect.cache_policies import NO_CACHE

        nothing = task(cache_policy=NO_CACHE, persist_result=False)(lambda: None)

        @flow
        def several() -> None:
            for _ in range(TASKS):
                nothing()

        several()  # starts the server
        before = _with_children()
        several()
        spent = _with_children() - before
    return 1e3 * spent / TASKS, "ms of CPU per task in Prefect", "no-op, client and server, SQLite"


@contextmanager
def _prefect(root: Path) -> Iterator[None]:
    from recapture.flows.environment import QUIET

    os.environ.update({**QUIET, "PREFECT_HOME": str(root / "prefect")})
    yield


def _with_children() -> float:
    """Return the CPU seconds of this process and of those that it has started."""
    here = psutil.Process()
    times = [one.cpu_times() for one in (here, *here.children(recursive=True))]
    return sum(one.user + one.system for one in times)
