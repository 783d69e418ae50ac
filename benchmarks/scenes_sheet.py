"""The picture of docs/pretraining.md: clips of the variety "world" at three moments, and a depth.

    python benchmarks/scenes_sheet.py docs/images/worlds.jpg

Scenes of --seeds, filmed by their own cameras in 16:9, 1:1 and 9:16. Takes half a minute on a CPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene

HEIGHT, GAP = 90, 4
MOMENTS = (18, 34, 50)  # frames
ROWS = ((16 / 9,) * 2, (16 / 9,) * 2, (1.0, 1.0, 9 / 16, 9 / 16, 9 / 16))  # aspects of the scenes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 13, 108, 102, 5, 104, 9, 101, 103])
    given = parser.parse_args()
    seeds = iter(given.seeds)
    rows = [torch.cat([strip(next(seeds), round(HEIGHT * one)) for one in row], dim=1) for row in ROWS]
    width = max(row.shape[1] for row in rows)
    padded = [torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1]), value=1.0) for row in rows]
    sheet = torch.cat(padded)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).round().byte().numpy()).save(given.output, quality=72, optimize=True)
    print(f"{given.output}: {given.output.stat().st_size / 1e3:.0f} kB, {sheet.shape[1]} x {sheet.shape[0]}")


def strip(seed: int, width: int) -> Tensor:
    """Return the moments of a scene and a depth [height, width of all, 3] in [0, 1], with a gap."""
    scene = sample_scene(seed, variety="world")
    intrinsics, pose = source_cameras(scene, MOMENTS[-1] + 1, HEIGHT, width)
    times = torch.tensor(MOMENTS)
    views = render_scene(scene, intrinsics[times], pose[times], times.float(), HEIGHT, width)
    near = 1 / views.depth[-1]
    shown = [*((views.video + 1) / 2).permute(0, 2, 3, 1), (near / near.max())[..., None].expand(-1, -1, 3)]
    framed = torch.cat([*shown, torch.ones(HEIGHT, GAP, 3)], dim=1)
    return torch.cat([framed, torch.ones(GAP, framed.shape[1], 3)])


if __name__ == "__main__":
    main()
