"""References and targets of MotionScenes with all that is known of them, and the scores of a clip."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from recapture.datasets.scenes.motion_scenes import READINGS, Category, MotionScene, Reading, motion_scene
from recapture.datasets.scenes.motion_stage import SETS
from recapture.datasets.scenes.words import COLOURS
from recapture.models.metrics.motion import (
    STEP,
    camera_scores,
    leak_colour,
    leak_layout,
    motion_scores,
    nearer_reading,
)
from recapture.models.metrics.motion_bodies import MotionTruth
from recapture.models.metrics.tracks import camera_flow, motion_fidelity

NAMES = {"motion_direction": "direction", "motion_amplitude": "amplitude", "motion_end": "end"}


@dataclass(frozen=True)
class Clip:
    """A reference."""

    scene: MotionScene
    video: Tensor  # [T, 3, H, W]
    depth: Tensor  # [T, H, W]
    bodies: Tensor  # [B, T, H, W] bool


@dataclass(frozen=True)
class Known:
    """A target and its true transfer."""

    category: Category
    reference: int
    target: int
    scene: MotionScene  # in the reading `picture`, like the next two
    depth: Tensor  # [T, H, W]
    bodies: Tensor  # [B, T, H, W] bool
    truths: dict[Reading, MotionTruth]

    @property
    def name(self) -> str:
        """Return the name of the target."""
        return f"{self.category}-{self.reference:02d}-{self.target}"


@lru_cache(maxsize=16)
def reference_of(category: Category, reference: int, frames: int, side: int) -> Clip:
    """Return a reference."""
    scene = motion_scene(category, reference, frames=frames, side=side)
    rendered = scene.render()
    return Clip(scene, rendered.video, rendered.depth, bodies_in(rendered.object_id, scene))


@lru_cache(maxsize=16)
def known_transfer(category: Category, reference: int, target: int, frames: int, side: int) -> Known:
    """Return a target with its truth in both readings."""
    truths: dict[Reading, MotionTruth] = {}
    for reading in reversed(READINGS):  # `picture` last
        scene = motion_scene(category, reference, target, reading=reading, frames=frames, side=side)
        rendered, ids = scene.render(), scene.render(parts=True).object_id
        parts = torch.stack([ids == part for part in range(1, len(scene.owner) + 1)])
        background = scene.render(bodies=False).video
        truths[reading] = MotionTruth(rendered.video, background, parts, scene.owner)
    bodies = bodies_in(rendered.object_id, scene)
    return Known(category, reference, target, scene, rendered.depth, bodies, truths)


def bodies_in(ids: Tensor, scene: MotionScene) -> Tensor:
    """Return the mask [B, T, H, W] of each body."""
    return torch.stack([ids == body for body in range(1, max(scene.owner) + 1)])


def scored(video: Tensor, base: Tensor, known: Known) -> dict[str, float]:
    """Return the scores of a clip; base: the base's own sample.

    Motion is scored against the nearer of both readings, pixels against `picture`. Of the category `camera`,
    direction and amplitude are those of the camera; its bodies rest.
    """
    picture = known.truths["picture"]
    pixels = motion_scores(video, picture)
    clip = reference_of(known.category, known.reference, len(video), video.shape[-1])
    scores = {
        "psnr_body": pixels["psnr_body"],
        "psnr_elsewhere": pixels["psnr_elsewhere"],
        "fidelity": motion_fidelity(video, clip.video),
        "leak_layout": leak_layout(video, base, clip.video, picture),
    }
    if known.category == "camera":
        flow = camera_flow(known.depth, *known.scene.cameras(), STEP)
        camera = camera_scores(video, flow)
        scores |= {name: camera[f"camera_{name}"] for name in ("direction", "amplitude", "followed")}
        return plain(scores)
    reading = nearer_reading(video, {str(name): truth for name, truth in known.truths.items()})
    motion = pixels if reading == "picture" else motion_scores(video, known.truths["world"])
    scores |= {name: motion[long] for long, name in NAMES.items()}
    scores |= {"timing": motion["motion_timing"], "kept": motion["body_kept"]}
    scores |= {"assignment": motion["assignment"], "world": float(reading == "world")}
    asked, reference = set(known.scene.colours), set(clip.scene.colours)
    others = [name for names in SETS for name in names if name not in asked | reference]
    leak = leak_colour(video, picture, *(colours(sorted(some)) for some in (asked, reference, set(others))))
    return plain(scores | {"leak_colour": leak})


def colours(names: list[str]) -> Tensor:
    """Return named colours [K, 3] in [-1, 1]."""
    rgb = [colorsys.hsv_to_rgb(COLOURS[name][0] / 360, *COLOURS[name][1:]) for name in names]
    return torch.tensor(rgb).reshape(-1, 3) * 2 - 1


def plain(scores: dict[str, float]) -> dict[str, float]:
    """Return the scores that are numbers: JSON has no NaN."""
    return {name: value for name, value in scores.items() if not math.isnan(value)}
