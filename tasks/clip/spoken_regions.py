"""A caption in the words of the procedural scenes, spoken from what was measured on a clip's pictures."""

from __future__ import annotations

from recapture.datasets.scenes.words import CAMERA_MOTIONS, COLOURS, caption_of, phrase
from recapture.models.captions.regions import Region, Seen

TEXTURED = 0.06  # contrast of small patches above which a wall counts as photographed, not plain
PALE, DARK = 0.25, 0.3  # saturation below which a colour is white or black, and the value between these


def spoken(seen: Seen) -> str:
    """Return the caption of what was seen; empty if no body moves."""
    if not seen.regions:
        return ""
    phrases = [phrase(colour_name(one.colour), noun(one), doing(one)) for one in seen.regions]
    back, floor = ("photographed" if one > TEXTURED else "plain" for one in seen.textures)
    return caption_of(phrases, back, floor, CAMERA_MOTIONS[1] if seen.camera_moves else "")


def colour_name(colour: tuple[float, float, float]) -> str:
    """Return the name of COLOURS nearest to hue in degrees, saturation and value 0 to 1."""
    hue, saturation, value = colour
    if value < DARK and saturation < 0.6:
        return "black"
    if saturation < PALE:
        return "white" if value > (DARK + 1) / 2 else "black"

    def away(name: str) -> float:
        other, strength, light = COLOURS[name]
        turn = abs((hue - other + 180) % 360 - 180) / 180
        return (6 * turn) ** 2 + (saturation - strength) ** 2 + (value - light) ** 2

    return min((name for name in COLOURS if name not in ("white", "black")), key=away)


def noun(region: Region) -> str:
    """Return what an outline looks like: a tall one a pole, a full one a box, any other a sphere."""
    if region.aspect > 2.5:
        return "pole"
    if region.aspect > 1.4:
        return "cylinder"
    return "box" if region.fill > 0.88 else "sphere"


def doing(region: Region) -> str:
    """Return what a body does, from its motion in the picture."""
    sideways, growing = abs(region.across), abs(region.growth) * region.share**0.5
    if abs(region.down) > max(sideways, growing):
        return "hopping"
    if growing > sideways:
        return "coming closer" if region.growth > 0 else "moving away"
    return "gliding to the right" if region.across > 0 else "gliding to the left"


def chosen_pairs(frames: int, most: int = 6) -> list[tuple[int, int]]:
    """Return the pairs of neighbouring frames that are looked at, spread over a clip; none of one frame."""
    if frames < 2:
        return []
    count = min(most, frames - 1)
    places = {round(number * (frames - 2) / max(1, count - 1)) for number in range(count)}
    return [(place, place + 1) for place in sorted(places)]
