"""What compositing costs at the size of real clips, in CPU seconds, or in seconds of a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench.tables import Cell, Column, Run, Table
from recapture.models.fill.compositing import Compositing
from recapture.models.fill.rim import mixed_rim

FRAMES, HEIGHT, WIDTH = 81, 480, 832


def cost_table(name: str, device: str, run: Run) -> Table:
    """Return the seconds of each way on one clip; one thread of a CPU, or the second call on a GPU."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(FRAMES, 3, HEIGHT, WIDTH, generator=generator).to(device) * 2 - 1
    generated = 0.9 * video
    known = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool, device=device)
    known[:, 100:300, 200:400] = known[:, :, ::97] = False
    depth = 1 + known.float()
    ways: dict[str, Callable[[], object]] = {
        "feather": lambda: Compositing("feather", 4)(generated, video, known),
        "membrane": lambda: Compositing("membrane")(generated, video, known),
        "mixed rim": lambda: mixed_rim(video, depth, known),
    }
    rows: list[list[Cell]] = [[way, _seconds(work, device)] for way, work in ways.items()]
    unit = "seconds" if device.startswith("cuda") else "CPU seconds"
    return Table(name, f"{FRAMES}x{HEIGHT}x{WIDTH}", [Column(""), Column(unit, ".2f")], rows, run)


def _seconds(work: Callable[[], object], device: str) -> float:
    if not device.startswith("cuda"):
        begun = time.process_time()
        work()
        return time.process_time() - begun
    work()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun
