import hashlib
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from recapture.datasets.cameras.files import write_cameras
from recapture.datasets.clips.clip import Clip, ClipError, validate_clip_id
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.index import INDEX_SCHEMA, read_index, write_index
from recapture.datasets.readers.scan import open_clip, scan

SAMPLE = Path(__file__).parents[3] / "datasets" / "sample"


def video(path: Path, frames: int = 6, height: int = 32, width: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (np.full((height, width, 3), 20 + 10 * index, np.uint8) for index in range(frames))
    write_video(str(path), pictures, Fraction(12))
    return path


def cameras(path: Path, frames: int, intrinsics: bool = True) -> None:
    lens = torch.eye(3).repeat(frames, 1, 1) if intrinsics else None
    write_cameras(str(path), torch.eye(4).repeat(frames, 1, 1), lens)


def only(uri: object) -> Clip:
    clips, rejected = scan(str(uri))
    assert not rejected
    (clip,) = clips
    return clip


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"


def test_the_sample_dataset_holds_real_clips_and_scenes_and_all_of_them_decode() -> None:
    clips, rejected = scan(str(SAMPLE))
    assert not rejected
    assert [clip.id for clip in clips] == [
        "real/box",
        "real/bunny",
        "real/pedestrians",
        "scenes/moving",
        "scenes/still",
        "scenes/wide",
    ]
    assert [clip.id for clip in clips if clip.audio] == ["real/bunny"]
    assert [clip.fps for clip in clips[:3]] == ["30000/1001", "25", "10"]
    assert len({clip.content_hash for clip in clips}) == 6
    for clip in clips:
        frames = list(open_clip(clip).frames())
        assert len(frames) == clip.frames
        assert all(frame.shape == (clip.height, clip.width, 3) for frame in frames)
        assert all(frame.dtype == np.uint8 and frame.std() > 10 for frame in frames)
        assert 10 < len(clip.caption) < 500
        assert clip.duration == pytest.approx(clip.frames / Fraction(clip.fps))
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) < 3e6


def test_one_bad_file_never_stops_a_scan_and_each_is_reported_once(tree: Path) -> None:
    good = video(tree / "good" / "a.mp4")
    (tree / "cut.mp4").write_bytes(good.read_bytes()[:-200])
    (tree / "text.mp4").write_text("no video")
    (tree / "empty.mp4").touch()
    (tree / "hollow").mkdir()
    (tree / "folder.mp4").mkdir()
    video(tree / "folder.mp4" / "inside.mp4")
    (tree / "dangling.mov").symlink_to(tree / "nowhere.mov")
    video(tree / "twin.mp4")
    video(tree / "twin.mkv")
    (tree / "flip").mkdir()
    (tree / "flip" / "0.png").write_bytes(b"not a picture")
    clips, rejected = scan(str(tree))
    assert [clip.id for clip in clips] == ["good/a", "twin"]
    reasons = {item.id: item for item in rejected}
    assert len(reasons) == len(rejected)
    expected = {
        "cut": "truncated|cut off|decoded",
        "text": "not an MP4",
        "empty": "0 bytes",
        "hollow": "empty",
        "folder": "directory",
        "dangling": "no such file",
        "twin": "same id",
        "flip": "not a picture",
    }
    assert set(reasons) == set(expected)
    for clip_id, item in reasons.items():
        assert item.stage == "scan"
        assert item.error_type in {"VideoError", "ClipError"}
        assert item.error.startswith(f"clip {clip_id!r}: ")
        assert any(word in item.error for word in expected[clip_id].split("|")), item.error
        assert any(word in item.error for word in ("replace", "remove", "rename", "check")), item.error
        assert "\n" not in item.error
        assert clip_id in item.uri


def test_an_empty_dataset_is_reported_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    clips, (rejected,) = scan(str(tmp_path / "data"))
    assert not clips
    assert "empty" in rejected.error
    with pytest.raises(FileNotFoundError, match="absent"):
        scan(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="absent"):
        scan(str(tmp_path / "absent"), "folder")
    with pytest.raises(ClipError, match=r"notes\.txt.* is not a dataset: give a folder"):
        (tmp_path / "notes.txt").touch()
        scan(str(tmp_path / "notes.txt"))
    with pytest.raises(ClipError, match="'cloud' is unknown; use auto, folder"):
        scan(str(tmp_path), "cloud")  # type: ignore[arg-type]


