"""Names and amounts of presets."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from recapture.conf.section import Section

StillPreset = Literal["static"]
AnglePreset = Literal[
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "orbit_left",
    "orbit_right",
    "orbit_up",
    "orbit_down",
    "arc_left",
    "arc_right",
    "arc_up",
    "arc_down",
]
DistancePreset = Literal[
    "left",
    "right",
    "up",
    "down",
    "zoom_in",
    "zoom_out",
    "dolly_in",
    "dolly_out",
    "dolly_zoom_in",
    "dolly_zoom_out",
    "crane_up",
    "crane_down",
    "spiral",
]
AMOUNTS: dict[str, str | None] = {  # preset -> the setting that holds its amount
    **dict.fromkeys(get_args(StillPreset)),
    **dict.fromkeys(get_args(AnglePreset), "angle_degrees"),
    **dict.fromkeys(get_args(DistancePreset), "distance"),
}
DEFAULTS = {"angle_degrees": 20.0, "distance": 0.2}
LARGEST = {"angle_degrees": 90.0, "distance": 0.9}  # of amounts that are found
APPROACHES = {"dolly_in": 1, "dolly_zoom_in": 1, "dolly_out": -1, "dolly_zoom_out": -1}
TURNS = ("pan_left", "pan_right", "tilt_up", "tilt_down")  # on the spot
AUTO = "auto"


class BoundConfig(Section):
    """How far an amount of auto may go."""

    hole_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Largest share of holes that the move makes in any frame of the new video.",
    )
    stretch: float = Field(
        4.0,
        gt=1,
        description="Largest magnification (in area) of the surfaces of any frame, over 95 % of its pixels.",
    )


def amount_problem(preset: str | None, given: dict[str, float]) -> str | None:
    """Return what is wrong with a preset's amounts (setting -> value, of those that are set)."""
    if given and preset is None:
        return f"{next(iter(given))} is the amount of a preset, and none is given; set preset"
    wanted = AMOUNTS[preset] if preset is not None else None
    for name in given:
        if name != wanted:
            return f"preset {preset!r} takes {wanted or 'no amount'}, not {name}; " + (
                f"write {wanted} instead" if wanted else f"leave out {name}"
            )
    distance = given.get("distance")
    if preset is None or distance is None:
        return None
    if distance * APPROACHES.get(preset, 0) >= 1:
        return f"preset {preset!r} with distance {distance:g} would pass the pivot; stay below 1"
    if preset in ("zoom_in", "zoom_out") and distance <= -1:
        return f"preset {preset!r} takes a distance above -1, not {distance:g}"
    return None
