"""What a procedural scene is made of: its parts as dataclasses, and the scene as tensors.

The world has OpenCV axes (x right, y down, z forward); lengths are in scene units, time is counted in frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["sphere", "box", "cylinder", "ellipsoid", "capsule"]
KINDS: tuple[Kind, ...] = ("sphere", "box", "cylinder")  # of classic and wide scenes
ALL_KINDS: tuple[Kind, ...] = (*KINDS, "ellipsoid", "capsule")
PATTERNS = (
    "marbled",
    "checkered",
    "striped",
    "dotted",
    "bricked",
    "plain",  # only the first colour
    "photographed",  # one photograph per cell (chosen by phase z in 0..5), multiplied by the first colour
    "waved",
    "speckled",
)
Vector = tuple[float, float, float]

ROOM_FACES = 6  # in the order -x, +x, -y (ceiling), +y (floor), -z (behind), +z (back wall)


@dataclass(frozen=True)
class Texture:
    """A surface pattern: two colours in [0, 1], cells per scene unit, and how it is applied."""

    pattern: str = "marbled"
    colours: tuple[Vector, Vector] = ((0.8, 0.5, 0.3), (0.3, 0.2, 0.15))
    cells: float = 2.0
    turn_degrees: float = 0.0
    grain: float = 0.5
    phase: Vector = (0.37, 0.61, 0.23)


@dataclass(frozen=True)
class SceneObject:
    """One moving, spinning body.

    size: (radius, -, -) of a sphere, half extents of a box, (radius, half height, -) of a cylinder,
    whose axis is its own y. The centre travels from `position` along `velocity` (units per frame) and is
    reflected at `low` and `high`; in addition it hops `hop_height` upwards, `hop_rate` times per frame.
    A `path` [K] moves it further, from key to key: one per frame, unless the scene says otherwise.
    """

    kind: Kind
    size: Vector
    position: Vector
    velocity: Vector = (0.0, 0.0, 0.0)
    low: Vector = (-50.0, -50.0, -50.0)
    high: Vector = (50.0, 50.0, 50.0)
    hop_height: float = 0.0
    hop_rate: float = 0.0
    hop_phase: float = 0.0
    axis: Vector = (0.0, 1.0, 0.0)
    angle_degrees: float = 0.0
    spin_degrees: float = 0.0
    texture: Texture = field(default_factory=Texture)
    path: tuple[Vector, ...] = ()


@dataclass(frozen=True)
class Room:
    """The box that contains the scene; one texture per face, in the order of ROOM_FACES."""

    low: Vector = (-4.5, -3.2, -4.0)
    high: Vector = (4.5, 1.3, 7.0)
    textures: tuple[Texture, ...] = (Texture(),) * ROOM_FACES


@dataclass(frozen=True)
class SourceCamera:
    """The source camera's position and target; both sway as a sine over `period` frames."""

    position: Vector = (0.0, -0.3, 0.0)
    target: Vector = (0.0, 0.3, 4.0)
    position_sway: Vector = (0.0, 0.0, 0.0)
    target_sway: Vector = (0.0, 0.0, 0.0)
    period: float = 48.0
    fov_degrees: float = 60.0


@dataclass(frozen=True)
class Lighting:
    """How a scene is lit: ambient light, light from the scene's direction, and the light's colour."""

    ambient: float = 0.62
    direct: float = 0.42
    colour: Vector = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """A 4D scene as tensors, or B of them with a leading dimension B.

    `kinds` names the object slots; the scenes of a batch share it and disable slots with `active`.
    `label` is the object id with which a slot is rendered (0 is the room).
    """

    kinds: tuple[Kind, ...]  # N
    captions: tuple[str, ...]  # one per scene
    patterns: frozenset[str]  # all patterns that occur; more are allowed but cost time
    room_low: Tensor  # [..., 3]
    room_high: Tensor  # [..., 3]
    active: Tensor  # [..., N] bool
    label: Tensor  # [..., N] int64
    size: Tensor  # [..., N, 3]
    position: Tensor  # [..., N, 3]
    velocity: Tensor  # [..., N, 3]
    low: Tensor  # [..., N, 3]
    high: Tensor  # [..., N, 3]
    hop: Tensor  # [..., N, 3] height, rate, phase
    axis: Tensor  # [..., N, 3] unit
    spin: Tensor  # [..., N, 2] radians at time 0, radians per frame
    pattern: Tensor  # [..., 6 + N] int64, index into PATTERNS
    colours: Tensor  # [..., 6 + N, 2, 3]
    laying: Tensor  # [..., 6 + N, 6] cells per unit, turn (radians), grain, phase x, y, z
    light: Tensor  # [..., 3] unit, towards the light
    lighting: Tensor  # [..., 5] ambient, direct, colour as red, green, blue
    camera: Tensor  # [..., 4, 3] position, target, and the sway of each
    lens: Tensor  # [..., 2] field of view in degrees, sway period in frames
    # Only of the variety "world"; columns are those of world_layout.py.
    limb: Tensor | None = None  # [..., N, 17] how a slot hangs on its actor
    gloss: Tensor | None = None  # [..., 6 + N, 3] strength and exponent of the highlight, own light
    air: Tensor | None = None  # [..., 14] sky, haze and shadows
    path: Tensor | None = None  # [..., 10] how the camera moves
    film: Tensor | None = None  # [..., 8] exposure, focus and noise of the picture
    # Only of scenes with keyed tracks; columns are those of keyed.py, added to all the above.
    keys: Tensor | None = None  # [..., N, K, 6] poses of the slots
    shot: Tensor | None = None  # [..., K, 8] the source camera, in place of `camera` and `path`
    key_step: Tensor | None = None  # [..., 1] frames from one key to the next

    @property
    def batched(self) -> bool:
        return self.room_low.ndim == 2

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Scene:
        """Return the scene on another device, its floating-point tensors in another precision."""
        moved: dict[str, Any] = {}
        for name, value in self.tensors().items():
            moved[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return replace(self, **moved)

    def as_batch(self) -> Scene:
        """Return the scene with a leading batch dimension (of 1 if it had none)."""
        if self.batched:
            return self
        lifted: dict[str, Any] = {name: value[None] for name, value in self.tensors().items()}
        return replace(self, **lifted)

    def single(self) -> Scene:
        """Return a batch of one scene without its batch dimension."""
        alone: dict[str, Any] = {name: value[0] for name, value in self.tensors().items()}
        return replace(self, **alone)

    def take(self, index: Tensor, captions: Sequence[str]) -> Scene:
        """Return the scenes index [B] of this batch; captions: theirs, as the index may be on a device."""
        taken: dict[str, Any] = {name: value[index] for name, value in self.tensors().items()}
        return replace(self, captions=tuple(captions), **taken)

    def tensors(self) -> dict[str, Tensor]:
        """Return the scene's tensors by their names."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}
