"""What a folder of many real video files costs before any work: the first scan, the second, a finished job.

    python benchmarks/scale_files.py --clips 10000              # some minutes
    python benchmarks/scale_files.py --clips 100000 --scans     # without the finished job

The files are distinct MP4 videos of 8 frames of 32x32, encoded by FFmpeg; the artifacts of the finished job
are made up as in scale.py. The first scan reads and hashes every file; the others find them unchanged.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
from scale import make_up

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.folders import SETTLED
from recapture.datasets.readers.scan import scan
from recapture.flows.environment import QUIET
from recapture.tasks.engine.planner import supposed
from recapture.tasks.jobs.job import ClipJob, recapture_stages

ENCODED = 200  # different pictures; the other files differ in a box of no meaning
PER_FOLDER = 1000
Made = TypeVar("Made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000])
    parser.add_argument("--scans", action="store_true", help="leave the finished job out")
    add_write(parser, "scale-files")
    options = parser.parse_args()
    columns = [Column("clips", "d"), Column("load"), Column("first scan, s", ".0f")]
    columns += [Column("second scan, s", ".1f"), Column("plan of the finished job, s", ".0f")]
    columns += [Column("finished job again, s", ".0f"), Column("peak, MiB", "d")]
    rows = [row(clips, finished=not options.scans) for clips in options.clips]
    made = Table(options.write or "scale-files", "A folder of real video files", columns, rows, this_run())
    publish([made], write=options.write is not None)


def row(clips: int, *, finished: bool) -> list[Cell]:
    """Return the row of a folder of this many videos."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="recapture-scale-") as root:
        os.environ |= {**QUIET, "PREFECT_HOME": f"{root}/prefect"}
        write_files(Path(root, "videos"), clips)
        time.sleep(SETTLED + 1)
        words = ["--dataset.name", "set", "--dataset.uri", f"{root}/videos", "--tracking.videos", "0"]
        words += ["--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"]
        words += ["--trajectories", "[{preset: orbit_right}]", "--execution.executor", "inline"]
        config = load_config(arguments=words)
        times = [timed("scan", lambda: found(config, clips)) for _ in range(2)]
        rest = finished_job(config, clips) if finished else [None, None]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [clips, f"{before:.1f} → {os.getloadavg()[0]:.1f}", *times, *rest, peak]


def found(config: RecaptureConfig, clips: int) -> None:
    """Scan the dataset and check that every file is a clip."""
    read, rejected = scan(config.dataset.uri, store=config.store)
    assert len(read) == clips and not rejected
    assert len({clip.content_hash for clip in read}) == clips


def finished_job(config: RecaptureConfig, clips: int) -> list[Cell]:
    """Make up the artifacts of a job; return the seconds of its plan, and of the whole flow once more."""
    from recapture.flows.commands.plan import print_plan
    from recapture.flows.recapture_dataset import recapture

    plans = supposed(ClipJob.of(config, recapture_stages(config)).plans())
    timed("artifacts", lambda: make_up(plans, config.store))
    timed("first run", lambda: recapture(config))  # names the artifacts in the manifests, and publishes
    with contextlib.redirect_stdout(io.StringIO()):
        planning = timed("plan", lambda: print_plan(config, as_json=True), shown=False)
    print(f"plan: {planning:.1f} s", flush=True)
    started = time.perf_counter()
    summary = recapture(config)
    again = time.perf_counter() - started
    assert summary.reused_everything and summary.delivered == clips
    return [planning, again]


def write_files(folder: Path, count: int) -> None:
    """Write distinct videos in subfolders of a thousand."""
    draw, one = np.random.default_rng(0), folder / "encoded.mp4"
    folder.mkdir()
    encoded = []
    for _ in range(min(ENCODED, count)):
        write_video(str(one), draw.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8), Fraction(8))
        encoded.append(one.read_bytes())
    one.unlink()
    for number in range(0, count, PER_FOLDER):
        Path(folder, f"{number // PER_FOLDER:04d}").mkdir()

    def write(number: int) -> None:
        name = f"{number:08d}".encode()
        box = (8 + len(name)).to_bytes(4, "big") + b"free" + name
        file = Path(folder, f"{number // PER_FOLDER:04d}", f"{number:08d}.mp4")
        file.write_bytes(encoded[number % len(encoded)] + box)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count), chunksize=PER_FOLDER))


def timed(what: str, work: Callable[[], Made], *, shown: bool = True) -> float:
    """Return the seconds that some work takes."""
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    if shown:
        print(f"{what}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds


if __name__ == "__main__":
    main()
