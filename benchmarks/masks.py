"""Masks from a box or a point without a model, against the true object ids of procedural scenes.

    python benchmarks/masks.py --write
    python benchmarks/masks.py cost --write
    python benchmarks/masks.py --sheet outputs/masks.png
    python benchmarks/masks.py real --sheet docs/images/select.png    # the sample's real clips

The largest body in the first frame of scenes of both varieties, 17 frames of 192x256, with the scenes' own
cameras. Its prompt is what a careful person would give: the body's bounding box with two pixels around it, or
the one point of it that is farthest from its outline. A row is a way to follow it: the box held still; the
mask of the first frame carried by optical flow alone; cut again in every frame on colour; on colour and depth
(exact, and as the embedded depth model estimates it); for points, with and without growth by motion. IoU is
the mean over frames; `lost` is the share of scenes below 0.5. CPU seconds are per frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.datasets.media.video import iterate_frames, probe
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.depth.alignment import Scale, align_depth
from recapture.models.depth.load import open_depth_model
from recapture.models.selection.grow import GrowingSelector
from recapture.models.selection.prompt import NotFound, Prompt
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.clip.sheets import contact_sheet, spread
from recapture.tasks.engine.model_revision import model_path
from recapture.tasks.jobs.select import MARK, marked

FRAMES, HEIGHT, WIDTH = 17, 192, 256
SMALLEST = 0.01  # of the picture
MARGIN = 2  # pixels around the body's box
LOST = 0.5
FIRST_SEED = 7000  # beyond every seed that the embedded depth model was trained or judged on


@dataclass(frozen=True)
class Shot:
    """A scene's own view, one body of it, and the prompts for it."""

    rgb: np.ndarray  # [T, H, W, 3]
    depths: dict[str, np.ndarray | None]  # exact, estimated, none: [T, H, W]
    true: np.ndarray  # [T, H, W] bool
    prompts: dict[str, Prompt]

    def seen(self, depth: str) -> Seen:
        """Return its frames with one kind of depth."""
        return Seen(self.rgb, self.depths[depth])


@dataclass(frozen=True)
class Seen:
    """Frames as a selector reads them."""

    pictures: np.ndarray
    depths: np.ndarray | None

    def __len__(self) -> int:
        return len(self.pictures)

    def rgb(self, number: int) -> np.ndarray:
        return np.asarray(self.pictures[number])

    def depth(self, number: int) -> np.ndarray | None:
        return None if self.depths is None else np.asarray(self.depths[number])


Way = Callable[[Shot], np.ndarray]


def by(selector: GrowingSelector, prompt: str, depth: str) -> Way:
    """Return the way of a selector with one of the prompts."""

    def way(shot: Shot) -> np.ndarray:
        found = np.zeros_like(shot.true)
        try:
            for number, mask in selector.select(shot.seen(depth), shot.prompts[prompt]):
                found[number] = mask
        except NotFound:
            pass
        return found

    return way


def held(shot: Shot) -> np.ndarray:
    """Return the box of the first frame in every frame."""
    assert shot.prompts["box"].box is not None
    x, y, width, height = (int(value) for value in shot.prompts["box"].box)
    found = np.zeros_like(shot.true)
    found[:, max(0, y) : y + height, max(0, x) : x + width] = True
    return found


WAYS: dict[str, tuple[str, Way]] = {
    "held still": ("box", held),
    "carried by flow": ("box", by(GrowingSelector(refined=False), "box", "exact")),
    "cut again, colour": ("box", by(GrowingSelector(deep=False), "box", "none")),
    "cut again, colour and estimated depth": ("box", by(GrowingSelector(), "box", "estimated")),
    "cut again, colour and depth": ("box", by(GrowingSelector(), "box", "exact")),
    "by look": ("point", by(GrowingSelector(deep=False, moving=False), "point", "none")),
    "by depth": ("point", by(GrowingSelector(moving=False), "point", "exact")),
    "by motion": ("point", by(GrowingSelector(deep=False), "point", "none")),
    "by motion, cut on estimated depth": ("point", by(GrowingSelector(), "point", "estimated")),
    "by motion, cut on depth": ("point", by(GrowingSelector(), "point", "exact")),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("quality", "cost", "real"), nargs="?", default="quality")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--sheet", metavar="FILE", help="Draw the middle frame of the first scenes.")
    add_write(parser, "masks")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    name = given.write or "masks"
    if given.stage == "cost":
        publish([costs(f"{name}-cost")], write=given.write is not None)
        return
    if given.stage == "real":
        draw_real(given.sheet or "outputs/select.png")
        return
    shots = [shot for seed in range(given.scenes) if (shot := filmed(FIRST_SEED + seed, HEIGHT, WIDTH))]
    scores, first, seconds = ({way: list[float]() for way in WAYS} for _ in range(3))
    for shot in shots:
        for way, (_, follow) in WAYS.items():
            begun = time.process_time()
            found = follow(shot)
            seconds[way].append((time.process_time() - begun) / FRAMES)
            overlaps = overlap(found, shot.true)
            scores[way].append(float(np.nanmean(overlaps)))
            first[way].append(float(overlaps[0]))
    rows: list[list[Cell]] = [
        [
            f"{prompt}, {way}",
            float(np.mean(scores[way])),
            float(np.median(scores[way])),
            float(np.mean(first[way])),
            100 * float(np.mean(np.array(scores[way]) < LOST)),
            float(np.mean(seconds[way])),
        ]
        for way, (prompt, _) in WAYS.items()
    ]
    columns = [Column("prompt, way"), Column("IoU, mean", ".3f"), Column("IoU, median", ".3f")]
    columns += [Column("first frame, mean", ".3f"), Column("lost, %", ".0f"), Column("CPU s", ".3f")]
    title = f"{len(shots)} scenes, {FRAMES} frames of {HEIGHT}x{WIDTH}"
    publish([Table(name, title, columns, rows, this_run())], write=given.write is not None)
    if given.sheet:
        draw(shots[:6], given.sheet)


