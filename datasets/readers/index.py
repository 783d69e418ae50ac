"""Read and write an index of clips: one Parquet or CSV file, either complete or a plain list of files.

write_index writes a complete index. A list needs a column `uri` (video files or folders of frames, relative
to the list) and may have id, caption, depth_uri, cameras_uri, known_uri, objects_uri; everything else is read
from the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, fields
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recapture.datasets.clips.clip import Clip, ClipError, Rejected, validate_clip_id
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers import folder
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.unread import Found

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
        pa.field("objects_uri", pa.string()),
        pa.field("group", pa.string()),
    ],
    metadata={"recapture.clips": "1"},
)
_REQUIRED = {field.name for field in fields(Clip) if field.default is MISSING}
_LISTED = ("caption", "depth_uri", "cameras_uri", "known_uri", "objects_uri")
SUFFIXES = (".parquet", ".pq", ".csv")


def write_index(uri: str, clips: Iterable[Clip]) -> None:
    """Write clips as one file with the columns of INDEX_SCHEMA: CSV if uri ends in .csv, else Parquet."""
    table = pa.Table.from_pylist([asdict(clip) for clip in clips], schema=INDEX_SCHEMA)
    with fsspec.open(uri, "wb") as stream:
        if uri.lower().endswith(".csv"):
            pa.csv.write_csv(table, stream)
        else:
            pq.write_table(table, stream)


def read_index(uri: str) -> list[Clip]:
    """Read the clips of a complete index as they were written.

    Raises: FileNotFoundError; ClipError for a file that is not an index.
    """
    return [_clip(row) for row in _rows(uri, complete=True)]


def scan_index(uri: str, folders: Folders) -> Iterator[Found]:
    """Yield every clip of an index or a list of files, and a rejection for each row that cannot be used.

    Raises: FileNotFoundError; ClipError for a file that is neither.
    """
    base = uri.rsplit("/", 1)[0] if "/" in uri else "."
    for number, row in enumerate(_rows(uri, complete=False)):
        if row.keys() >= _REQUIRED:
            yield _checked(row)
        elif not row["uri"]:
            yield Rejected.because(f"row {number}", uri, ClipError("its uri is empty; give one"))
        else:
            given = {name: _resolved(base, row, name) for name in _LISTED}
            yield folder.read_listed(_resolved(base, row, "uri") or "", _id(row), given, folders)


def _checked(row: dict[str, Any]) -> Clip | Rejected:
    try:
        clip = _clip(row)
        validate_clip_id(clip.id)
        return clip
    except ValueError as error:
        return Rejected.because(str(row["id"]), str(row["uri"]), error)


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{field.name: row[field.name] for field in fields(Clip)})


def _rows(uri: str, *, complete: bool) -> list[dict[str, Any]]:
    try:
        with fsspec.open(uri, "rb") as stream:
            table = _csv(stream) if uri.lower().endswith(".csv") else pq.read_table(stream)
        names = set(table.column_names)
        if names >= _REQUIRED:
            for field in INDEX_SCHEMA:
                if field.name not in names:
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            table = table.select(INDEX_SCHEMA.names)
            caption = table.column("caption").fill_null("")
            table = table.set_column(INDEX_SCHEMA.get_field_index("caption"), "caption", caption)
            return table.cast(INDEX_SCHEMA).to_pylist()
        if complete or "uri" not in names:
            raise KeyError(f"it lacks {', '.join(sorted(_REQUIRED - names))}")
        return [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
        reason = error.args[0] if error.args else error
        raise ClipError(
            f"index {uri!r} cannot be read ({reason}); write it again with write_index, or give a column uri"
        ) from error


def _csv(stream: Any) -> pa.Table:
    types = {field.name: field.type for field in INDEX_SCHEMA}
    return pa.csv.read_csv(
        stream,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip()


def _resolved(base: str, row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    if not value or name == "caption" or "://" in value or value.startswith("/"):
        return value
    return f"{base}/{value}"


def _id(row: dict[str, Any]) -> str:
    """Return the id that a list gives, else the path as written there, without suffix."""
    if row.get("id"):
        return str(row["id"])
    path = str(row["uri"]).split("://")[-1].strip("/")
    return path.rsplit(".", 1)[0] if path.lower().endswith(VIDEO_SUFFIXES) else path
