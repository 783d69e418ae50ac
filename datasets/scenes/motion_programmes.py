"""The programmes of MotionScenes: what bodies, figures and cameras do, in numbers that fit any scene.

A body's track is a displacement in the picture and a nearness, so that a body elsewhere can perform it; a
figure adds the angles of its joints; a camera's shot is counted in distances to what it looks at. u is the
time in [0, 1] of the whole clip. Pictures have x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recapture.datasets.scenes.motion_figures import FIGURES, Pose

Array = np.ndarray
TAU = 2 * np.pi


@dataclass(frozen=True)
class Track:
    """How one body moves, at K moments."""

    start: tuple[float, float] = (0.0, 0.0)  # shares of the picture's longer side, from its centre
    across: Array | float = 0.0  # [K] displacement to the right, in the same shares
    down: Array | float = 0.0  # [K]
    nearness: Array | float = 1.0  # [K] depth at the start / depth
    pose: Pose | None = None  # of a figure

    def moves(self, count: int) -> Array:
        """Return [K, 3]: across, down, nearness."""
        return np.stack([np.broadcast_to(part, count) for part in (self.across, self.down, self.nearness)], 1)


@dataclass(frozen=True)
class Shot:
    """How the camera moves, at K moments; lengths in distances to the point that it looks at first."""

    position: Array  # [K, 3] right, down, forward
    target: Array  # [K, 3]
    roll: Array  # [K] degrees
    zoom: Array  # [K] factor of the focal length


def single(name: str, u: Array) -> list[Track]:
    """Return the track of a programme of the category `single`."""
    return [_track((0.0, 0.0), _SINGLE[name](u))]


def multiple(name: str, u: Array) -> list[Track]:
    """Return the tracks of two to four bodies."""
    return _MULTIPLE[name](u)


def figure(name: str, u: Array) -> list[Track]:
    """Return the track of an articulated figure, with its pose."""
    across, pose = FIGURES[name](u)
    return [Track(across=across, pose=pose)]


def camera(name: str, u: Array) -> Shot:
    """Return the shot of a programme of the category `camera`."""
    given = {part: value + np.zeros_like(u) for part, value in _CAMERA[name](u).items()}
    zero = np.zeros_like(u)
    position, target = (
        np.stack([given.get(f"{what}{axis}", zero) for axis in "xyz"], axis=1) for what in ("", "look_")
    )
    return Shot(position, target, given.get("roll", zero), given.get("zoom", zero + 1))


def triangle(cycles: Array) -> Array:
    """Return the wave that starts at 0, rises to 1 at a quarter of a cycle and falls to -1 at three."""
    return 1 - 4 * np.abs(np.mod(cycles + 0.25, 1) - 0.5)


def eased(u: Array) -> Array:
    """Return u in [0, 1], eased in and out."""
    u = np.clip(u, 0, 1)
    return u * u * (3 - 2 * u)


def ring(u: Array, radius: float, turns: float, start: float = 0.0) -> dict[str, Array]:
    """Return the displacement along a circle, from an angle in turns (0: right, a quarter: below)."""
    angle = TAU * (start + turns * u)
    return {
        "across": radius * (np.cos(angle) - np.cos(TAU * start)),
        "down": radius * (np.sin(angle) - np.sin(TAU * start)),
    }


def _track(start: tuple[float, float], moves: dict[str, Array]) -> Track:
    """Return the track of a body that starts here."""
    return Track(start, moves["across"], moves["down"], moves.get("nearness", 1.0))


def _u_turn(u: Array) -> dict[str, Array]:
    straight, radius = 0.2, 0.075
    way = u * (2 * straight + np.pi * radius)
    angle = np.clip((way - straight) / radius, 0, np.pi)
    back = np.clip(way - straight - np.pi * radius, 0, None)
    return {
        "across": np.clip(way, None, straight) + radius * np.sin(angle) - back,
        "down": radius * (1 - np.cos(angle)),
    }


def _stop_and_go(u: Array) -> dict[str, Array]:
    way = u - np.sin(3 * TAU * u) / (3 * TAU)
    return {"across": 0.3 * way, "down": -0.1 * way}


def _bounce(u: Array) -> dict[str, Array]:
    return {"across": 0.26 * u, "down": 0.22 * (1 - np.exp(-1.5 * u) * np.abs(np.cos(2.5 * np.pi * u)))}


def _pendulum(u: Array) -> dict[str, Array]:
    swing = np.sin(1.25 * TAU * u)
    return {"across": 0.16 * swing, "down": -0.08 * swing**2}


def _spiral(u: Array) -> dict[str, Array]:
    return {
        "across": 0.13 * u * np.cos(1.5 * TAU * u),
        "down": 0.13 * u * np.sin(1.5 * TAU * u),
        "nearness": 1 + 0.5 * u,
    }


_SINGLE: dict[str, Callable[[Array], dict[str, Array]]] = {
    "circle": lambda u: ring(u, 0.12, 1, 0.5),
    "circle back": lambda u: ring(u, 0.12, -1, 0.25),
    "figure eight": lambda u: {"across": 0.15 * np.sin(TAU * u), "down": 0.1 * np.sin(2 * TAU * u)},
    "decaying bounce": _bounce,
    "zigzag": lambda u: {"across": 0.3 * u, "down": 0.11 * triangle(1.5 * u)},
    "zigzag upwards": lambda u: {"across": 0.11 * triangle(1.5 * u), "down": -0.28 * u},
    "u-turn": _u_turn,
    "stop and go": _stop_and_go,
    "pendulum": _pendulum,
    "spiral towards the camera": _spiral,
    "arc": lambda u: {"across": 0.26 * u, "down": -0.19 * np.sin(np.pi * u)},
    "arc back": lambda u: {"across": -0.26 * u, "down": 0.16 * np.sin(np.pi * u)},
}


def _following(u: Array) -> list[Track]:
    tracks = []
    for number in range(3):
        way = eased((u - 0.2 * number) / 0.6)
        tracks.append(Track((-0.2 + 0.06 * number, 0.2 * number - 0.2), 0.3 * way, 0.05 * np.sin(TAU * way)))
    return tracks


def _collision(u: Array) -> list[Track]:
    way = 0.14 * (1 - np.abs(2 * u - 1))
    return [Track((-0.25, -0.02), way, -0.1 * u), Track((0.25, 0.02), -way, 0.1 * u)]


def _carousel(u: Array) -> list[Track]:
    return [
        _track((0.2 * np.cos(TAU * at), 0.2 * np.sin(TAU * at)), ring(u, 0.2, 0.4, at))
        for at in (0.05, 0.05 + 1 / 3, 0.05 + 2 / 3)
    ]


def _fan(u: Array) -> list[Track]:
    way = 0.13 * eased(u)
    return [Track((0.13 * x, 0.13 * y), x * way, y * way) for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1))]


def _relay(u: Array) -> list[Track]:
    hops = [np.sin(np.pi * np.clip((u - at) / 0.36, 0, 1)) for at in (0.0, 0.32, 0.64)]
    return [Track((x, 0.12), 0.0, -0.24 * hop) for x, hop in zip((-0.25, 0.0, 0.25), hops)]


_MULTIPLE: dict[str, Callable[[Array], list[Track]]] = {
    "crossing": lambda u: [Track((-0.2, -0.12), 0.36 * u), Track((0.2, 0.12), -0.36 * u)],
    "overtaking": lambda u: [Track((-0.25, -0.13), 0.4 * u), Track((-0.12, 0.13), 0.15 * u)],
    "following": _following,
    "orbiting": lambda u: [
        _track((0.16, 0), ring(u, 0.16, 0.75)),
        _track((-0.16, 0), ring(u, 0.16, 0.75, 0.5)),
    ],
    "collision": _collision,
    "opposite circles": lambda u: [
        _track((-0.12, 0), ring(u, 0.1, 1)),
        _track((0.12, 0), ring(u, 0.1, -1, 0.5)),
    ],
    "parting": lambda u: [
        Track((-0.12, 0.0), -0.1 * u, -0.2 * u),
        Track((0.12, 0.0), 0.1 * u, 0.2 * u),
    ],
    "changing places": lambda u: [
        Track((-0.15, -0.06), 0.3 * u, -0.06 * np.sin(np.pi * u), 1 + 0.3 * u),
        Track((0.15, 0.06), -0.3 * u, 0.06 * np.sin(np.pi * u), 1 - 0.2 * u),
    ],
    "carousel": _carousel,
    "see-saw": lambda u: [
        Track((-0.17, 0), 0.0, 0.16 * np.sin(TAU * u)),
        Track((0.17, 0), 0.0, -0.16 * np.sin(TAU * u)),
    ],
    "fanning out": _fan,
    "relay": _relay,
}


def _shaken(u: Array) -> dict[str, Array]:
    return {
        "look_x": 0.06 * np.sin(3 * TAU * u),
        "look_y": 0.05 * np.sin(2 * TAU * u),
        "roll": 5 * np.sin(1.5 * TAU * u),
    }


def _arc(degrees: float) -> Callable[[Array], dict[str, Array]]:
    return lambda u: {"x": np.sin(np.radians(degrees * u)), "z": 1 - np.cos(np.radians(degrees * u))}


_CAMERA: dict[str, Callable[[Array], dict[str, Array]]] = {
    "arc to the right": _arc(24),
    "arc to the left": _arc(-24),
    "crane up": lambda u: {"y": -0.32 * u, "look_y": 0.08 * u},
    "crane down": lambda u: {"y": 0.14 * u, "look_y": -0.12 * u},
    "roll": lambda u: {"roll": 30 * eased(u)},
    "roll back": lambda u: {"roll": -30 * eased(u)},
    "whip pan": lambda u: {"look_x": 0.42 * eased(2 * u - 0.5)},
    "spiral in": lambda u: {"x": 0.14 * np.sin(TAU * u), "y": 0.1 * (np.cos(TAU * u) - 1), "z": 0.22 * u},
    "dolly zoom": lambda u: {"z": 0.34 * u, "zoom": 1 - 0.34 * u},
    "zigzag truck": lambda u: {"x": 0.14 * triangle(u), "look_x": 0.14 * triangle(u)},
    "shake": _shaken,
    "push in": lambda u: {"z": 0.34 * eased(u)},
}

PROGRAMMES: dict[str, tuple[str, ...]] = {
    "camera": tuple(_CAMERA),
    "single": tuple(_SINGLE),
    "multiple": tuple(_MULTIPLE),
    "figure": tuple(FIGURES),
}