def filmed(seed: int, height: int, width: int, frames: int = FRAMES) -> Shot | None:
    """Return a scene's own view of its largest body; None if all bodies are small at the start."""
    scene = sample_scene(seed, variety="wide" if seed % 2 else "classic")
    cameras = source_cameras(scene, frames, height, width)
    seen = render_scene(scene, *cameras, torch.arange(frames).float(), height, width)
    ids = seen.object_id.numpy()
    areas = {int(one): float((ids[0] == one).mean()) for one in np.unique(ids[0]) if one > 0}
    body = max(areas, key=lambda one: areas[one], default=0)
    if not body or areas[body] < SMALLEST:
        return None
    true = ids == body
    rows, columns = np.nonzero(true[0])
    left, above = columns.min() - MARGIN, rows.min() - MARGIN
    right, below = columns.max() + 1 + MARGIN, rows.max() + 1 + MARGIN
    inner = cv2.distanceTransform(np.pad(true[0], 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    prompts = {
        "box": Prompt(0, box=(float(left), float(above), float(right - left), float(below - above))),
        "point": Prompt(0, points=((float(x) + 0.5, float(y) + 0.5),)),
    }
    depths = {"exact": seen.depth.numpy(), "estimated": estimated(seen.video), "none": None}
    return Shot(to_frames(seen.video), depths, true, prompts)


@cache
def depth_model():  # type: ignore[no-untyped-def]
    """Return the embedded depth model."""
    return open_depth_model(model_path("depth.model", "embedded"))


def estimated(video: torch.Tensor) -> np.ndarray:
    """Return the depth [T,H,W] that the embedded model finds."""
    model = depth_model()
    depth, _ = align_depth(
        model.estimate(video), model.kind, None, scale=Scale(), consistent=model.consistent
    )
    return np.asarray(depth.numpy())


def overlap(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every frame [T]; NaN where the body is out of the picture."""
    both, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.where(true.any((1, 2)), both / np.maximum(either, 1), np.nan)


def costs(name: str) -> Table:
    """Return what a clip of real size takes."""
    shot = next(one for seed in range(40) if (one := filmed(FIRST_SEED + seed, 480, 832, 9)))
    rows: list[list[Cell]] = []
    for way in ("cut again, colour", "cut again, colour and depth", "by motion, cut on depth"):
        prompt, follow = WAYS[way]
        begun = time.process_time()
        found = follow(shot)
        seconds = (time.process_time() - begun) / len(shot.rgb)
        quality = float(np.nanmean(overlap(found, shot.true)))
        rows.append([f"{prompt}, {way}", quality, seconds, 81 * seconds])
    columns = [Column("prompt, way"), Column("IoU, mean", ".3f"), Column("CPU s per frame", ".3f")]
    columns += [Column("CPU s for 81 frames", ".0f")]
    return Table(name, "One scene, 9 frames of 480x832", columns, rows, this_run())


def draw(shots: list[Shot], path: str) -> None:
    """Draw what every way finds in the last frame, as outlines over the picture."""
    rows = {}
    for way in ("held still", "carried by flow", "cut again, colour and depth", "by motion, cut on depth"):
        frames = []
        for shot in shots:
            found = WAYS[way][1](shot)[-1]
            frame = shot.rgb[-1].copy()
            frame[found] = frame[found] // 2 + np.array([127, 0, 85], dtype=np.uint8)
            frames.append(frame)
        rows[way] = np.stack(frames)
    contact_sheet(rows, [f"scene {number}" for number in spread(len(shots), len(shots))]).save(path)


REAL = {  # clips of the sample and what is pointed at in their first frames
    "bunny": Prompt(0, box=(66, 34, 72, 112)),
    "box": Prompt(0, box=(56, 22, 200, 134)),
    "pedestrians": Prompt(0, points=((124, 186),)),
}


def draw_real(path: str) -> None:
    """Draw what is found in real clips, whose truth nobody knows, with depth by the embedded model."""
    rows = {}
    for name, prompt in REAL.items():
        uri = f"datasets/sample/real/{name}.mp4"
        frames = np.stack(list(iterate_frames(uri, 0, probe(uri).frames)))
        seen = Seen(frames, estimated(to_video(frames, torch.device("cpu"))))
        found = dict(GrowingSelector().select(seen, prompt))
        first = frames[0].copy()
        if prompt.box is not None:
            left, above, width, height = (int(value) for value in prompt.box)
            cv2.rectangle(first, (left, above), (left + width, above + height), MARK.tolist(), 2)
        for x, y in prompt.points:
            cv2.circle(first, (int(x), int(y)), 5, MARK.tolist(), -1)
        pictures = [first, *(marked(frames[n], found[n]) for n in spread(len(frames), 4))]
        rows[name] = np.stack([cv2.resize(one, (320, 200)) for one in pictures])
    contact_sheet(rows, ["pointed at", "first frame", "", "", "last frame"]).quantize(256).save(path)


if __name__ == "__main__":
    main()
