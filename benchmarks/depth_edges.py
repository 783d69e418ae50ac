"""What soft depth edges cost a render, and what sharpening them brings back.

    python benchmarks/depth_edges.py --write

Held-out scenes: true depth softened by 1 to 4 pixels, and the embedded model's depth, fitted to the true one
(scale and shift of 1/depth). Each is filmed in an orbit of 20 degrees and compared with the exact view. The
bundled videos: the embedded model's depth, filmed in the same orbit; no truth is known of them. Takes about
three minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from bench.soft_depth import fitted, soften
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.schema import DepthConfig, RenderConfig
from recapture.datasets.readers.scenes import SceneSpec
from recapture.datasets.scenes.render import co_visible, render_scene, source_cameras
from recapture.models.depth.alignment import align_depth
from recapture.models.depth.edges import SharpEdges
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import Rendered, render
from recapture.models.geometry.trajectories import preset_path
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.jobs.depth import depth_model
from recapture.tasks.jobs.render import surface_settings

SEEDS = range(500, 512)  # no training and no choice of a setting has seen these scenes
SIZE = (240, 416)
LEAST = 0.02  # disparity
VIDEO_SIZE, VIDEO_FRAMES = (480, 832), 5
SHARES = (0.0, 0.005, 0.01, 0.015, 0.02)
SOFT = (0, 1, 2, 4)
STRETCHED = 4.0  # times its area, from which on a surface is a smear
SURFACE = surface_settings(RenderConfig())
FOOTAGE = Path(__file__).parents[1] / "datasets/sample/real"


@dataclass(frozen=True)
class Shot:
    """One frame of a scene, and what a new camera sees of it."""

    video: Tensor  # [1, 3, H, W]
    depth: Tensor  # [1, H, W]
    cameras: tuple[Tensor, Tensor, Tensor, Tensor]  # intrinsics and pose of the source, then of the target
    truth: Tensor  # [1, 3, H, W]
    seen: Tensor  # [1, H, W] bool

    def filmed(self, depth: Tensor) -> Rendered:
        """Return what the new camera sees of this depth."""
        return render(self.video, depth, *self.cameras, surface=SURFACE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=len(SEEDS))
    add_write(parser, "depth_edges")
    given = parser.parse_args()
    begin, run = given.write or "depth_edges", this_run()
    model = depth_model(DepthConfig(), torch.device("cpu"))
    shots = [shot(seed) for seed in list(SEEDS)[: given.scenes]]
    columns = [Column("depth"), Column("share", ".3f"), Column("wrong among valid, %", ".2f")]
    columns += [Column("far from the truth, %", ".2f"), Column("hole IoU", ".3f")]
    columns += [Column("PSNR of valid, dB", ".2f"), Column("combs, %", ".2f")]
    rows: list[list[Cell]] = []
    for name, made in depths(model.estimate):
        found = [made(one) for one in shots]
        for share in SHARES:
            sharp = [SharpEdges(share).sharpen(depth, one.video) for depth, one in zip(found, shots)]
            scores = torch.stack([score(one, depth) for one, depth in zip(shots, sharp)]).mean(0)
            rows.append([name, share, *scores.tolist()])
            print(rows[-1], flush=True)
    title = f"{len(shots)} scenes of {SIZE[0]}x{SIZE[1]}, orbit of 20°"
    tables = [Table(f"{begin}-scenes", title, columns, rows, run)]
    columns = [Column("video"), Column("% of the frame")]
    columns += [Column(f"share {share:g}", ".2f") for share in SHARES]
    size = f"{VIDEO_FRAMES} frames of {VIDEO_SIZE[0]}x{VIDEO_SIZE[1]}"
    title = f"The bundled videos, {size}, orbit of 20°"
    tables.append(Table(f"{begin}-videos", title, columns, list(video_rows(model)), run))
    publish(tables, write=given.write is not None)


def shot(seed: int) -> Shot:
    """Return the first frame of a scene, filmed from 20 degrees to the right."""
    spec = SceneSpec(seed=seed, frames=1, height=SIZE[0], width=SIZE[1])
    scene, time = spec.scene(), torch.zeros(1)
    lens, pose = source_cameras(scene, 1, *SIZE)
    source, exact = (render_scene(scene, lens, pose, time, *SIZE, antialias) for antialias in (2, 1))
    target = orbit(lens, pose, exact.depth)
    truth = render_scene(scene, *target, time, *SIZE)
    seen = co_visible(scene, *target, lens, pose, time, *SIZE)
    return Shot(source.video, exact.depth.float(), (lens, pose, *target), truth.video, seen)


def orbit(lens: Tensor, pose: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cameras 20 degrees to the right, about the middle of the first frame."""
    high, wide = depth.shape[1:]
    middle = depth[0, high // 3 : high - high // 3, wide // 3 : wide - wide // 3]
    path = preset_path("orbit_right", lens, pose, float(middle.median()), mode="direct", angle_degrees=20.0)
    return path.intrinsics.to(lens), path.world_to_camera.to(pose)


def depths(estimate: Callable[[Tensor], Tensor]) -> Iterator[tuple[str, Callable[[Shot], Tensor]]]:
    """Yield each way to come by depth."""
    for width in SOFT:
        name = f"true, softened by {width} px" if width else "true"
        yield name, lambda one, width=width: soften(one.depth, width) if width else one.depth  # type: ignore[misc]
    yield "embedded model", lambda one: fitted(estimate(one.video), one.depth, LEAST)


def score(one: Shot, depth: Tensor) -> Tensor:
    """Return the columns of the first table for one shot."""
    made = one.filmed(depth)
    shown, hidden = made.visible, ~one.seen
    wrong = (shown & hidden).sum() / shown.sum()
    far = ((made.video - one.truth).abs().mean(1) > 0.2)[shown].float().mean()
    overlap = (~shown & hidden).sum() / (~shown | hidden).sum()
    error = (made.video - one.truth).square().mean(1)[shown].mean()
    return torch.tensor([100 * wrong, 100 * far, overlap, 10 * torch.log10(4 / error), combs(shown)])


def combs(visible: Tensor) -> float:
    """Return the percentage of pixels that are shown but belong to nothing three pixels wide."""
    shown = visible[:, None].float()
    opened = max_pool2d(-max_pool2d(-shown, 3, 1, 1), 3, 1, 1)
    return 100 * float(((shown > 0) & (opened == 0)).float().mean())


def video_rows(model: object) -> Iterator[list[Cell]]:
    """Yield the rows of the second table."""
    for path in sorted(FOOTAGE.glob("*.mp4")):
        video = to_video(frames(path))
        prediction = model.estimate(video)  # type: ignore[attr-defined]
        depth, _ = align_depth(prediction, model.kind, None)  # type: ignore[attr-defined]
        lens = default_intrinsics(*VIDEO_SIZE, 60.0).expand(len(video), 3, 3)
        pose = torch.eye(4).expand(len(video), 4, 4)
        found = []
        for share in SHARES:
            sharp = SharpEdges(share).sharpen(depth, video)
            made = render(video, sharp, lens, pose, *orbit(lens, pose, sharp), surface=SURFACE)
            smeared = 100 * float((made.stretch > STRETCHED).float().mean())
            found.append((smeared, combs(made.visible)))
        for name, cells in zip(("stretched", "combs"), zip(*found)):
            yield [path.stem, name, *cells]


def frames(path: Path) -> np.ndarray:
    """Return the first frames of a video, uint8 [T,H,W,3]."""
    found = []
    with av.open(str(path)) as video:
        for frame in video.decode(video=0):
            high, wide = VIDEO_SIZE
            found.append(
                cv2.resize(frame.to_ndarray(format="rgb24"), (wide, high), interpolation=cv2.INTER_AREA)
            )
            if len(found) == VIDEO_FRAMES:
                break
    return np.stack(found)


if __name__ == "__main__":
    main()
