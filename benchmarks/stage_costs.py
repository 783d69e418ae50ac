"""What each stage of a recapture job costs for one clip: CPU seconds, wall seconds, bytes, peak memory.

    python benchmarks/stage_costs.py                                # 81 frames of 480x832 on one core
    python benchmarks/stage_costs.py --stages measure --frames 17
    python benchmarks/stage_costs.py --device cuda --cpus 4
    python benchmarks/stage_costs.py --clip scene                   # a clip whose truth is known

The clip is an H.264 file of a procedural scene, or, with --clip scene, the scene itself, whose depth, cameras
and truth are known. Every stage runs in a process of its own on the artifacts of the stages before it, with
as many threads as --cpus. CPU seconds are user and system time of that process and its children while the
item is worked on: imports and set-up are left out, and what else the machine does hardly changes them. Peak
memory is that of the process (VmHWM) above what it had once the stage was set up.

The default fill is a stand-in that costs nothing: pull-push in the holes, and noise for `unpasted`, under the
name of the base. --fill classical runs the classical filler. --keep DIR keeps clip and artifacts, and a later
call with the same DIR measures only the stages that it names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.stand_in_fill import StandInFill
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.scenes import SceneSpec
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.clip_stage import ClipStage
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.engine.planner import supposed
from recapture.tasks.engine.stage import Stage
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import ClipJob, recapture_stages

COLUMNS = {
    "CPU s": ".1f",
    "wall s": ".1f",
    "MB": ".1f",
    "peak, MiB": ".0f",
    "GPU peak, MiB": ".0f",
}


def main() -> None:
    options = arguments(sys.argv[1:])
    if options.one:
        print(json.dumps(run_one(options)))
        return
    with tempfile.TemporaryDirectory(prefix="recapture-costs-") as scratch:
        folder = Path(options.keep or scratch)
        make_clip(options, folder)
        found = {name: measured(name, folder) for name in stage_names(options, folder)}
    rows: list[list[Cell]] = [
        [name, *(row[column] for column in COLUMNS)] for name, row in found.items() if row
    ]
    device = "on a GPU where it can" if options.device == "cuda" else "without a GPU"
    title = f"{options.frames} frames of {options.height}x{options.width}, {options.cpus:g} cores, {device}"
    columns = [Column("stage"), *(Column(name, style) for name, style in COLUMNS.items())]
    run = this_run(device=options.device)
    publish(
        [Table(options.write or "stage_costs", title, columns, rows, run)], write=options.write is not None
    )


def arguments(words: list[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--clip", choices=("video", "scene"), default="video")
    parser.add_argument("--angle", type=float, default=20.0, help="Of the orbit, in degrees.")
    parser.add_argument("--fill", choices=("stand-in", "classical", "base"), default="stand-in")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs per worker.")
    parser.add_argument("--stages", nargs="+", help="Print these alone; those before them run too.")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("SETTING", "VALUE"))
    parser.add_argument("--keep", metavar="DIR", help="Keep clip and artifacts here, and use what is there.")
    parser.add_argument("--profile", metavar="STAGE", help="Print where the time of one stage goes.")
    parser.add_argument("--one", nargs=2, metavar=("STAGE", "DIR"), help=argparse.SUPPRESS)
    add_write(parser, "stage_costs")
    return parser.parse_args(words)


def make_clip(options: argparse.Namespace, folder: Path) -> None:
    """Write the clip, if it is a video that is not there yet, and the options that later processes need."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(json.dumps(vars(options) | {"one": None}))
    path = folder / "clips" / f"{options.frames}x{options.height}x{options.width}.mp4"
    if options.clip == "video" and not path.exists():
        write_video(str(path), pictures(options.frames, options.height, options.width), Fraction(16))


