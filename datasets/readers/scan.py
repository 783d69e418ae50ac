"""Scan a dataset for its clips, and open one of them."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import fsspec

from recapture.conf.section import SAMPLE
from recapture.datasets.clips.clip import Clip, ClipError, ClipSource, LayoutKind, Rejected
from recapture.datasets.clips.share import Share
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers import folder, scenes
from recapture.datasets.readers.file_source import FileSource
from recapture.datasets.readers.folders import Folders, is_below, real_place
from recapture.datasets.readers.index import SUFFIXES, scan_index
from recapture.datasets.readers.layouts import LAYOUTS, recognised
from recapture.datasets.readers.motion_scenes import SCHEME as MOTION_SCHEME
from recapture.datasets.readers.motion_scenes import motion_spec, read_motion_scenes
from recapture.datasets.readers.read_all import read_all
from recapture.datasets.readers.scan_memory import open_memory
from recapture.datasets.readers.unread import Found
from recapture.datasets.readers.views import ViewSource, read_layout
from recapture.datasets.readers.walk import LeftOut

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parents[1] / "sample"
DatasetKind = Literal["folder", "scenes", "index", "auto"] | LayoutKind


def _open_scene(clip: Clip) -> ClipSource:
    spec = motion_spec(clip.uri) if clip.uri.startswith(MOTION_SCHEME) else scenes.scene_spec(clip.uri)
    return scenes.SceneSource(clip, spec)


_SOURCES: dict[str, Callable[[Clip], ClipSource]] = {
    "video": FileSource,
    "frames": FileSource,
    "scene": _open_scene,
    **{kind: partial(ViewSource, load=layout.load) for kind, layout in LAYOUTS.items()},
}


def scan(
    dataset_uri: str,
    kind: DatasetKind = "auto",
    *,
    store: str | None = None,
    own: Sequence[str] = (),
    share: Share | None = None,
) -> tuple[list[Clip], list[Rejected]]:
    """Return every clip of a dataset, sorted by id, and every entry that is not a clip, with the reason.

    dataset_uri: a path, an fsspec URL, scenes://..., motionscenes://... or sample:// (the clips that ship
    with the package).
    kind: folder (a tree, or one video file), scenes (a scenes:// URI, a YAML or JSON file), index (Parquet or
    CSV), or a published layout; auto decides by the URI and by the names in a folder. One bad file never
    stops a scan. Of clips whose ids are equal, or would be equal on a case-insensitive disk, the first by id
    and uri is kept.
    store: where what the scan finds is remembered; unchanged files are not read by the next one.
    own: folders that the job writes to, which are left out, as are those that bear the product's marker.
    share: return only what is in it, and read no other clip; shares have memories of their own.
    Raises: OSError if there is nothing at dataset_uri, ClipError if it is not what `kind` says.
    """
    uri = located(dataset_uri)
    if is_computed(uri):
        found = list(_of_share(_reader(uri, kind, None, own), share))
    else:
        folders = Folders(uri)
        _refuse_own(folders.root, own)
        remembered = kind if share is None else f"{kind} {share.folder}"
        memory = None if store is None else open_memory(store, folders.root, remembered)
        listed = _of_share(_reader(uri, kind, folders, own), share)
        found = list(_of_share(read_all(listed, folders, memory), share))
    rejected = [item for item in found if isinstance(item, Rejected)]
    for item in found:
        if isinstance(item, LeftOut):
            logger.warning("%s %s and is left out of the dataset", item.uri, item.why)
    clips = _without_twins([item for item in found if isinstance(item, Clip)], rejected)
    return clips, sorted(rejected, key=lambda item: item.id)


def _of_share(found: Iterable[Found], share: Share | None) -> Iterator[Found]:
    """Yield what belongs to a share; everything if there is none."""
    for item in found:
        if share is None or isinstance(item, LeftOut) or share.holds(item.id):
            yield item


def _without_twins(found: list[Clip], rejected: list[Rejected]) -> list[Clip]:
    """Return the clips with ids of their own, sorted; the others are added to `rejected`."""
    clips: dict[str, Clip] = {}
    for clip in sorted(found, key=lambda item: (item.id, item.uri)):
        first = clips.setdefault(unicodedata.normalize("NFC", clip.id).casefold(), clip)
        if first is not clip:
            differs = (
                "has the same id"
                if first.id == clip.id
                else f"has an id that differs only by case or Unicode form ({first.id!r})"
            )
            reason = ClipError(f"{first.uri!r} {differs}; rename one of them")
            rejected.append(Rejected.because(clip.id, clip.uri, reason))
    return list(clips.values())


def _refuse_own(root: str, own: Sequence[str]) -> None:
    """Raise ClipError for a dataset inside a folder that its own job writes to."""
    for place in own:
        if is_below(real_place(root), real_place(place)):
            raise ClipError(
                f"{root!r} is where this job writes to ({place!r}), so every run would add to its dataset; "
                "choose another folder for store, outputs and state, or another dataset.name"
            )


def located(dataset_uri: str) -> str:
    """Return where a dataset is stored: the bundled sample's folder for sample://, else the URI itself."""
    return str(BUNDLED) if dataset_uri == SAMPLE else dataset_uri


