"""An index, complete or by hand, and ids that would be one on some disks."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.index import INDEX_SCHEMA, read_index, write_index
from recapture.datasets.readers.scan import open_clip, scan


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(str(path), [np.zeros((16, 24, 3), np.uint8)] * 3, Fraction(5))
    return path


@pytest.mark.parametrize("name", ["index.csv", "index.parquet"])
@pytest.mark.parametrize("root", ["local", "memory"])
def test_a_complete_index_comes_back_as_it_was(tmp_path: Path, name: str, root: str) -> None:
    video(tmp_path / "data" / "a.mp4")
    (tmp_path / "data" / "a.txt").write_text('He said "no", twice')
    np.savez(
        tmp_path / "data" / "a.objects.npz", objects=np.arange(3)[:, None, None] * np.ones((3, 16, 24), int)
    )
    clips = [*scan(str(tmp_path / "data"))[0], *scan("scenes://?count=2")[0]]
    clips.append(replace(clips[0], id="view", group="scene 1", caption=""))
    uri = str(tmp_path / name) if root == "local" else f"memory://indices/{name}"
    write_index(uri, clips)
    assert read_index(uri) == clips
    found, rejected = scan(uri)
    assert found == sorted(clips, key=lambda clip: clip.id) and not rejected
    objects = open_clip(found[0]).objects(1, 3)
    assert objects is not None and objects[:, 0, 0].tolist() == [1, 2]


def test_an_index_from_before_a_column_came_is_still_read(tmp_path: Path) -> None:
    (clip,) = scan("scenes://?count=1")[0]
    write_index(str(tmp_path / "new.parquet"), [clip])
    old = pq.read_table(tmp_path / "new.parquet").drop_columns(["objects_uri", "group"])
    pq.write_table(old, tmp_path / "old.parquet")
    assert read_index(str(tmp_path / "old.parquet")) == [clip]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_by_hand_needs_uris_alone_and_a_bad_row_stops_no_other(tmp_path: Path, suffix: str) -> None:
    video(tmp_path / "set" / "a.mp4")
    video(tmp_path / "elsewhere" / "b.mp4")
    (tmp_path / "set" / "walk").mkdir()
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "set" / "walk" / "0.png")
    np.savez(tmp_path / "set" / "far.npz", depth=np.full((3, 16, 24), 7.0))
    (tmp_path / "set" / "b.txt").write_text("beside the wrong one")
    (tmp_path / "elsewhere" / "b.txt").write_text("beside it")
    rows = [
        {"uri": "a.mp4", "id": "first", "caption": "Given, here", "depth_uri": "far.npz"},
        {"uri": str(tmp_path / "elsewhere" / "b.mp4"), "id": "second", "caption": None, "depth_uri": None},
        {"uri": "walk", "id": None, "caption": None, "depth_uri": None},
        {"uri": "lost.mp4", "id": None, "caption": None, "depth_uri": None},
        {"uri": "a.mp4", "id": "../out", "caption": None, "depth_uri": None},
        {"uri": None, "id": "none", "caption": None, "depth_uri": None},
    ]
    uri = tmp_path / "set" / f"list{suffix}"
    table = pa.Table.from_pylist(rows)
    if suffix == ".csv":
        pa.csv.write_csv(table, uri)
    else:
        pq.write_table(table, uri)
    clips, rejected = scan(str(uri))
    assert [(clip.id, clip.kind, clip.caption) for clip in clips] == [
        ("first", "video", "Given, here"),
        ("second", "video", "beside it"),
        ("walk", "frames", ""),
    ]
    depth = open_clip(clips[0]).depth(1)
    assert depth is not None and (depth == 7).all()
    reasons = {item.id: item.error for item in rejected}
    assert set(reasons) == {"lost", "../out", "row 5"}
    assert "lost.mp4' does not exist; correct the list" in reasons["lost"]
    assert "'..'" in reasons["../out"] and "its uri is empty; give one" in reasons["row 5"]


@pytest.mark.parametrize("name", ["index.csv", "index.parquet"])
def test_a_file_that_is_no_index_is_refused_with_what_it_lacks(tmp_path: Path, name: str) -> None:
    table = pa.table({"id": ["a"], "path": ["a.mp4"]})
    pa.csv.write_csv(table, tmp_path / "index.csv")
    pq.write_table(table, tmp_path / "index.parquet")
    with pytest.raises(ClipError, match=rf"{name}' cannot be read \(it lacks .*uri.*give a column uri"):
        scan(str(tmp_path / name))
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ClipError, match=f"{name}' cannot be read"):
        scan(str(tmp_path / name))


@pytest.mark.parametrize(
    ("first", "second"),
    [("Walk", "walk"), ("a/B", "A/b"), ("caf\u00e9", "cafe\u0301"), ("stra\u00dfe", "STRASSE")],
)
def test_ids_that_differ_by_case_or_unicode_form_alone_are_reported(
    tmp_path: Path, first: str, second: str
) -> None:
    for name in (first, second):
        video(tmp_path / f"{name}.mp4")
    video(tmp_path / "other.mp4")
    (kept, other), (rejected,) = scan(str(tmp_path))
    assert other.id == "other"
    assert {kept.id, rejected.id} == {first, second} and kept.id < rejected.id
    assert "differs only by case or Unicode form" in rejected.error and "rename one of them" in rejected.error
    assert kept.uri in rejected.error


@pytest.mark.parametrize(
    ("clip_id", "reason"),
    [
        ("x" * 300, "300 bytes long, the limit is 200"),
        ("a/../../b", "'..'"),
        ("/etc/passwd", "empty part"),
        ("a\nb", "control character"),
    ],
)
def test_an_id_that_cannot_be_used_rejects_its_row_alone(tmp_path: Path, clip_id: str, reason: str) -> None:
    (clip,) = scan("scenes://?count=1")[0]
    write_index(str(tmp_path / "i.parquet"), [replace(clip, id=clip_id), replace(clip, id="片段/Ünïcødé")])
    (kept,), (rejected,) = scan(str(tmp_path / "i.parquet"))
    assert kept.id == "片段/Ünïcødé"
    assert reason in rejected.error and "rename" in rejected.error and len(rejected.error) < 400
    assert "\n" not in rejected.error


def test_the_schema_names_every_field_of_a_clip() -> None:
    (clip,) = scan("scenes://?count=1")[0]
    assert set(INDEX_SCHEMA.names) == set(clip.__dataclass_fields__)
