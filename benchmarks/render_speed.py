"""How fast the renderer is, and whether GPU and CPU render the same.

    python benchmarks/render_speed.py
    python benchmarks/render_speed.py --device cuda --frames 81 --repeats 20

A room with moving discs in it, orbited by up to 20 degrees. One row per --shell: the median, best and worst
milliseconds of a whole `render`, the medians of its stages, and on CUDA the differences to the CPU on the
first and last frame and to the plain PyTorch z-buffer on all frames. --profile also prints PyTorch's table of
the costliest kernels. Takes about half a minute on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.datasets.scenes.render import look_at
from recapture.models.geometry import rasterize
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.mesh import CameraPair, Surface, lift
from recapture.models.geometry.rasterize import Rendered, SurfaceSettings, render
from recapture.models.geometry.z_buffer import EMPTY, z_buffer
from recapture.models.geometry.z_buffer_grid import surface_keys as grid_keys

PIVOT = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--shell", type=float, nargs="+", default=[0.3, 0.0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    add_write(parser, "render_speed")
    options = parser.parse_args()
    clip = [value.to(options.device) for value in room(options.frames, options.size)]
    rows = [row(clip, shell, options) for shell in options.shell]
    columns = [Column("shell", "g"), Column("whole clip, ms", ".1f"), Column("best", ".1f")]
    columns += [Column("worst", ".1f"), Column("per frame, ms", ".2f"), Column("lift, ms", ".1f")]
    columns += [Column("z-buffer, ms", ".1f"), Column("shade, ms", ".1f"), Column("peak memory, GiB", ".1f")]
    title = f"{options.frames} frames of {options.size}x{options.size}, medians of {options.repeats} repeats"
    name = f"{options.write or 'render_speed'}-{options.device}"
    notes = [] if options.device == "cpu" else [against_cpu(clip, options.shell[0])]
    made = Table(name, title, columns, rows, this_run(device=options.device), notes)
    publish([made], write=options.write is not None)
    if options.profile:
        print(profiled(partial(render, *clip, surface=surface(options.shell[0]))))


def surface(shell: float) -> SurfaceSettings:
    """Return a job's settings with another shell, and surfaces of any stretch."""
    return SurfaceSettings(0.05, shell, None)


def row(clip: list[Tensor], shell: float, options: argparse.Namespace) -> list[Cell]:
    """Return the times and the memory of one setting."""
    times = milliseconds(partial(render, *clip, surface=surface(shell)), options.device, options.repeats)
    parts = stages(clip, shell, options.device, options.repeats)
    peak = None if options.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
    median = statistics.median(times)
    return [shell, median, min(times), max(times), median / options.frames, *parts.values(), peak]


def against_cpu(clip: list[Tensor], shell: float) -> str:
    """Return how GPU and CPU differ, and the Triton z-buffer and the plain one, as a sentence each."""
    ends = [value[[0, -1]] for value in clip]
    on_cpu = render(*(value.cpu() for value in ends), surface=surface(shell))
    found = differences(render(*ends, surface=surface(shell)), on_cpu)
    twice = same_bytes(render(*clip, surface=surface(shell)), render(*clip, surface=surface(shell)))
    words = [f"First and last frame, GPU against CPU: {json.dumps(found)}."]
    words += [f"Triton z-buffer against plain PyTorch, all frames: {json.dumps(against_twin(clip, shell))}."]
    return " ".join([*words, f"Two calls give {'the same' if twice else 'different'} bytes."])


def room(frames: int, size: int) -> list[Tensor]:
    """Return video, depth, source and target cameras: a room's back wall and floor, and five discs."""
    generator = torch.Generator().manual_seed(0)
    intrinsics = default_intrinsics(size, size, 55.0).double().expand(frames, 3, 3).clone()
    focal = float(intrinsics[0, 0, 0])
    x = (torch.arange(size) + 0.5 - size / 2) / focal
    y = x[:, None]
    depth = torch.where(y * 9.0 > 1.4, 1.4 / y.clamp_min(1e-3), 9.0).expand(size, size)
    depth = depth.expand(frames, size, size).clone()
    time = torch.linspace(0, 1, frames)[:, None, None]
    for number in range(5):
        centre = torch.rand(2, generator=generator) * 0.6 - 0.3
        near = 2.5 + 0.7 * number
        inside = (x - centre[0] - 0.2 * time).square() + (y - centre[1]).square() < (0.35 / near) ** 2
        depth = torch.where(inside, torch.minimum(depth, torch.tensor(near) + 0.2 * x), depth)
    coarse = torch.rand(frames, 3, 32, 32, generator=generator) * 2 - 1
    video = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    angle = torch.deg2rad(torch.linspace(0, 20, frames) if frames > 1 else torch.tensor([20.0])).double()
    centres = PIVOT * torch.stack([angle.sin(), 0 * angle, 1 - angle.cos()], -1)
    target = look_at(centres, torch.tensor([0.0, 0.0, PIVOT]).double().expand(frames, 3))
    still = torch.eye(4).double().expand(frames, 4, 4).clone()
    return [video, depth, intrinsics, still, intrinsics, target]