def is_computed(uri: str) -> bool:
    """Return whether a dataset is computed from its URI, so that there are no files of it."""
    return uri.startswith((scenes.SCHEME, MOTION_SCHEME))


def open_clip(clip: Clip) -> ClipSource:
    """Open a clip for reading; raises ClipError for an unknown kind."""
    if clip.kind not in _SOURCES:
        raise ClipError(f"clip {clip.id!r}: kind {clip.kind!r} is unknown; use {', '.join(_SOURCES)}")
    return _SOURCES[clip.kind](clip)


def _checked_index(uri: str, folders: Folders) -> Iterator[Found]:
    for clip in scan_index(uri, folders):
        try:
            if isinstance(clip, Clip) and clip.kind not in LAYOUTS:
                open_clip(clip)
            yield clip
        except ValueError as error:
            assert isinstance(clip, Clip)
            yield Rejected.because(clip.id, clip.uri, error)


def _reader(uri: str, kind: DatasetKind, folders: Folders | None, own: Sequence[str]) -> Iterator[Found]:
    if folders is None:
        if kind not in ("auto", "scenes"):
            raise ClipError(f"{uri!r} is of kind scenes, not {kind!r}; correct dataset.kind")
        return read_motion_scenes(uri) if uri.startswith(MOTION_SCHEME) else scenes.read_scenes(uri)
    chosen = _recognised(uri, folders) if kind == "auto" else kind
    if chosen in LAYOUTS:
        return read_layout(LAYOUTS[chosen], uri, folders, own)
    readers: dict[str, Callable[[], Iterator[Found]]] = {
        "folder": lambda: folder.read_folder(uri, folders, own),
        "video": lambda: folder.read_file(folders),
        "scenes": lambda: scenes.read_scenes_file(uri),
        "index": lambda: _checked_index(uri, folders),
    }
    if chosen not in readers:
        known = ", ".join((*(name for name in readers if name != "video"), *LAYOUTS))
        raise ClipError(f"dataset kind {kind!r} is unknown; use auto, {known}")
    return readers[chosen]()


def _recognised(uri: str, folders: Folders) -> str:
    """Return the kind of a dataset, by what its URI leads to and by the names in a folder."""
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isdir(path):
        layout = recognised(folders)
        return "folder" if layout is None else layout.kind
    if folders.entry(folders.root) is None and not fs.exists(path):
        raise FileNotFoundError(f"{uri!r} does not exist")
    suffix = "." + path.rsplit(".", 1)[-1].lower()
    if path.endswith("/transforms.json"):
        return "nerfstudio"
    if suffix in (".yaml", ".yml", ".json"):
        return "scenes"
    if suffix in SUFFIXES:
        return "index"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    raise ClipError(
        f"{uri!r} is not a dataset: give a folder, video, scenes.yaml, index (.parquet, .csv) or scenes://"
    )
