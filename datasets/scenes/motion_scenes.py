"""MotionScenes: reference clips, targets at rest, and the true transfer of each reference to each target.

A reference is a programme that a stage performs. A target is another stage; the truth is the target
performing the same programme, in two readings of "the same motion": `picture` (the same way in the picture; a
body at another depth travels another distance) and `world` (the same way in scene units). Everything is a
function of (category, reference, target, reading) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recapture.datasets.scenes import motion_programmes as programmes
from recapture.datasets.scenes.layout import Scene, Vector
from recapture.datasets.scenes.motion_figures import LIMBS, Pose
from recapture.datasets.scenes.motion_programmes import PROGRAMMES, Shot, Track
from recapture.datasets.scenes.motion_stage import (
    CHANGES,
    NOUNS,
    Stage,
    Standing,
    reference_stage,
    target_stage,
)
from recapture.datasets.scenes.render import SceneFrames, render_scene, source_cameras
from recapture.datasets.scenes.words import caption_of, phrase
from recapture.datasets.scenes.world_layout import Actor, Air, CameraPath, Film, WorldScene

Category = Literal["camera", "single", "multiple", "figure"]
Reading = Literal["picture", "world"]
CATEGORIES: tuple[Category, ...] = ("camera", "single", "multiple", "figure")
READINGS: tuple[Reading, ...] = ("picture", "world")
REFERENCES, TARGETS = 12, len(CHANGES)  # of each category, of each reference
KEYS = 33  # per clip
_RESTING = [(-0.2, 0.05), (0.02, 0.1), (0.22, 0.0)]  # bodies of the category `camera`
_AIR = Air(outdoors=False, haze=0.0, softness=0.4, shadow=0.35)


@dataclass(frozen=True)
class MotionScene:
    """A reference, or the true transfer of one to a target, ready to be rendered."""

    name: str
    scene: Scene
    frames: int
    height: int
    width: int
    tracked: Tensor  # [slots] int64: which tracked part (from 1) a slot belongs to
    owner: tuple[int, ...]  # of each tracked part, the body (from 1)
    colours: tuple[str, ...]  # of each tracked part

    @property
    def caption(self) -> str:
        """Return what the scene shows, in words."""
        return self.scene.captions[0]

    def cameras(self) -> tuple[Tensor, Tensor]:
        """Return intrinsics [T, 3, 3] and world_to_camera [T, 4, 4]."""
        return source_cameras(self.scene, self.frames, self.height, self.width)

    def render(self, *, parts: bool = False, bodies: bool = True) -> SceneFrames:
        """Render the clip; parts: object ids are those of tracked parts; bodies: False leaves these out."""
        scene = self.scene
        if parts:
            scene = replace(scene, label=self.tracked)
        if not bodies:
            scene = replace(scene, active=scene.active & (self.tracked == 0))
        times = torch.arange(self.frames, dtype=torch.float64)
        return render_scene(scene, *self.cameras(), times, self.height, self.width)


def motion_scene(
    category: Category,
    reference: int,
    target: int | None = None,
    *,
    reading: Reading = "picture",
    frames: int = 17,
    side: int = 128,
) -> MotionScene:
    """Return a reference of MotionScenes, or its true transfer to a target.

    reference: 0 to 11; target: 0 (other colours), 1 (another kind of body), 2 (another room, light and lens),
    3 (another position and depth); None: the reference itself, for which both readings are the same.
    Raises: ValueError for a number, category or reading that does not exist, or fewer than 2 frames.
    """
    _check(category, reference, target, reading, frames)
    name = PROGRAMMES[category][reference]
    u = np.linspace(0, 1, KEYS)
    shot = programmes.camera(name, u) if category == "camera" else None
    tracks = [Track(start) for start in _RESTING] if shot else getattr(programmes, category)(name, u)
    own = reference_stage(category, reference, _centred(tracks))
    stage = own if target is None else target_stage(own, category, reference, target)
    giver = own if reading == "world" else stage
    paths = [_path(giver, body, track) for body, track in zip(giver.bodies, tracks)]
    actors, tracked, owner = _cast(stage, tracks, paths)
    keys = _shot(stage, giver, shot)
    words = caption_of(
        [actor.words for actor in actors],
        stage.room.textures[5].pattern,
        stage.room.textures[3].pattern,
        "the camera moves" if shot else "",
    )
    drawn = WorldScene(
        actors=actors,
        room=stage.room,
        camera=stage.camera,
        light=stage.light,
        lighting=stage.lighting,
        air=_AIR,
        path=CameraPath(),
        film=Film(),
        caption=words,
        shot=keys,
        key_step=(frames - 1) / (KEYS - 1),
    )
    scene = drawn.scene()
    colours = tuple(colour for body in stage.bodies for colour in body.colours)
    label = f"{category}-{reference:02d}" + ("" if target is None else f"-{target}-{reading}")
    slots = torch.tensor(_in_slots(scene, actors, tracked), dtype=torch.int64)
    return MotionScene(label, scene, frames, side, side, slots, tuple(owner), colours)


def programme_name(category: Category, reference: int) -> str:
    """Return what a reference does."""
    return PROGRAMMES[category][reference]


def _check(category: str, reference: int, target: int | None, reading: str, frames: int) -> None:
    if category not in PROGRAMMES:
        raise ValueError(f"motion scene: category is {category!r}; use one of {', '.join(PROGRAMMES)}")
    if not 0 <= reference < REFERENCES:
        raise ValueError(f"motion scene: reference is {reference}; use 0 to {REFERENCES - 1}")
    if target is not None and not 0 <= target < TARGETS:
        raise ValueError(f"motion scene: target is {target}; use 0 to {TARGETS - 1}, or none")
    if reading not in READINGS:
        raise ValueError(f"motion scene: reading is {reading!r}; use one of {', '.join(READINGS)}")
    if frames < 2:
        raise ValueError(f"motion scene: {frames} frames show no motion; use 2 or more")


def _centred(tracks: Sequence[Track]) -> list[tuple[float, float]]:
    """Return where the bodies start, so that all their ways together are in the middle of the picture."""
    ways = [np.asarray(track.start) + track.moves(KEYS)[:, :2] for track in tracks]
    every = np.concatenate(ways)
    middle = (every.min(0) + every.max(0)) / 2
    places = [np.asarray(track.start) - middle + (0.0, 0.02) for track in tracks]
    return [(float(x), float(y)) for x, y in places]


def _path(stage: Stage, body: Standing, track: Track) -> np.ndarray:
    """Return the displacement [K, 3] in scene units with which this body follows the track in the picture."""
    moves = track.moves(KEYS)
    points = stage.at(np.asarray(body.place) + moves[:, :2], body.depth / moves[:, 2])
    return points - points[:1]


def _cast(
    stage: Stage, tracks: Sequence[Track], paths: Sequence[np.ndarray]
) -> tuple[list[Actor], list[list[int]], list[int]]:
    """Return an actor per body, the tracked part of each of its parts, and each tracked part's body."""
    actors: list[Actor] = []
    tracked: list[list[int]] = []
    owner: list[int] = []
    for number, (body, track, path) in enumerate(zip(stage.bodies, tracks, paths), start=1):
        parts, numbers = zip(*body.parts())
        first = len(owner)
        tracked.append([first + one for one in numbers])
        owner += [number] * max(numbers)
        centre = stage.at(np.asarray(body.place), np.asarray(body.depth))
        if track.pose is not None:
            parts = tuple(_posed(parts, track.pose))
            path = path + np.outer(np.broadcast_to(track.pose.lift, KEYS), (0, -body.reach, 0))
        noun = "figure" if body.kind == "figure" else NOUNS[body.kind]
        actors.append(
            Actor(
                parts=parts,
                position=_vector(centre),
                words=phrase(body.colours[0], noun, "turning"),
                heading_degrees=track.pose.heading if track.pose else 20.0,
                path=tuple(_vector(row) for row in path),
                turns=() if track.pose is None else tuple(np.broadcast_to(track.pose.turn, KEYS).tolist()),
            )
        )
    return actors, tracked, owner


