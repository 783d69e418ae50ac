"""DyCheck's iPhone sequences (arXiv 2210.13445): SEQUENCE/{camera,rgb/1x,depth/1x}/C_NNNNN, camera C, time N.

Positions and depth are in metres, depth is z-depth with 0 for unknown; scene.json's scale and centre are for
normalised coordinates and not needed. covisible/*/val marks what the moving camera saw of another's view.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from recapture.datasets.cameras.cameras import read_bytes
from recapture.datasets.cameras.dycheck import read_dycheck_frames
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.natural_order import natural
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import (
    joined,
    name_of,
    read_flat,
    read_mask,
    stem_of,
)
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, Maps, View

_CAMERA = "#camera="  # ends a clip's URI: all views of a sequence are in one folder
_RATE = Fraction(30)  # if extra.json does not state it


def _is_sequence(names: frozenset[str]) -> bool:
    return {"camera", "rgb"} <= names


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, sequence in tree.below(_is_sequence):
        files = [name for name in tree.listed(f"{sequence}/camera") if name.endswith(".json")]
        for camera in sorted({name.split("_")[0] for name in files}, key=natural):
            yield joined(inside or name_of(uri), f"camera{camera}"), f"{sequence}{_CAMERA}{camera}"


def _load(uri: str, asked: Asked) -> View:
    sequence, _, camera = uri.rpartition(_CAMERA)
    factors = [name for name in asked.listed(f"{sequence}/rgb") if name.endswith("x")]
    if not factors:
        raise ClipError(f"{sequence!r} has no pictures in rgb/1x or rgb/2x; unpack the whole sequence")
    folder = f"{sequence}/rgb/{factors[0]}"
    names = [name for name in asked.listed(folder, f"{camera}_") if name.split("_")[0] == camera]
    stems = [stem_of(name) for name in names]
    files = [f"{sequence}/camera/{stem}.json" for stem in stems]
    return View(
        pictures=tuple(f"{folder}/{name}" for name in names),
        fps=_rate(sequence, asked),
        cameras=read_dycheck_frames(files, f"{sequence}/camera"),
        depth=_maps(asked, sequence, "depth", stems, lambda _, file, limit: read_flat(file, limit)),
        covisible=_maps(asked, sequence, "covisible", stems, read_mask),
        moments=tuple(int(stem.split("_")[1]) for stem in stems),
        group=sequence,
        described_by=tuple(files),
    )


def _maps(
    asked: Asked, sequence: str, kind: str, stems: list[str], read: Callable[[int, str, int], np.ndarray]
) -> Maps | None:
    """Return the finest maps of a kind that exist for every frame, or None."""
    factors = [
        f"{sequence}/{kind}/{name}" for name in asked.listed(f"{sequence}/{kind}") if name.endswith("x")
    ]
    for folder in (place for factor in factors for place in (factor, f"{factor}/val")):
        names = {stem_of(name): name for name in asked.listed(folder, _shared(stems))}
        if stems and all(stem in names for stem in stems):
            return Maps(tuple(f"{folder}/{names[stem]}" for stem in stems), read)
    return None


def _shared(stems: list[str]) -> str:
    return f"{stems[0].split('_')[0]}_" if stems else ""


def _rate(sequence: str, asked: Asked) -> Fraction:
    uri = asked.named(sequence, "extra.json")
    if uri is None:
        return _RATE
    try:
        fps = Fraction(str(json.loads(read_bytes(uri)).get("fps", _RATE)))
    except (ValueError, AttributeError) as error:
        raise ClipError(f"extra.json of {sequence!r} cannot be read ({error}); replace it") from error
    if not 0 < fps <= 1000:
        raise ClipError(f"extra.json of {sequence!r} states {fps} frames per second; correct it")
    return fps


DYCHECK = Layout("dycheck", _is_sequence, _find, _load)