def test_a_clip_survives_becoming_a_dict_and_the_index_keeps_every_field(tree: Path, tmp_path: Path) -> None:
    video(tree / "a.mp4")
    (tree / "a.txt").write_text("  A grey\n wall ")
    np.savez(tree / "a.depth.npz", depth=np.ones((6, 32, 48), np.float32))
    clips = [*scan(str(tree))[0], *scan("scenes://?count=2&seed=5")[0]]
    assert clips[0].caption == "A grey wall"
    assert Clip(**asdict(clips[0])) == clips[0]
    for uri in (str(tmp_path / "index.parquet"), "memory://datasets/index.parquet"):
        write_index(uri, clips)
        assert read_index(uri) == clips
        found, rejected = scan(uri)
        assert found == sorted(clips, key=lambda clip: clip.id)
        assert not rejected
    assert pq.read_schema(tmp_path / "index.parquet").equals(INDEX_SCHEMA)
    write_index(str(tmp_path / "none.parquet"), [])
    assert read_index(str(tmp_path / "none.parquet")) == []


def test_an_index_that_is_none_or_holds_dangerous_ids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("id,uri")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet"):
        with pytest.raises(ClipError, match=f"{name}.*write it again"):
            read_index(str(tmp_path / name))
    (clip,) = scan("scenes://?count=1")[0]
    write_index(str(tmp_path / "bad.parquet"), [replace(clip, id="../../etc/passwd"), replace(clip, id="ok")])
    clips, (rejected,) = scan(str(tmp_path / "bad.parquet"))
    assert [clip.id for clip in clips] == ["ok"]
    assert "'..'" in rejected.error


def test_ids_that_could_leave_the_root_or_garble_a_terminal_are_refused() -> None:
    for clip_id in (
        "",
        "/etc/passwd",
        "a/../b",
        "..",
        ".",
        "a//b",
        "a/",
        "a\nb",
        "a\x00b",
        "a\x1b[31m",
        "C:/clips/a",
        "~root/a",
        "a\\b",
        "a@orbit",
        "what?",
        "x" * 201,
        "é" * 101,
        " ",
        "\u202etxt.mp4",
    ):
        with pytest.raises(ClipError, match=r"cannot be used: .*; rename") as caught:
            validate_clip_id(clip_id)
        assert caught.value.args[0].isprintable(), clip_id
        assert len(caught.value.args[0]) < 250, clip_id


def test_ordinary_ids_are_accepted_as_they_are() -> None:
    for clip_id in ("a", "a/b/c", "bmx 03", "Ünïcødé/片段", "a..b", "x" * 200, "a.b-c_d+e"):
        assert validate_clip_id(clip_id) == clip_id


def test_the_content_hash_is_that_of_the_file_and_follows_what_lies_beside_it(tree: Path) -> None:
    path = video(tree / "a.mp4")
    plain = only(tree).content_hash
    assert plain == hashlib.sha256(path.read_bytes()).hexdigest()
    seen = {plain}
    np.savez(tree / "a.depth.npz", depth=np.ones((6, 32, 48), np.float32))
    seen.add(only(tree).content_hash)
    np.savez(tree / "a.depth.npz", depth=2 * np.ones((6, 32, 48), np.float32))
    seen.add(only(tree).content_hash)
    cameras(tree / "a.cameras.json", 6)
    seen.add(only(tree).content_hash)
    video(path, frames=6, height=34)
    (tree / "a.depth.npz").unlink()
    (tree / "a.cameras.json").unlink()
    seen.add(only(tree).content_hash)
    assert len(seen) == 5


def test_depth_cameras_and_known_pixels_beside_a_clip_are_given_by_range(tree: Path) -> None:
    video(tree / "sub" / "a.mp4")
    depth = np.random.default_rng(0).uniform(1, 5, (6, 16, 24))
    np.savez_compressed(tree / "sub" / "a.depth.npz", depth=depth)
    np.savez(tree / "sub" / "a.known.npz", known=depth > 2)
    cameras(tree / "sub" / "a.cameras.npz", 6)
    source = open_clip(only(tree))
    part = source.depth(2, 5)
    assert part is not None and part.dtype == np.float32
    assert np.array_equal(part, depth[2:5].astype(np.float32))
    known = source.known()
    assert known is not None
    assert np.array_equal(known, depth > 2)
    found = source.cameras()
    assert found is not None
    assert found[0].shape == (6, 3, 3) and found[1].shape == (6, 4, 4)
    assert found[0].dtype == np.float64
    assert source.truth(*found, np.arange(6), 32, 48) is None


