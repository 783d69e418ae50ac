"""How close estimated cameras come to the true ones, and what holes filled with them lose.

    python benchmarks/cameras.py --frames 17 --write
    python benchmarks/cameras.py --frames 81 --write

Procedural scenes (varieties wide and world; held-out cutouts with a body over more than half of the picture)
along paths as people film them, with exact depth and with that of the embedded model. The lens is a guess of
60 degrees. Takes a few CPU minutes each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch

from bench.filmed_paths import FAMILIES, MOTIONS, Clip, shot
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run
from recapture.conf.schema import DepthConfig, RenderConfig
from recapture.models.cameras import estimate
from recapture.models.cameras.estimate import Lens
from recapture.models.cameras.shots import ClipCameras, estimate_clip
from recapture.models.cameras.tracks import follow
from recapture.models.depth.alignment import Scale, align_depth
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.stillness import StillStretches
from recapture.models.geometry.trajectories import preset_path
from recapture.models.metrics.trajectory import absolute_errors, path_length, relative_errors
from recapture.tasks.jobs.cameras import EXACT, PREDICTED
from recapture.tasks.jobs.depth import depth_model
from recapture.tasks.jobs.render import surface_settings

SIZES = {17: (160, 288), 81: (240, 416)}
STANDS = 1e-3  # of a scene's units: a shorter path is none
BODIES = ("hand-held", "still")
TRIED = 17  # frames of the clips that are filled, and filmed in every motion
LONG = {81: ("hand-held", "driving", "panning")}  # motions that are filmed longer
SURE = 0.3  # cameras.least_confidence
SURFACE = surface_settings(RenderConfig())


@dataclass(frozen=True)
class Score:
    """One clip with one kind of depth."""

    motion: str
    body: bool
    frames: int
    depth: str
    found: ClipCameras
    rotation: float  # degrees, median against the first frame
    step: float  # degrees, median of motions from frame to frame
    travel: float  # per cent of the path, APE (RMSE) from the first frame on
    similar: float  # the same after Umeyama's alignment with scale
    lens: float  # per cent
    seconds: float  # CPU, per frame
    believed: bool = False  # whether travel counts even where depth does not bear it out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, choices=list(SIZES), default=TRIED)
    add_write(parser, "cameras")
    given = parser.parse_args()
    torch.set_num_threads(1)
    begin, run = given.write or "cameras", this_run()
    scores: list[Score] = []
    fills: list[tuple[str, ClipCameras, list[float]]] = []
    frames = given.frames
    for clip, motion, body in clips(frames):
        for depth_name in ("exact", "embedded model"):
            depth = clip.depth if depth_name == "exact" else predicted(clip)
            one = score(clip, motion, body, depth_name, depth)
            scores.append(one)
            if motion == "zooming":
                with patch.object(estimate, "depth_vouches", return_value=True):
                    believed = score(clip, motion, body, depth_name, depth)
                scores.append(replace(believed, believed=True))
            shown = (one.rotation, one.step, one.travel, one.similar, one.lens, one.found.confidence)
            print(clip.name, depth_name, one.found.motions, *(f"{value:.3f}" for value in shown), flush=True)
            if frames == TRIED and motion in ("hand-held", "panning", "driving"):
                fills.append((depth_name, one.found, list(filled(clip, depth, one.found))))
    tables = [poses_table(f"{begin}-{frames}", scores, run)]
    if frames == TRIED:
        tables += [stillness_table(f"{begin}-verdicts", scores, run)]
        tables += [fills_table(f"{begin}-fills", fills, run)]
    publish(tables, write=given.write is not None)


def clips(frames: int) -> Iterator[tuple[Clip, str, bool]]:
    """Yield the clips of a length; families take turns."""
    size = SIZES[frames]
    for number, motion in enumerate(LONG.get(frames, MOTIONS)):
        family = FAMILIES[number % 2] if frames == TRIED else FAMILIES[0]
        yield shot(motion, frames, 700 + number, size, family), motion, False
        if motion in BODIES:
            yield shot(motion, frames, 720 + number, size, "", body=True), motion, True


def predicted(clip: Clip) -> np.ndarray:
    """Return the embedded model's depth, aligned over time as the depth stage does."""
    model = depth_model(DepthConfig(), torch.device("cpu"))
    video = torch.from_numpy(clip.rgb).movedim(-1, 1).float() / 127.5 - 1
    state, parts = None, []
    for prediction in model.predict(iter(video.split(16)), None):
        depth, state = align_depth(prediction, model.kind, state, scale=Scale(), consistent=model.consistent)
        parts.append(depth)
    return torch.cat(parts).numpy()


