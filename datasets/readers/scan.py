"""Scan a dataset for its clips, and open one of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import fsspec

from recapture.conf.section import SAMPLE
from recapture.datasets.clips.clip import Clip, ClipError, ClipSource, LayoutKind, Rejected
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers import folder, scenes
from recapture.datasets.readers.index import SUFFIXES, scan_index
from recapture.datasets.readers.layouts import LAYOUTS, recognised
from recapture.datasets.readers.views import ViewSource, read_layout

BUNDLED = Path(__file__).parents[1] / "sample"
DatasetKind = Literal["folder", "scenes", "index", "auto"] | LayoutKind

_SOURCES: dict[str, Callable[[Clip], ClipSource]] = {
    "video": folder.FileSource,
    "frames": folder.FileSource,
    "scene": scenes.SceneSource,
    **{kind: partial(ViewSource, load=layout.load) for kind, layout in LAYOUTS.items()},
}


def scan(dataset_uri: str, kind: DatasetKind = "auto") -> tuple[list[Clip], list[Rejected]]:
    """Return every clip of a dataset, sorted by id, and every entry that is not a clip, with the reason.

    dataset_uri: a path, an fsspec URL, scenes://... or sample:// (the clips that ship with the package).
    kind: folder (a tree, or one video file), scenes (a scenes:// URI, a YAML or JSON file), index (Parquet or
    CSV), or a published layout; auto decides by the URI and by the names in a folder. One bad file never
    stops a scan. Of clips whose ids are equal, or would be equal on a case-insensitive disk, the first by id
    and uri is kept.
    Raises: OSError if there is nothing at dataset_uri, ClipError if it is not what `kind` says.
    """
    uri = located(dataset_uri)
    found = list(_reader(uri, kind)(uri))
    rejected = [item for item in found if isinstance(item, Rejected)]
    clips: dict[str, Clip] = {}
    for clip in sorted(
        (item for item in found if isinstance(item, Clip)), key=lambda item: (item.id, item.uri)
    ):
        first = clips.setdefault(unicodedata.normalize("NFC", clip.id).casefold(), clip)
        if first is not clip:
            differs = (
                "has the same id"
                if first.id == clip.id
                else f"has an id that differs only by case or Unicode form ({first.id!r})"
            )
            reason = ClipError(f"{first.uri!r} {differs}; rename one of them")
            rejected.append(Rejected.because(clip.id, clip.uri, reason))
    return list(clips.values()), sorted(rejected, key=lambda item: item.id)


def located(dataset_uri: str) -> str:
    """Return where a dataset is stored: the bundled sample's folder for sample://, else the URI itself."""
    return str(BUNDLED) if dataset_uri == SAMPLE else dataset_uri


def open_clip(clip: Clip) -> ClipSource:
    """Open a clip for reading; raises ClipError for an unknown kind."""
    if clip.kind not in _SOURCES:
        raise ClipError(f"clip {clip.id!r}: kind {clip.kind!r} is unknown; use {', '.join(_SOURCES)}")
    return _SOURCES[clip.kind](clip)


def _checked_index(uri: str) -> Iterator[Clip | Rejected]:
    for clip in scan_index(uri):
        try:
            if isinstance(clip, Clip) and clip.kind not in LAYOUTS:
                open_clip(clip)
        except ValueError as error:
            yield Rejected.because(clip.id, clip.uri, error)
        else:
            yield clip


def _scenes(uri: str) -> Iterator[Clip | Rejected]:
    return scenes.read_scenes(uri) if uri.startswith(scenes.SCHEME) else scenes.read_scenes_file(uri)


def _reader(uri: str, kind: DatasetKind) -> Callable[[str], Iterator[Clip | Rejected]]:
    readers = {"folder": folder.read_folder, "scenes": _scenes, "index": _checked_index}
    readers |= {name: partial(read_layout, layout) for name, layout in LAYOUTS.items()}
    if kind != "auto":
        if kind not in readers:
            raise ClipError(f"dataset kind {kind!r} is unknown; use auto, {', '.join(readers)}")
        return readers[kind]
    if uri.startswith(scenes.SCHEME):
        return _scenes
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isdir(path):
        layout = recognised(uri.rstrip("/"))
        return folder.read_folder if layout is None else partial(read_layout, layout)
    if not fs.exists(path):
        raise FileNotFoundError(f"{uri!r} does not exist")
    suffix = "." + path.rsplit(".", 1)[-1].lower()
    if path.endswith("/transforms.json"):
        return partial(read_layout, LAYOUTS["nerfstudio"])
    if suffix in (".yaml", ".yml", ".json"):
        return _scenes
    if suffix in SUFFIXES:
        return _checked_index
    if suffix in VIDEO_SUFFIXES:
        return folder.read_file
    raise ClipError(
        f"{uri!r} is not a dataset: give a folder, video, scenes.yaml, index (.parquet, .csv) or scenes://"
    )
