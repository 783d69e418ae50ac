"""What the articulated figures of MotionScenes do: the angles of their joints, seen from the side.

Arms and legs swing in the plane that the figure faces along, so that the picture shows all of it. Angles are
in degrees: a swing is positive to the front, a bend adds to it at the knee or the elbow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
TAU = 2 * np.pi
LIMBS = ("left leg", "left arm", "right leg", "right arm")  # as `figure` of world_actors orders them
THIGH = 0.2275  # of the height, between the joints of a leg


@dataclass(frozen=True)
class Pose:
    """A figure at K moments."""

    heading: float  # degrees at the start; 90: to the right
    limbs: dict[str, tuple[Array, Array]]  # swing and bend of the limbs that move, [K] each
    lift: Array | float = 0.0  # [K] upwards, in heights of the figure
    turn: Array = field(default_factory=lambda: np.zeros(1))  # [K] degrees


Act = Callable[[Array], tuple[Array, Pose]]


def _bump(u: Array, cycles: float = 1.0) -> Array:
    """Return a wave from 0 to 1 and back."""
    return 0.5 - 0.5 * np.cos(TAU * cycles * u)


def _gait(u: Array, cycles: float, reach: float) -> dict[str, tuple[Array, Array]]:
    limbs = {}
    for limb, ahead in zip(LIMBS, (0.0, 0.5, 0.5, 0.0)):
        swing = reach * np.sin(TAU * (cycles * u + ahead))
        bend = np.sin(TAU * (cycles * u + ahead + 0.25))
        limbs[limb] = (swing, -reach * (1 + bend)) if "leg" in limb else (swing, 0.5 * reach * (1 + bend))
    return limbs


def _walk(way: float, heading: float, cycles: float, reach: float) -> Act:
    return lambda u: (way * u, Pose(heading, _gait(u, cycles, reach)))


def _wave(u: Array) -> tuple[Array, Pose]:
    raised = np.clip(3 * u, 0, 1)
    return 0 * u, Pose(90, {"right arm": (140 * raised, 35 * np.sin(2 * TAU * u) * raised)})


def _windmill(u: Array) -> tuple[Array, Pose]:
    return 0 * u, Pose(90, {"right arm": (360 * u, 0 * u), "left arm": (360 * u + 150 * u, 0 * u)})


def _jack(u: Array) -> tuple[Array, Pose]:
    apart = _bump(u)
    limbs = {
        "left leg": (38 * apart, 0 * u),
        "right leg": (-38 * apart, 0 * u),
        "left arm": (150 * apart, 0 * u),
        "right arm": (-150 * apart, 0 * u),
    }
    return 0 * u, Pose(90, limbs, 2 * THIGH * (np.cos(np.radians(38 * apart)) - 1))


def _kick(u: Array) -> tuple[Array, Pose]:
    back, front = _bump(2.5 * np.clip(u, 0, 0.4)), _bump(np.clip((u - 0.3) / 0.7, 0, 1))
    limbs = {
        "right leg": (90 * front - 30 * back, -60 * back),
        "left arm": (40 * front, 0 * u),
        "right arm": (-50 * front, 0 * u),
    }
    return 0 * u, Pose(90, limbs)


def _squat(u: Array) -> tuple[Array, Pose]:
    bent = 62 * _bump(u)
    leg = bent, -2 * bent
    arm = 90 * _bump(u), 0 * u
    lower = 2 * THIGH * (np.cos(np.radians(bent)) - 1)
    return 0 * u, Pose(90, {"left leg": leg, "right leg": leg, "left arm": arm, "right arm": arm}, lower)


def _turning(u: Array) -> tuple[Array, Pose]:
    arms = {"right arm": (85 + 0 * u, 0 * u), "left arm": (-85 + 0 * u, 0 * u)}
    return 0 * u, Pose(90, arms, turn=300 * u)


def _march(u: Array) -> tuple[Array, Pose]:
    left, right = (np.clip(np.sin(TAU * (1.5 * u + at)), 0, None) for at in (0.0, 0.5))
    limbs = {
        "left leg": (75 * left, -95 * left),
        "right leg": (75 * right, -95 * right),
        "left arm": (60 * right, 30 * right),
        "right arm": (60 * left, 30 * left),
    }
    return 0 * u, Pose(90, limbs)


def _hop(u: Array) -> tuple[Array, Pose]:
    up = np.abs(np.sin(TAU * u))
    arm = 120 * up, 0 * u
    return 0.1 * u, Pose(90, {"left arm": arm, "right arm": arm}, 0.24 * up)


def _lunge(u: Array) -> tuple[Array, Pose]:
    bent = _bump(u)
    limbs = {
        "right leg": (65 * bent, -65 * bent),
        "left leg": (-38 * bent, 0 * u),
        "right arm": (-50 * bent, 0 * u),
        "left arm": (70 * bent, 0 * u),
    }
    lower = 2 * THIGH * (np.cos(np.radians(38 * bent)) - 1)
    return 0.08 * bent, Pose(90, limbs, lower)


FIGURES: dict[str, Act] = {
    "walking to the right": _walk(0.3, 90, 1.5, 28),
    "walking to the left": _walk(-0.3, -90, 1.5, 28),
    "running": _walk(0.36, 90, 2.0, 42),
    "waving": _wave,
    "swinging the arms round": _windmill,
    "jumping jack": _jack,
    "kicking": _kick,
    "squatting": _squat,
    "turning": _turning,
    "marching": _march,
    "hopping": _hop,
    "lunging": _lunge,
}