def score(clip: Clip, motion: str, body: bool, depth_name: str, depth: np.ndarray) -> Score:
    """Estimate the cameras of a clip and compare them with the true ones."""
    frames, height, width = depth.shape
    began = time.process_time()
    stretches = StillStretches()
    for picture in clip.rgb:
        stretches.add(picture)
    matrix = default_intrinsics(height, width, 60.0).double().numpy()
    lens = Lens(float(matrix[0, 0]), (width / 2, height / 2))
    groups = np.array(stretches.groups)
    known = np.isfinite(depth)
    if not groups.any():
        found = ClipCameras.still(frames, lens)
    else:
        found = estimate_clip(
            follow(zip(clip.rgb, depth, known)),
            lens,
            spread=EXACT if depth_name == "exact" else PREDICTED,
            regain=depth_name != "exact",
            groups=groups,
            least_confidence=0.0,
        )
    seconds = (time.process_time() - began) / frames
    pose, truth = found.arrays["world_to_camera"], clip.world_to_camera
    length = path_length(truth)
    distance, angle = absolute_errors(pose, truth, "none" if depth_name == "exact" else "scale")
    similar = absolute_errors(pose, truth, "sim3")[0] if length > STANDS else np.zeros(frames)
    share = 100 / length if length > STANDS else float("nan")
    lens_error = 100 * np.abs(found.arrays["intrinsics"][:, 0, 0] / clip.intrinsics[:, 0, 0] - 1)
    return Score(
        motion,
        body,
        frames,
        depth_name,
        found,
        float(np.median(angle[1:])),
        float(np.median(relative_errors(pose, truth)[1])),
        share * float(np.sqrt((distance**2).mean())),
        share * float(np.sqrt((similar**2).mean())),
        float(np.median(lens_error)),
        seconds,
    )


def poses_table(name: str, scores: list[Score], run: Run) -> Table:
    """Return medians by motion, body, length and depth."""
    columns = [Column("depth"), Column("motion"), Column("clips", ".0f")]
    columns += [Column("rotation, degrees", ".3f"), Column("per step, degrees", ".3f")]
    columns += [Column("translation, % of path", ".2f"), Column("after Sim3, %", ".2f")]
    columns += [
        Column("focal length, %", ".1f"),
        Column("confidence", ".2f"),
        Column("CPU ms per frame", ".0f"),
    ]
    rows: list[list[Cell]] = []
    for depth in ("exact", "embedded model"):
        for body in (False, True):
            for motion in MOTIONS:
                for believed, more in ((False, ", body" if body else ""), (True, ", travel believed")):
                    given = depth, body, motion, believed
                    own = [o for o in scores if (o.depth, o.body, o.motion, o.believed) == given]
                    if own:
                        rows.append([depth, motion + more, *_medians(own)])
        moving = [o for o in scores if o.motion != "still" and not o.body and not o.believed]
        own = [o for o in moving if o.depth == depth]
        rows.append([depth, "all that move, no body", *_medians(own)])
    height, width = SIZES[scores[0].frames]
    title = f"Medians over clips of {scores[0].frames}x{height}x{width}; the lens is a guess of 60 degrees"
    return Table(name, title, columns, rows, run)


def _medians(own: list[Score]) -> list[Cell]:
    values = [
        [one.rotation, one.step, one.travel, one.similar, one.lens, one.found.confidence, 1e3 * one.seconds]
        for one in own
    ]
    with np.errstate(all="ignore"):
        middle = [
            float(np.nanmedian(column)) if np.isfinite(column).any() else None for column in zip(*values)
        ]
    return [len(own), *middle]