def milliseconds(call: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Return the wall-clock milliseconds of each of `repeats` calls, after two to warm up."""
    times = []
    for number in range(repeats + 2):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        if number >= 2:
            times.append(1000 * (time.perf_counter() - start))
    return times


def stages(clip: list[Tensor], shell: float, device: str, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of lifting, drawing and shading, each on all chunks of frames."""
    _, depth, *cameras = clip
    pair, size = CameraPair(*cameras).double(), (depth.shape[1], depth.shape[2])
    chunks = rasterize._chunks(depth)
    known = torch.ones_like(depth, dtype=torch.bool)
    nearest = torch.full_like(depth[:, 0, 0], 1e-3)
    rendered = render(*clip, surface=surface(shell))
    surfaces = [lift(depth[c], known[c], pair.of_frames(c), nearest[c], 0.05, shell) for c in chunks]

    def lifting() -> None:
        for c in chunks:
            lift(depth[c], known[c], pair.of_frames(c), nearest[c], 0.05, shell)

    def drawing() -> None:
        for surface in surfaces:
            draw(surface, size, device)

    def shading() -> None:
        for c in chunks:
            z = torch.where(rendered.visible[c], rendered.depth[c], 1.0)
            rasterize._shade(clip[0][c], z, rendered.visible[c], pair.of_frames(c))

    return {
        name: round(statistics.median(milliseconds(stage, device, repeats)), 2)
        for name, stage in (("lift", lifting), ("z_buffer", drawing), ("shade", shading))
    }


def draw(surface: Surface, size: tuple[int, int], device: str) -> Tensor:
    """Return the z-buffer of a surface, by the device's own implementation."""
    if device == "cpu":
        return grid_keys(surface, size)[0]
    from recapture.models.geometry.z_buffer_triton import surface_keys

    return surface_keys(surface, size)


def against_twin(clip: list[Tensor], shell: float) -> dict[str, float]:
    """Compare the Triton z-buffer with the plain PyTorch one on the same device, a few frames at a time."""
    from recapture.models.geometry.z_buffer_triton import surface_keys

    _, depth, *cameras = clip
    pair, size = CameraPair(*cameras).double(), (depth.shape[1], depth.shape[2])
    hits, furthest, spent = 0, 0.0, 0.0
    for start in range(0, len(depth), 8):
        c = slice(start, start + 8)
        known = torch.ones_like(depth[c], dtype=torch.bool)
        near = torch.full_like(depth[c, 0, 0], 1e-3)
        surface = lift(depth[c], known, pair.of_frames(c), near, 0.05, shell)
        fast = surface_keys(surface, size)
        synchronise("cuda")
        begun = time.perf_counter()
        slow = z_buffer(surface.faces(), len(known), size)
        synchronise("cuda")
        spent += 1000 * (time.perf_counter() - begun)
        both = (fast != EMPTY) & (slow != EMPTY)
        hits += int(((fast != EMPTY) != (slow != EMPTY)).sum())
        a, b = ((keys[both] >> 32).int().view(torch.float32) for keys in (fast, slow))
        furthest = max(furthest, float(((a - b).abs() / b).max()))
    return {
        "pixels_hit_by_one_only": hits,
        "largest_relative_depth_difference": furthest,
        "pytorch_ms": round(spent, 2),
    }


def differences(one: Rendered, other: Rendered) -> dict[str, float]:
    """Compare renderings of two devices: visibility, and depth and colour where both see something."""
    one = Rendered(*(getattr(one, field).cpu() for field in Rendered.__annotations__))
    both = one.visible & other.visible
    relative = ((one.depth - other.depth).abs() / other.depth)[both]
    colour = (one.video - other.video).abs().amax(1)[both]
    return {
        "pixels": both.numel(),
        "visible_differs": int((one.visible != other.visible).sum()),
        "depth_differs_by_over_1e-5": int((relative > 1e-5).sum()),
        "depth_median_relative_difference": float(relative.median()),
        "colour_largest_difference": float(colour.max()),
        "colour_differs_by_over_1e-3": int((colour > 1e-3).sum()),
    }


def same_bytes(one: Rendered, other: Rendered) -> bool:
    """Return whether two renderings are equal bit for bit."""
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in Rendered.__annotations__)


def profiled(call: Callable[[], object]) -> str:
    """Return PyTorch's table of the costliest kernels of a call."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        synchronise("cuda")
    return profile.key_averages().table(
        sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=60
    )


def synchronise(device: str) -> None:
    """Wait until the device is idle."""
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