def pictures(frames: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Yield the frames of a procedural scene before a still camera, uint8 [H, W, 3]."""
    scene = SceneSpec(seed=0, camera="still").scene()
    intrinsics, cameras = source_cameras(scene, frames, height, width)
    times = torch.arange(frames).float()
    for start in range(0, frames, 4):
        part = slice(start, start + 4)
        seen = render_scene(scene, intrinsics[part], cameras[part], times[part], height, width)
        yield from to_frames(seen.video)


def settings(options: argparse.Namespace, folder: Path) -> RecaptureConfig:
    """Return the settings of the job over the one clip."""
    size = f"frames={options.frames}&height={options.height}&width={options.width}"
    words = {
        "dataset.uri": f"{folder}/clips" if options.clip == "video" else f"scenes://?count=1&{size}",
        "dataset.where": f"{options.frames}x{options.height}x{options.width}"
        if options.clip == "video"
        else "*",
        "store": f"{folder}/artifacts",
        "outputs": f"{folder}/outputs",
        "state": f"{folder}/state",
        "ingest.short_side": str(min(options.height, options.width)),
        "trajectories": f"[{{preset: orbit_right, angle_degrees: {options.angle:g}}}]",
        "fill.method": "classical" if options.fill == "classical" else "base",
        **dict(options.set),
    }
    return load_config(arguments=[word for name, value in words.items() for word in (f"--{name}", value)])


def stages(options: argparse.Namespace, config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of the job with their resources, and the stand-in if it is asked for."""
    found = recapture_stages(config)
    if options.fill == "stand-in":
        found = [StandInFill(config.fill) if stage.name == "fill" else stage for stage in found]
    for stage in found:
        gpus = 1.0 if options.device == "cuda" else 0.0
        stage.resources = type(stage.resources)(options.cpus, gpus)
    return found


def stage_names(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the stages to print; make the artifacts of those before the last of them that are missing."""
    names = [stage.name for stage in stages(options, settings(options, folder))]
    wanted = options.stages or names
    if unknown := set(wanted) - set(names):
        raise SystemExit(f"no stage is called {', '.join(sorted(unknown))}; stages are {', '.join(names)}")
    for name in names[: max(names.index(name) for name in wanted)]:
        if name not in wanted:
            measured(name, folder, only_if_missing=True)
    return [name for name in names if name in wanted]


def measured(name: str, folder: Path, *, only_if_missing: bool = False) -> dict[str, Any]:
    """Run one stage in a process of its own; return its row."""
    command = [sys.executable, __file__, "--one", name, str(folder)]
    if only_if_missing:
        command += ["--stages", "missing"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"stage {name!r} failed, there is nothing to measure")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {row}", file=sys.stderr, flush=True)
    return row


@dataclass(frozen=True)
class Clock:
    """CPU seconds of this process and its children, and seconds by the clock."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Clock:
        times = os.times()
        return cls(sum(times[:4]), time.perf_counter())


def run_one(options: argparse.Namespace) -> Mapping[str, float]:
    """Run one stage on its item in this process; the artifacts of its parents must exist."""
    name, folder = options.one[0], Path(options.one[1])
    missing_only = options.stages is not None
    options = argparse.Namespace(**json.loads((folder / "options.json").read_text()))
    config = settings(options, folder)
    plans = supposed(ClipJob.of(config, stages(options, config)).plans())
    plan = next((plan for plan in plans if plan.stage.name == name and plan.items), None)
    if plan is None:  # such as cameras, for a clip that brings its own
        return {}
    item, store = plan.items[0], ArtifactStore(config.store)
    if store.exists(name, item.key):
        if missing_only:
            return {}
        store.delete(name, item.key)
    with limited_threads(plan.stage.resources):
        plan.stage.setup()
        set_up, before = status("VmRSS"), Clock.now()
        outcome = (
            profiled(plan.stage, item, store) if options.profile == name else work(plan.stage, item, store, 1)
        )
        after = Clock.now()
    if outcome.status != "ok":
        print(outcome.traceback or outcome.error, file=sys.stderr)
        raise SystemExit(1)
    return {
        "CPU s": after.cpu - before.cpu,
        "wall s": after.wall - before.wall,
        "MB": outcome.bytes / 1e6,
        "peak, MiB": status("VmHWM") - set_up,
        "GPU peak, MiB": outcome.vram_peak_mb,
    }


def profiled(stage: Stage[Any], item: Any, store: ArtifactStore) -> Any:
    """Work on the item and print the functions that took longest."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    outcome = profile.runcall(work, stage, item, store, 1)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(40)
    return outcome


def status(field: str) -> float:
    """Return a field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