def stillness_table(name: str, scores: list[Score], run: Run) -> Table:
    """Return what cameras were said to do."""
    words = ("still", "turns", "zooms", "travels", "travels and zooms", "unknown")
    columns = [Column("camera"), Column("clips", ".0f"), *(Column(word, ".0f") for word in words)]
    columns += [Column("sure", ".0f")]
    rows: list[list[Cell]] = []
    for body in (False, True):
        for motion in MOTIONS:
            own = [one for one in scores if (one.motion, one.body, one.believed) == (motion, body, False)]
            if own:
                counts = [sum(one.found.motions == (word,) for one in own) for word in words]
                sure = sum(one.found.confidence >= SURE for one in own)
                rows.append([motion + (", body" if body else ""), len(own), *counts, sure])
    return Table(name, "What cameras were said to do, both kinds of depth", columns, rows, run)


def filled(clip: Clip, depth: np.ndarray, found: ClipCameras) -> Iterator[float]:
    """Yield the PSNR in the holes of an orbit of 20 degrees by true poses, estimated ones, and none.

    The lens is the true one, and depth has the true scale: so all three have the same holes, and differ in
    what other frames are believed to show of them.
    """
    frames = len(depth)
    scale = float(np.median(clip.depth) / np.median(depth))
    surface = torch.from_numpy(scale * depth).float()
    height, width = surface.shape[1:]
    middle = float(surface[0, height // 3 : -height // 3, width // 3 : -width // 3].median())
    lens, true = torch.from_numpy(clip.intrinsics), torch.from_numpy(clip.world_to_camera)
    own = torch.from_numpy(found.arrays["world_to_camera"]).clone()
    own[:, :3, 3] *= scale
    alone = torch.arange(frames)
    video = torch.from_numpy(clip.rgb).movedim(-1, 1).float() / 127.5 - 1
    known = torch.isfinite(surface)
    target = preset_path("orbit_right", lens, true, middle, angle_degrees=20.0)
    truth = clip.film(target.intrinsics.numpy(), target.world_to_camera.numpy())[0]
    expected = torch.from_numpy(truth).movedim(-1, 1).float() / 127.5 - 1
    groups = torch.from_numpy(found.arrays["pose_group"])
    for pose, group in ((true, None), (own, groups), (torch.eye(4).double().expand(frames, 4, 4), alone)):
        along = preset_path("orbit_right", lens, pose, middle, angle_degrees=20.0)
        cameras = along.intrinsics, along.world_to_camera
        made = render(video, surface, lens, pose, *cameras, surface=SURFACE, known=known)
        view = RenderedView(made.video, made.visible, made.depth, made.stretch, *cameras, pose_group=group)
        source = SourceView(video, surface, known, lens, pose, torch.arange(frames), group)
        result = fill_classical(view, source, surface=SURFACE)
        error = ((result - expected) / 2).square().mean(1)[~view.visible].mean()
        yield float(-10 * torch.log10(error))


def fills_table(name: str, fills: list[tuple[str, ClipCameras, list[float]]], run: Run) -> Table:
    """Return mean PSNR in the holes."""
    columns = [Column("depth"), Column("clips", ".0f"), Column("true poses, dB", ".2f")]
    columns += [
        Column("estimated, dB", ".2f"),
        Column("none, dB", ".2f"),
        Column("worst against none, dB", ".2f"),
    ]
    columns += [Column("worst against true, dB", ".2f")]
    rows: list[list[Cell]] = []
    for depth in ("exact", "embedded model"):
        own = np.array([values for kind, _, values in fills if kind == depth])
        if len(own):
            worst = [float((own[:, 1] - own[:, other]).min()) for other in (2, 0)]
            rows.append([depth, len(own), *own.mean(0).tolist(), *worst])
    return Table(name, "PSNR in holes, classical fill", columns, rows, run)


if __name__ == "__main__":
    main()
