"""How fast is the renderer, and does the GPU see what the CPU sees.

    python benchmarks/render_speed.py --device cpu --frames 3 --shell 0
    python benchmarks/render_speed.py --device cuda --frames 81

A room with moving discs before it, orbited by up to 20 degrees; needs nothing but PyTorch. Prints JSON: the
command, machine and versions, the median, best and worst milliseconds of a whole `render`, the medians of
its stages, and on CUDA the differences to the CPU on the first and last frame and to the plain PyTorch
z-buffer on all. --profile prints PyTorch's table of the costliest kernels as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import torch
from torch import Tensor

from recapture.models.geometry import rasterize
from recapture.models.geometry.cameras import default_intrinsics, look_at
from recapture.models.geometry.mesh import CameraPair, lift
from recapture.models.geometry.rasterize import Rendered, SurfaceSettings, render
from recapture.models.geometry.z_buffer import EMPTY, on_screen, z_buffer

PIVOT = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--shell", type=float, default=0.3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    clip = [value.to(options.device) for value in room(options.frames, options.size)]
    call = partial(render, *clip, surface=surface(options.shell))
    times = milliseconds(call, options.device, options.repeats)
    report: dict[str, object] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(options.device),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "frames": options.frames,
        "size": options.size,
        "shell": options.shell,
        "repeats": options.repeats,
        "median_ms": round(statistics.median(times), 2),
        "best_ms": round(min(times), 2),
        "worst_ms": round(max(times), 2),
        "median_ms_a_frame": round(statistics.median(times) / options.frames, 3),
        "stages_ms": stages(clip, options.shell, options.device, options.repeats),
        "hole_share": round(1 - call().visible.float().mean().item(), 4),
    }
    if options.device != "cpu":
        report["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        ends = [value[[0, -1]] for value in clip]
        on_cpu = render(*(value.cpu() for value in ends), surface=surface(options.shell))
        report["against_cpu"] = differences(render(*ends, surface=surface(options.shell)), on_cpu)
        report["same_bytes_twice"] = same_bytes(call(), call())
        report["against_pytorch_z_buffer"] = against_twin(clip, options.shell)
    print(json.dumps(report, indent=2, ensure_ascii=False))
    if options.profile:
        print(profiled(call))


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


def surface(shell: float) -> SurfaceSettings:
    """Return the job's settings with another shell, and surfaces of any stretch."""
    return SurfaceSettings(0.05, shell, None)


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


def draw(surface, size: tuple[int, int], device: str) -> Tensor:  # type: ignore[no-untyped-def]
    if device == "cpu":
        return z_buffer(on_screen(surface.faces(), size), len(surface.x), size)
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
        slow = z_buffer(on_screen(surface.faces(), size), len(known), size)
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
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in Rendered.__annotations__)


def profiled(call: Callable[[], object]) -> str:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        synchronise("cuda")
    return profile.key_averages().table(
        sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=60
    )


def machine(device: str) -> str:
    if device != "cpu":
        return f"one {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
