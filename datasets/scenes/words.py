"""The vocabulary of captions of procedural scenes: colours, bodies, their actions, and the room."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from recapture.datasets.scenes.layout import KINDS, PATTERNS, Vector

# hue (degrees), saturation, value
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (2, 0.85, 0.85),
    "orange": (26, 0.90, 0.95),
    "yellow": (50, 0.85, 0.95),
    "lime": (82, 0.75, 0.85),
    "green": (130, 0.70, 0.65),
    "turquoise": (172, 0.75, 0.80),
    "sky blue": (200, 0.65, 0.92),
    "blue": (224, 0.80, 0.85),
    "violet": (265, 0.65, 0.80),
    "magenta": (305, 0.70, 0.80),
    "pink": (338, 0.50, 0.95),
    "brown": (24, 0.60, 0.50),
    "white": (40, 0.06, 0.95),
    "black": (230, 0.20, 0.18),
}
WALL_COLOURS = (
    "red",
    "orange",
    "yellow",
    "lime",
    "green",
    "turquoise",
    "sky blue",
    "blue",
    "violet",
    "pink",
    "brown",
)
_FLOORS = {
    "checkered": "tiled",
    "striped": "planked",
    "marbled": "stone",
    "dotted": "dotted",
    "bricked": "paved",
}
NOUNS = (*KINDS, "pole", "slab")
ACTIONS = (
    "hopping",
    "tumbling in the air",
    "gliding to the right",
    "gliding to the left",
    "moving away",
    "coming closer",
    "turning",
)
WORLD_NOUNS = (
    "figure",
    "animal",
    "table",
    "chair",
    "shelf",
    "sofa",
    "lamp",
    "lamppost",
    "tree",
    "plant",
    "fence",
    "line",
    "car",
    "bush",
    "rock",
    "house",
)
WORLD_ACTIONS = (
    "walking to the right",
    "walking to the left",
    "walking away",
    "walking closer",
    "walking in a circle",
    "waving",
    "standing",
    "driving to the right",
    "driving to the left",
    "swaying in the wind",
)
GROUNDS = ("grass", "gravel", "paving", "sand", "earth", "tiles")
SKIES = ("clear", "cloudy", "grey", "evening")
WORLD_CAMERA_MOTIONS = (
    "the camera stands still",
    "the camera shakes",
    "the camera pans to the right",
    "the camera pans to the left",
    "the camera tilts up",
    "the camera tilts down",
    "the camera drifts to the right",
    "the camera drifts to the left",
    "the camera moves forward",
    "the camera moves back",
    "the camera rises",
    "the camera zooms in",
    "the camera zooms out",
)
CAMERA_MOTIONS = ("the camera sways gently", "the camera moves")


def action(velocity: Vector, hops: bool, tumbling: bool) -> str:
    """Return what a body does, from its motion at the start."""
    if hops:
        return "hopping"
    across, _, away = velocity
    if tumbling:
        return "tumbling in the air"
    if across == away == 0:
        return "turning"
    if abs(across) > abs(away):
        return "gliding to the right" if across > 0 else "gliding to the left"
    return "moving away" if away > 0 else "coming closer"


def phrase(looks: str, noun: str, doing: str) -> str:
    """Return the phrase for one body: article, look, noun and action."""
    return f"{'an' if looks[0] in 'aeiou' else 'a'} {looks} {noun} {doing}"


def caption_of(phrases: Sequence[str], back: str, floor: str, camera: str = "") -> str:
    """Return the caption of a scene: bodies, patterns of back wall and floor, and camera motion."""
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    floor = _FLOORS.get(floor, floor)
    moves = f"; {camera}" if camera else ""
    return f"{listed}, in a room with a {back} back wall and a {floor} floor{moves}"


def outdoor_caption(phrases: Sequence[str], ground: str, sky: str, camera: str) -> str:
    """Return the caption of a scene outdoors: bodies, ground, sky and camera motion."""
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return f"{listed}, on {ground} under a {sky} sky; {camera}"


def caption_words(varieties: Collection[str] = ("classic", "wide", "world")) -> list[str]:
    """Return every word that the caption of a sampled scene of these varieties can contain, sorted.

    Words are separated by spaces; "," and ";" are words of their own.
    """
    frame = caption_of([phrase("orange", "box", "and"), "a"], "a", "a", "a")
    parts = [frame, *COLOURS, *PATTERNS, *_FLOORS.values(), *NOUNS, *ACTIONS, *CAMERA_MOTIONS, ",", ";"]
    if "world" in varieties:
        parts += [outdoor_caption(["a"], "a", "a", "a"), *WORLD_NOUNS, *WORLD_ACTIONS, *WORLD_CAMERA_MOTIONS]
        parts += [*GROUNDS, *SKIES]
    return sorted({word for part in parts for word in split_words(part)})


def split_words(caption: str) -> list[str]:
    """Return a caption's words, with "," and ";" as words of their own."""
    return caption.replace(",", " , ").replace(";", " ; ").split()
