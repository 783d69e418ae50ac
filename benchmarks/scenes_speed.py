"""What rendering procedural scenes costs, for each variety.

    python benchmarks/scenes_speed.py
    python benchmarks/scenes_speed.py --device cuda --clips 48

Clips of SceneStream with random cameras, as pre-training draws them. On a CPU, CPU seconds of one thread
(user and system), which other programs on the machine hardly change; on CUDA, seconds by the clock, with the
device waited for. Varieties take turns; medians of --repeats. Takes about two minutes on a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import get_args

import torch

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.datasets.scenes.sampling import Variety
from recapture.datasets.scenes.stream import SceneStream

POOL = 256  # scenes
FRAMES = 17


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    add_write(parser, "scenes_speed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    streams = {variety: SceneStream(range(POOL), given.device, variety) for variety in get_args(Variety)}
    for stream in streams.values():
        stream.draw(0, 1, 1, given.side, given.side)
    spent: dict[str, list[float]] = {variety: [] for variety in streams}
    for seed in range(given.repeats):
        for variety, stream in streams.items():
            spent[variety].append(seconds(stream, seed, given.clips, given.side))
    medians = {variety: statistics.median(each) for variety, each in spent.items()}
    rows: list[list[Cell]] = [
        [variety, 1e3 * median / given.clips / FRAMES, 48 * median / given.clips, median / medians["wide"]]
        for variety, median in medians.items()
    ]
    unit = "CPU ms per frame" if given.device == "cpu" else "ms per frame"
    columns = [Column("variety"), Column(unit, ".2f"), Column("48 clips, s", ".2f"), Column("of wide", ".2f")]
    title = f"{given.clips} clips of {FRAMES}x{given.side}x{given.side} at once, medians of {given.repeats}"
    name = f"{given.write or 'scenes_speed'}-{given.device}"
    publish([Table(name, title, columns, rows, this_run(device=given.device))], write=given.write is not None)


def seconds(stream: SceneStream, seed: int, clips: int, side: int) -> float:
    """Return what drawing clips costs: CPU seconds, or on a GPU seconds by the clock."""
    on_gpu = stream.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    begun = clock()
    stream.draw(seed, clips, FRAMES, side, side)
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begun


if __name__ == "__main__":
    main()