def test_a_clip_alone_has_neither_depth_nor_cameras(tree: Path) -> None:
    source = open_clip(only(video(tree / "a.mp4")))
    assert source.depth() is None and source.cameras() is None and source.known() is None


def test_sidecars_that_do_not_fit_their_clip_reject_it_by_name(tree: Path) -> None:
    for name in ("frames", "aspect", "key", "cameras", "lens", "latin"):
        video(tree / f"{name}.mp4")
    np.savez(tree / "frames.depth.npz", depth=np.ones((5, 32, 48)))
    np.savez(tree / "aspect.depth.npz", depth=np.ones((6, 48, 48)))
    np.savez(tree / "key.known.npz", mask=np.ones((6, 32, 48), bool))
    cameras(tree / "cameras.cameras.npz", 7)
    cameras(tree / "lens.cameras.json", 6, intrinsics=False)
    (tree / "latin.txt").write_bytes("Caf\xe9".encode("latin-1"))
    clips, rejected = scan(str(tree))
    assert not clips
    reasons = {item.id: item.error for item in rejected}
    assert "[5, 32, 48]; it must be [6, H, W]" in reasons["frames"]
    assert "48x48, a different aspect from the clip's 48x32" in reasons["aspect"]
    assert "no array 'known'" in reasons["key"]
    assert "7 for 6 frames" in reasons["cameras"]
    assert "no intrinsics; add them" in reasons["lens"]
    assert "not UTF-8" in reasons["latin"]


def test_a_file_that_changes_after_the_scan_is_an_error_that_names_the_clip(tree: Path) -> None:
    path = video(tree / "a.mp4")
    clip = only(tree)
    path.write_text("gone")
    with pytest.raises(ValueError, match=r"clip 'a': video .*is not an MP4"):
        list(open_clip(clip).frames())
    with pytest.raises(ClipError, match=r"kind 'hologram' is unknown; use video"):
        open_clip(replace(clip, kind="hologram"))  # type: ignore[arg-type]


def test_folders_of_frames_and_their_sidecars_are_read_on_any_store() -> None:
    memory = fsspec.filesystem("memory")
    root = "/clips-dataset"
    for index in range(12):
        with memory.open(f"{root}/set/walk/frame_{index}.png", "wb") as stream:
            Image.fromarray(np.full((8, 12, 3), index, np.uint8)).save(stream, format="PNG")
    memory.pipe(f"{root}/set/walk/fps.txt", b"30000/1001\n")
    memory.pipe(f"{root}/set/walk.txt", b"Numbers")
    with memory.open(f"{root}/set/walk.depth.npz", "wb") as stream:
        np.savez(stream, depth=np.arange(12)[:, None, None] * np.ones((12, 8, 12)))
    write_video(f"memory:/{root}/b.mp4", (np.zeros((16, 16, 3), np.uint8) for _ in range(3)), Fraction(5))
    clips, rejected = scan(f"memory:/{root}")
    assert not rejected
    assert [(clip.id, clip.kind, clip.fps, clip.frames) for clip in clips] == [
        ("b", "video", "5", 3),
        ("set/walk", "frames", "30000/1001", 12),
    ]
    walk = clips[1]
    assert walk.uri == "memory:///clips-dataset/set/walk"
    assert walk.caption == "Numbers"
    source = open_clip(walk)
    assert [int(frame[0, 0, 0]) for frame in source.frames(8, 12)] == [8, 9, 10, 11]
    depth = source.depth(9, 11)
    assert depth is not None
    assert depth[:, 0, 0].tolist() == [9.0, 10.0]
    assert len(list(open_clip(clips[0]).frames())) == 3


def test_frames_of_a_folder_are_let_go_of_as_they_are_read(tree: Path) -> None:
    (tree / "walk").mkdir(parents=True)
    for index in range(20):
        Image.fromarray(np.full((16, 16, 3), index, np.uint8)).save(tree / "walk" / f"{index:02d}.png")
    seen: list[weakref.ref[np.ndarray]] = []
    for frame in open_clip(only(tree)).frames():
        seen.append(weakref.ref(frame))
        assert sum(reference() is not None for reference in seen) <= 2
    assert len(seen) == 20
