"""The memory that each stage needs for a long clip: real stages on a real file, one process for each.

    python benchmarks/long_clip.py                       # 500 and 2000 frames: about 10 minutes on 2 cores
    python benchmarks/long_clip.py --frames 500 10000    # about 45 minutes
    python benchmarks/long_clip.py --stages ingest depth --depth-model DIR

Every process runs one stage on one clip and reports its resident size once the stage is set up, and the peak
(VmHWM) at its end; the difference is what the clip costs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.media.video import write_video
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import supposed
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import ClipJob, recapture_stages

HEIGHT, WIDTH = 32, 48
STAGES = ("ingest", "depth", "render", "fill, classical", "fill, base", "measure", "deliver")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--depth-model", default="embedded")
    parser.add_argument("--fill-window", type=int, default=17)
    parser.add_argument("--one", nargs=2, metavar=("STAGE", "SETTINGS"), help=argparse.SUPPRESS)
    add_write(parser, "long_clip")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one[0], load_config(arguments=json.loads(options.one[1])))))
        return
    found = {
        (stage, frames): row
        for frames in options.frames
        for stage, row in of_length(frames, options.stages, options.depth_model, options.fill_window)
    }
    last = options.frames[-1]
    columns = [Column("stage"), Column("set up, MiB", ".0f")]
    columns += [Column(f"for {frames} frames, MiB", ".0f") for frames in options.frames]
    columns += [Column(f"seconds, {last} frames", ".0f")]
    rows: list[list[Cell]] = []
    for stage in options.stages:
        of_stage = [found[stage, frames] for frames in options.frames]
        costs = [row["peak"] - row["set_up"] for row in of_stage]
        rows.append([stage, of_stage[-1]["set_up"], *costs, of_stage[-1]["seconds"]])
    name = options.write or "long_clip"
    made = Table(name, "Every stage in a process of its own", columns, rows, this_run())
    publish([made], write=options.write is not None)


def of_length(
    frames: int, stages: Sequence[str], depth_model: str, window: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each stage and what it took for a clip of so many frames.

    The classical fill comes before the fill by the base, whose results measure and deliver use.
    """
    with tempfile.TemporaryDirectory(prefix="recapture-long-") as folder:
        Path(folder, "clips").mkdir()
        write_video(f"{folder}/clips/long.mp4", pictures(frames), Fraction(24))
        for stage in stages:
            method = "classical" if stage == "fill, classical" else "base"
            settings = settings_of(folder, method, depth_model, window)
            row = measured(stage.split(",")[0], settings)
            print(f"{frames} frames, {stage}: {row}", file=sys.stderr, flush=True)
            yield stage, row


def pictures(frames: int) -> Iterator[np.ndarray]:
    """Yield frames of sliding smooth noise, uint8 [32, 48, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.random((HEIGHT // 16 + 2, 2 * WIDTH // 16 + 2, 3))
    fine: np.ndarray = np.kron(coarse, np.ones((16, 16, 1)))
    for _ in range(2):
        rolled = [np.roll(fine, shift, axis) for shift in (-6, -3, 0, 3, 6) for axis in (0, 1)]
        fine = np.sum(rolled, axis=0) / 10
    wall = (255 * fine).clip(0, 255).astype(np.uint8)
    for t in range(frames):
        left = round(WIDTH * (1 - np.cos(t / 40)) / 2)
        yield wall[:HEIGHT, left : left + WIDTH]


def settings_of(folder: str, method: str, depth_model: str, window: int) -> list[str]:
    """Return the settings of a job over the one clip in `folder`, as cheap as the real stages allow."""
    words = {
        "dataset.uri": f"{folder}/clips",
        "store": f"{folder}/artifacts",
        "outputs": f"{folder}/outputs",
        "state": f"{folder}/state",
        "depth.source": "model",
        "depth.model": depth_model,
        "depth.video.steps": "1",
        "ingest.short_side": str(HEIGHT),
        "trajectories": "[{preset: orbit_right, angle_degrees: 10}]",
        "measure.baselines": "false",
        "fill.method": method,
        "fill.propagate": str(method == "base").lower(),
        "fill.steps": "1",
        "fill.window": str(window),
        "fill.overlap": "4",
    }
    return [word for name, value in words.items() for word in (f"--{name}", value)]


def measured(stage: str, settings: list[str]) -> dict[str, float]:
    """Run one stage in a process of its own; return seconds, set_up and peak (MiB)."""
    command = [sys.executable, __file__, "--one", stage, json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_one(name: str, config: RecaptureConfig) -> dict[str, float]:
    """Run the stage on its item in this process; the artifacts of its parents must exist."""
    plans = supposed(ClipJob.of(config, recapture_stages(config)).plans())
    plan = next(plan for plan in plans if plan.stage.name == name)
    with limited_threads(plan.stage.resources):
        plan.stage.setup()
        set_up = status("VmRSS")
        outcome = work(plan.stage, plan.items[0], ArtifactStore(config.store), 1)
    if outcome.status != "ok":
        raise SystemExit(f"stage {name!r} failed, there is nothing to measure: {outcome.traceback}")
    return {"seconds": outcome.seconds, "set_up": set_up, "peak": status("VmHWM")}


def status(field: str) -> float:
    """Return a field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
