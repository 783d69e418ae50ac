"""Draw every preset's last view of a clip of the sample dataset (scenes/wide), and its holes, as one picture.

    python benchmarks/preset_sheet.py docs/presets.png

Grey pixels are unseen by the source; the percentage is their share. The cross marks the pivot.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from recapture.conf.schema import RenderConfig
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.geometry.cameras import invert_rigid
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import PRESETS, CameraPath, preset_path
from recapture.tasks.jobs.render import surface_settings

HEIGHT, WIDTH, COLUMNS, LABEL = 120, 160, 6, 14


def main() -> None:
    scene = sample_scene(10, camera_motion=False)
    cameras = source_cameras(scene, 1, HEIGHT, WIDTH)
    source = render_scene(scene, *cameras, torch.zeros(1), HEIGHT, WIDTH)
    pivot = float(source.depth[0, HEIGHT // 2, WIDTH // 2])
    everything = torch.ones_like(source.depth, dtype=torch.bool)
    tiles = [tile("source", source.video, everything, (WIDTH / 2, HEIGHT / 2))]
    for name in PRESETS:
        if name.startswith("arc_"):  # another name of orbit_
            continue
        path = preset_path(name, *cameras, pivot, mode="direct")
        target = (path.intrinsics, path.world_to_camera)
        seen = render(source.video, source.depth, *cameras, *target, surface=surface_settings(RenderConfig()))
        tiles.append(tile(name, seen.video, seen.visible, pivot_pixel(path, cameras[1], pivot)))
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * (HEIGHT + LABEL)), "white")
    for number, drawn in enumerate(tiles):
        sheet.paste(drawn, (number % COLUMNS * WIDTH, number // COLUMNS * (HEIGHT + LABEL)))
    buffer = BytesIO()
    sheet.quantize(128).save(buffer, "PNG", optimize=True)
    Path(sys.argv[1]).write_bytes(buffer.getvalue())
    print(f"{sys.argv[1]}: {len(tiles)} views, {len(buffer.getvalue()) // 1024} KB")


def tile(name: str, video: Tensor, visible: Tensor, pivot: tuple[float, float]) -> Image.Image:
    """Return a labelled view, grey where unseen, with a cross at the pivot."""
    frame = ((video[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    frame = np.where(visible[0][..., None].numpy(), frame, np.uint8(127))
    picture = Image.new("RGB", (WIDTH, HEIGHT + LABEL), "white")
    picture.paste(Image.fromarray(frame), (0, LABEL))
    draw = ImageDraw.Draw(picture)
    draw.text((2, 1), f"{name} {100 * float((~visible).float().mean()):.0f} %", fill="black")
    x, y = pivot[0], pivot[1] + LABEL
    draw.line((x - 4, y, x + 4, y), fill="white")
    draw.line((x, y - 4, x, y + 4), fill="white")
    return picture


def pivot_pixel(path: CameraPath, source: Tensor, pivot: float) -> tuple[float, float]:
    """Return the pixel of the pivot, a point on the axis of the source camera, in the path's first view."""
    point = invert_rigid(source[0].double()) @ torch.tensor([0.0, 0.0, pivot, 1.0]).double()
    u, v, z = (path.intrinsics[0] @ (path.world_to_camera[0] @ point)[:3]).tolist()
    return u / z, v / z


if __name__ == "__main__":
    main()
