"""A dataset as clips: scan it, keep its index in Parquet, open a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from recapture.datasets.clip_record import (
    Clip,
    ClipError,
    ClipSource,
    Rejected,
    validate_clip_id,
)
from recapture.datasets.readers import folder, scenes
from recapture.datasets.video import VIDEO_SUFFIXES

__all__ = [
    "INDEX_SCHEMA",
    "Clip",
    "ClipError",
    "ClipSource",
    "Rejected",
    "open_clip",
    "read_index",
    "scan",
    "validate_clip_id",
    "write_index",
]

DatasetKind = Literal["folder", "scenes", "index", "auto"]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("fps", pa.string(), nullable=False),
        pa.field("frames", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("duration", pa.float64(), nullable=False),
        pa.field("audio", pa.bool_(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("depth_uri", pa.string()),
        pa.field("cameras_uri", pa.string()),
        pa.field("known_uri", pa.string()),
    ],
    metadata={"recapture.clips": "1"},
)

_SOURCES: dict[str, Callable[[Clip], ClipSource]] = {
    "video": folder.FileSource,
    "frames": folder.FileSource,
    "scene": scenes.SceneSource,
}


def scan(dataset_uri: str, kind: DatasetKind = "auto") -> tuple[list[Clip], list[Rejected]]:
    """Find every clip of a dataset, sorted by id, and everything that is none, with the reason.

    kind: folder (a tree, or one video file), scenes (a scenes:// URI, a YAML or JSON file), index (Parquet);
    auto decides by the URI. One bad file never stops a scan; of clips with equal ids the first one stays.
    Raises: OSError when there is nothing at dataset_uri, ClipError when it is not what `kind` says.
    """
    reader = _reader(dataset_uri, kind)
    clips: dict[str, Clip] = {}
    rejected = []
    for found in reader(dataset_uri):
        if isinstance(found, Rejected):
            rejected.append(found)
        elif found.id in clips:
            reason = f"{clips[found.id].uri!r} has the same id; rename one of them"
            rejected.append(Rejected.because(found.id, found.uri, ClipError(reason)))
        else:
            clips[found.id] = found
    return [clips[clip_id] for clip_id in sorted(clips)], sorted(rejected, key=lambda item: item.id)


def open_clip(clip: Clip) -> ClipSource:
    """Open a clip for reading; raises ClipError for a kind that is not known here."""
    if clip.kind not in _SOURCES:
        raise ClipError(f"clip {clip.id!r}: kind {clip.kind!r} is unknown; use {', '.join(_SOURCES)}")
    return _SOURCES[clip.kind](clip)


def write_index(uri: str, clips: Iterable[Clip]) -> None:
    """Write clips as one Parquet file with INDEX_SCHEMA."""
    table = pa.Table.from_pylist([asdict(clip) for clip in clips], schema=INDEX_SCHEMA)
    with fsspec.open(uri, "wb") as stream:
        pq.write_table(table, stream)


def read_index(uri: str) -> list[Clip]:
    """Read the clips of an index as they were written.

    Raises: FileNotFoundError; ClipError for a file that is no index.
    """
    try:
        with fsspec.open(uri, "rb") as stream:
            table = pq.read_table(stream)
        table = table.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
        raise ClipError(f"index {uri!r} cannot be read ({error}); write it again with write_index") from error
    names = [field.name for field in fields(Clip)]
    return [Clip(**{name: row[name] for name in names}) for row in table.to_pylist()]


def _checked_index(uri: str) -> Iterator[Clip | Rejected]:
    for clip in read_index(uri):
        try:
            validate_clip_id(clip.id)
            open_clip(clip)
        except ValueError as error:
            yield Rejected.because(clip.id, clip.uri, error)
        else:
            yield clip


def _scenes(uri: str) -> Iterator[Clip | Rejected]:
    return scenes.read_scenes(uri) if uri.startswith(scenes.SCHEME) else scenes.read_scenes_file(uri)


def _reader(uri: str, kind: DatasetKind) -> Callable[[str], Iterator[Clip | Rejected]]:
    readers = {"folder": folder.read_folder, "scenes": _scenes, "index": _checked_index}
    if kind != "auto":
        if kind not in readers:
            raise ClipError(f"dataset kind {kind!r} is unknown; use auto, {', '.join(readers)}")
        return readers[kind]
    if uri.startswith(scenes.SCHEME):
        return _scenes
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isdir(path):
        return folder.read_folder
    if not fs.exists(path):
        raise FileNotFoundError(f"{uri!r} does not exist")
    suffix = "." + path.rsplit(".", 1)[-1].lower()
    if suffix in (".yaml", ".yml", ".json"):
        return _scenes
    if suffix in (".parquet", ".pq"):
        return _checked_index
    if suffix in VIDEO_SUFFIXES:
        return folder.read_file
    raise ClipError(
        f"{uri!r} is no dataset: give a folder, a video, scenes.yaml, an index .parquet or scenes://"
    )