def _posed(parts: Sequence, pose: Pose) -> list:
    """Return a figure's parts with the keys of its pose; its first two are torso and head."""
    posed = list(parts[:2])
    for limb, index in zip(LIMBS, range(2, 10, 2)):
        swing, bend = pose.limbs.get(limb, (np.zeros(KEYS), np.zeros(KEYS)))
        upper, lower = parts[index], parts[index + 1]
        posed.append(replace(upper, poses=tuple((float(a), 0.0) for a in swing)))
        posed.append(replace(lower, poses=tuple((float(a), float(b)) for a, b in zip(swing, bend))))
    return posed


def _shot(stage: Stage, giver: Stage, shot: Shot | None) -> tuple[tuple[float, ...], ...]:
    """Return the keys of the camera; nothing where it stands still. giver: whose distance scales it."""
    if shot is None:
        return ()
    axes, reach = stage.pose()[:3, :3], giver.reach()
    position = np.asarray(stage.camera.position) + reach * shot.position @ axes
    target = np.asarray(stage.camera.target) + reach * shot.target @ axes
    keys = np.concatenate([position, target, shot.roll[:, None], shot.zoom[:, None]], axis=1)
    return tuple(tuple(row) for row in keys.tolist())


def _in_slots(scene: Scene, actors: Sequence[Actor], tracked: Sequence[Sequence[int]]) -> list[int]:
    """Return the tracked part of each slot of the scene, whose slots are sorted by kind."""
    slots = [0] * len(scene.kinds)
    starts = {
        kind: [slot for slot, other in enumerate(scene.kinds) if other == kind] for kind in set(scene.kinds)
    }
    free = {kind: iter(places) for kind, places in starts.items()}
    for actor, numbers in zip(actors, tracked):
        for part, number in zip(actor.parts, numbers):
            slots[next(free[part.kind])] = number
    return slots


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
