"""Edits whose truth is known: one body of a procedural scene repainted, masked, and seen by a new camera."""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from bench.held_out import FRAMES, SIDE, SURFACE
from recapture.datasets.scenes.layout import PATTERNS, ROOM_FACES, Scene
from recapture.datasets.scenes.render import SceneFrames, render_scene, source_cameras
from recapture.datasets.scenes.sampling import Variety, sample_scene
from recapture.datasets.scenes.words import COLOURS, NOUNS
from recapture.models.fill.edited import replaced_in
from recapture.models.fill.view import RenderedView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path

ASKED = ("red", "yellow", "green", "blue", "pink", "white", "black")
BODY_SHARE = (0.01, 0.25)  # of the picture, from the source and from the new cameras
DILATE = 2


@dataclass(frozen=True)
class Edit:
    """A scene with one body to be repainted, and everything that is known about it."""

    caption: str
    prompt: str
    colour: str
    views: dict[bool, tuple[RenderedView, Tensor]]  # the masked clip along the new path, and where it shows
    # what is replaced [T, H, W]; True: with frame 0 repainted and known
    truths: dict[str, Tensor]  # colour -> [T, 3, H, W] along the new path
    unedited: Tensor  # [T, 3, H, W] along the new path
    body: Tensor  # [T, H, W] bool, along the new path
    inside: Tensor  # [T, H, W] bool, where the new path shows the room


def editable(variety: Variety, count: int) -> list[int]:
    """Return the first `count` scenes with a body of a usable size in every view."""
    found: list[int] = []
    for number in range(10 * count):
        if len(found) == count:
            break
        if largest_body(number, variety) is not None:
            found.append(number)
    return found


@cache
def largest_body(number: int, variety: Variety) -> int | None:
    """Return the id of the body that covers most of the source; None where it is too small or too large."""
    scene = sample_scene(number, variety=variety)
    some = slice(None, None, 8)
    times = torch.arange(FRAMES, dtype=torch.float32)[some]
    intrinsics, pose = source_cameras(scene, FRAMES, SIDE, SIDE)
    ids = render_scene(scene, intrinsics[some], pose[some], times, SIDE, SIDE, antialias=1).object_id
    shares = {label: (ids == label).float().mean((1, 2)) for label in range(1, len(scene.kinds) + 1)}
    best = max(shares, key=lambda label: float(shares[label].mean()))
    low, high = float(shares[best].min()), float(shares[best].max())
    return best if BODY_SHARE[0] <= low and high <= BODY_SHARE[1] else None


def make_edit(number: int, variety: Variety, mask: str, angle: float) -> Edit:
    """Mask the largest body of a scene and render the rest of the scene along the orbit."""
    scene = sample_scene(number, variety=variety)
    body = largest_body(number, variety)
    assert body is not None
    caption = scene.captions[0]
    others = [colour for colour in ASKED if colour not in body_phrases(caption)[body - 1].group()]
    colour = others[number % len(others)]
    times = torch.arange(FRAMES, dtype=torch.float32)
    cameras = source_cameras(scene, FRAMES, SIDE, SIDE)
    source = render_scene(scene, *cameras, times, SIDE, SIDE)
    third = slice(SIDE // 3, SIDE - SIDE // 3)
    pivot = float(source.depth[0, third, third].median())
    path = preset_path("orbit_right", *cameras, pivot, angle_degrees=angle)
    target = path.intrinsics.float(), path.world_to_camera.float()

    def seen(one: Scene) -> SceneFrames:
        return render_scene(one, *target, times, SIDE, SIDE)

    unedited = seen(scene)
    repainted = {name: repaint(scene, body, name) for name in ASKED}
    hidden = covered(source.object_id == body, mask)
    first = hidden.clone()
    first[0] = False
    repainted_first = source.video.clone()
    intrinsics, pose = cameras
    repainted_first[0] = render_scene(
        repainted[colour], intrinsics[:1], pose[:1], times[:1], SIDE, SIDE
    ).video[0]
    return Edit(
        caption,
        ask(caption, body, colour),
        colour,
        {
            False: masked_view(source.video, source.depth, hidden, cameras, target),
            True: masked_view(repainted_first, source.depth, first, cameras, target),
        },
        {name: seen(one).video for name, one in repainted.items()},
        unedited.video,
        unedited.object_id == body,
        torch.isfinite(unedited.depth),
    )


def masked_view(
    video: Tensor,  # [T, 3, H, W]
    depth: Tensor,  # [T, H, W]
    body: Tensor,  # [T, H, W] bool, to be redrawn
    cameras: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
) -> tuple[RenderedView, Tensor]:
    """Return the masked clip seen by the target cameras, as the stages do it, and its redrawn part."""
    known = torch.isfinite(depth) & ~grown(grown(body, DILATE), 1, cv2.MORPH_RECT)
    marked = torch.cat([video, body[:, None].float()], 1)
    at, replaced = replaced_in(render(marked, depth, *cameras, *target, surface=SURFACE, known=known | body))
    return RenderedView(at.video, at.visible, at.depth, at.stretch, *target), replaced


def covered(body: Tensor, mask: str) -> Tensor:
    """Return the body [T, H, W] bool itself, or the box around it in each frame."""
    if mask == "objects":
        return body
    boxes = torch.zeros_like(body)
    for one, box in zip(body, boxes):
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        if len(rows):
            box[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1] = True
    return boxes


def grown(hidden: Tensor, pixels: int, shape: int = cv2.MORPH_ELLIPSE) -> Tensor:
    """Return [T, H, W] bool, each frame dilated."""
    side = 2 * pixels + 1
    kernel = cv2.getStructuringElement(shape, (side, side))
    frames = [cv2.dilate(one.astype(np.uint8), kernel) > 0 for one in hidden.numpy()]
    return torch.from_numpy(np.stack(frames))


def repaint(scene: Scene, body: int, colour: str) -> Scene:
    """Return the scene with one body plain and of this colour."""
    rgb = torch.tensor(rgb_of(colour)).to(scene.colours)
    skin = torch.nn.functional.pad(scene.label == body, (ROOM_FACES, 0))
    return replace(
        scene,
        patterns=scene.patterns | {"plain"},
        pattern=torch.where(skin, PATTERNS.index("plain"), scene.pattern),
        colours=torch.where(skin[:, None, None], rgb, scene.colours),
    )


def rgb_of(colour: str) -> tuple[float, float, float]:
    """Return a named colour as RGB in 0...1."""
    hue, saturation, value = COLOURS[colour]
    return colorsys.hsv_to_rgb(hue / 360, saturation, value)


def body_phrases(caption: str) -> list[re.Match[str]]:
    """Return what a caption says of each body, up to its noun, in the order of their ids."""
    return list(re.finditer(rf"\ban? (?P<looks>.+?) (?P<noun>{'|'.join(NOUNS)})\b", caption))


def ask(caption: str, body: int, colour: str) -> str:
    """Return the caption with one body plain and of this colour."""
    phrase = body_phrases(caption)[body - 1]
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{caption[: phrase.start()]}{article} {colour} {phrase['noun']}{caption[phrase.end() :]}"
