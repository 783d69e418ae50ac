"""Links, pipes, outputs of the product and other oddities of folders that real datasets have."""

import logging
import os
import socket
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from support.davis_like import davis_like

from recapture.conf.load import load_config
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers import folders
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.store.marker import MARKER, mark
from recapture.tasks.jobs.chosen_clips import chosen_clips
from recapture.tasks.jobs.own_folders import mark_own_folders, own_folders

pytestmark = pytest.mark.timeout(60)


def video(path, grey=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(str(path), [np.full((16, 16, 3), grey, np.uint8)] * 2, Fraction(5))
    return path


def found(uri, *args, **more):
    clips, rejected = scan(str(uri), *args, **more)
    return [clip.id for clip in clips], {item.id: item.error for item in rejected}


def test_clips_in_linked_folders_are_found(tmp_path):
    video(tmp_path / "disk2/day1/a.mp4")
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm/day1").symlink_to(tmp_path / "disk2/day1")
    video(tmp_path / "disk3/b.mp4")
    (tmp_path / "farm/b.mp4").symlink_to(tmp_path / "disk3/b.mp4")
    assert found(tmp_path / "farm") == (["b", "day1/a"], {})


def test_links_that_loop_are_reported_and_each_folder_is_read_once(tmp_path, caplog):
    root = tmp_path / "set"
    video(root / "one/a.mp4")
    (root / "one/up").symlink_to(root)
    (root / "one/self").symlink_to(root / "one")
    (root / "parent").symlink_to("..")
    (root / "latest").symlink_to(root / "one")
    assert found(root) == (["one/a"], {})  # a link is no clip that failed
    told = {message.split(" ")[0]: message for message in caplog.messages}
    assert set(told) == {str(root / name) for name in ("one/up", "one/self", "parent", "latest")}
    assert "leads to the folder 'one', which is read already" in told[str(root / "latest")]
    assert "leads to a folder that holds the dataset" in told[str(root / "parent")]


@pytest.mark.parametrize(
    "kind", ["nerfstudio", "colmap", "kubric4d", "multicamvideo", "dycheck", "realestate10k"]
)
def test_two_looping_links_do_not_hang_a_layout(tmp_path, kind):
    (tmp_path / "set/loops").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "set/loops" / name).symlink_to("..")
    with pytest.raises(ClipError, match="holds nothing in the layout"):
        scan(str(tmp_path / "set"), kind)
    with pytest.raises(ClipError, match="holds nothing in the layout"):
        scan(str(tmp_path / "set/loops"), kind)


def test_a_layout_finds_its_views_behind_a_link_and_reports_what_it_does_not_enter(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    project = tmp_path / "elsewhere/transforms.json"
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "elsewhere/0.png")
    project.write_text(
        '{"fl_x": 10, "fl_y": 10, "cx": 6, "cy": 4, "w": 12, "h": 8, "frames": [{"file_path": "0.png",'
        '"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]}'
    )
    (tmp_path / "set").mkdir()
    (tmp_path / "set/here").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/gone").symlink_to(tmp_path / "nowhere")
    ids, errors = found(tmp_path / "set", "nerfstudio")
    assert ids == ["here"] and set(errors) == {"gone"}


def test_pipes_sockets_and_dead_links_are_refused_by_name_at_once(tmp_path, monkeypatch):
    video(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "gone.mov").symlink_to(tmp_path / "nowhere.mov")
    (tmp_path / "disk2").symlink_to("/mnt/not/mounted")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    monkeypatch.chdir(tmp_path)  # the name of a socket is limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("plug.mp4")
        (tmp_path / "null.mp4").symlink_to("/dev/null")
        ids, errors = found(tmp_path)
    assert ids == ["a"]
    assert set(errors) == {"pipe", "gone", "disk2", "round", "plug", "null"}
    for name in ("pipe", "plug", "null"):
        assert "is a pipe, socket or device, not a file; remove it" in errors[name]
    assert "is a link to no such file ('/mnt/not/mounted'); correct or remove it" in errors["disk2"]


def test_a_pipe_among_frames_sidecars_or_rows_of_a_list_rejects_its_clip(tmp_path):
    for name in ("a", "b"):
        video(tmp_path / f"set/{name}.mp4")
    os.mkfifo(tmp_path / "set/a.depth.npz")
    (tmp_path / "set/walk").mkdir()
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "set/walk/0.png")
    os.mkfifo(tmp_path / "set/walk/1.png")
    ids, errors = found(tmp_path / "set")
    assert ids == ["b"]
    assert "a.depth.npz' is a pipe" in errors["a"] and "1.png' is a pipe" in errors["walk"]
    os.mkfifo(tmp_path / "row.mp4")
    (tmp_path / "list.csv").write_text("uri\nrow.mp4\nset/b.mp4\n")
    ids, errors = found(tmp_path / "list.csv")
    assert ids == ["set/b"] and "is a pipe" in errors["row"]
    ids, errors = found(tmp_path / "row.mp4")
    assert ids == [] and "is a pipe" in errors["row"]


def test_a_pipe_among_the_files_of_a_layout_rejects_its_view(tmp_path):
    root = davis_like(tmp_path / "davis", ("bear", "swan"))
    os.mkfifo(root / "JPEGImages/480p/bear/00009.jpg")
    ids, errors = found(root)
    assert ids == ["swan"] and "00009.jpg' is a pipe" in errors["bear"]


def test_folders_that_cannot_be_listed_are_reported(tmp_path, monkeypatch):
    video(tmp_path / "open/a.mp4")
    video(tmp_path / "closed/b.mp4")
    real = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    ids, errors = found(tmp_path)
    assert ids == ["open/a"]
    assert "the folder cannot be listed (Permission denied)" in errors["closed"]


def test_a_file_that_may_not_be_read_is_reported_and_stops_no_scan(tmp_path, monkeypatch):
    video(tmp_path / "a.mp4")
    video(tmp_path / "b.mp4")
    real = fsspec.implementations.local.LocalFileOpener._open

    def guarded(self):
        if self.path.endswith("b.mp4"):
            raise PermissionError(13, "Permission denied", self.path)
        real(self)

    monkeypatch.setattr(fsspec.implementations.local.LocalFileOpener, "_open", guarded)
    ids, errors = found(tmp_path)
    assert ids == ["a"] and "Permission denied" in errors["b"]


def test_names_that_are_not_utf8_are_reported_in_text_that_can_be_written(tmp_path):
    video(tmp_path / "ok.mp4")
    for name in (b"caf\xe9.mp4", b"f\xfcr/inside.mp4"):
        place = os.fsencode(tmp_path) + b"/" + name
        Path(os.fsdecode(place)).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(place)).write_bytes((tmp_path / "ok.mp4").read_bytes())
    clips, rejected = scan(str(tmp_path), store=str(tmp_path / "store"))
    assert [clip.id for clip in clips] == ["ok"]
    assert sorted(item.id for item in rejected) == ["caf\\udce9", "f\\udcfcr"]
    for item in rejected:
        assert "is not UTF-8; rename it" in item.error
        (item.id + item.uri + item.error).encode()


def test_files_of_systems_and_downloads_are_no_clips(tmp_path):
    video(tmp_path / "day/a.mp4")
    for name in ("._a.mp4", ".DS_Store", "Thumbs.db", "desktop.ini", ".a.mp4.Xy12", "notes.part"):
        (tmp_path / "day" / name).write_bytes(b"\0\5\26\7")
    for name in ("b.mp4.part", "c.MOV.crdownload", "d.mkv.aria2"):
        (tmp_path / "day" / name).write_bytes(b"half")
    (tmp_path / "day/e.mp4").touch()
    ids, errors = found(tmp_path)
    assert ids == ["day/a"]
    assert set(errors) == {"day/b.mp4.part", "day/c.MOV.crdownload", "day/d.mkv.aria2", "day/e"}
    assert "is an unfinished download; finish it, or remove it" in errors["day/b.mp4.part"]
    assert "0 bytes" in errors["day/e"]


def test_sidecars_are_found_whatever_the_case_or_unicode_form_of_their_names(tmp_path):
    video(tmp_path / "GOPR01.MP4")
    (tmp_path / "gopr01.txt").write_text("A beach")
    video(tmp_path / "cafe\u0301.mp4")
    np.savez(tmp_path / "caf\u00e9.depth.npz", depth=np.full((2, 16, 16), 3.0))
    (one, two), rejected = scan(str(tmp_path))
    assert not rejected
    assert one.caption == "A beach"
    assert (open_clip(two).depth(0, 1) == 3).all()


def test_brackets_and_other_signs_of_patterns_in_names_are_names(tmp_path):
    video(tmp_path / "set [raw]/clip[1] (2) #3 %41.mp4")
    video(tmp_path / "set [raw]/clip1 (2) #3 %41.mp4", grey=90)
    (tmp_path / "set [raw]/clip[1] (2) #3 %41.txt").write_text("bracketed")
    clips, rejected = scan(str(tmp_path))
    assert not rejected and [clip.caption for clip in clips] == ["", "bracketed"]
    assert [int(next(open_clip(clip).frames()).mean().round(-1)) for clip in clips] == [90, 20]


def test_frames_numbered_from_1001_in_16_bits_keep_their_order_and_rate(tmp_path):
    shot = tmp_path / "shot"
    shot.mkdir()
    for number in (1010, 1001, 1002, 999):
        Image.fromarray(np.full((8, 12), number * 20, np.uint16)).save(shot / f"shot.{number}.png")
    (shot / "fps.txt").write_text("24000/1001")
    ((clip,), rejected) = scan(str(tmp_path))
    assert not rejected and clip.fps == "24000/1001" and clip.frames == 4
    means = [frame.mean() for frame in open_clip(clip).frames()]
    assert means == [round(number * 20 / 257) for number in (999, 1001, 1002, 1010)]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with one video, and what a job over it has left there; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "beach.mp4")
    for path in ("orbit_right_20", "dolly_in_0.3"):
        for name in ("recapture", "side_by_side"):
            video(tmp_path / f"outputs/sample/beach/{path}/{name}.mp4")
    video(tmp_path / "artifacts/objects/deliver/ab/abcd/recapture.mp4")
    video(tmp_path / "state/mlflow-artifacts/1/video.mp4")
    return tmp_path


def configured(uri, *words):
    arguments = ["--dataset.uri", uri, "--store", "artifacts", "--outputs", "outputs", "--state", "state"]
    return load_config(arguments=[*arguments, *words])


@pytest.mark.parametrize("uri", [".", "{root}", "file://{root}", "{root}/../link", "../link/"])
def test_a_dataset_at_the_working_directory_does_not_eat_its_own_outputs(beside, uri, caplog):
    (beside.parent / "link").unlink(missing_ok=True)
    (beside.parent / "link").symlink_to(beside)
    caplog.set_level(logging.INFO)
    config = configured(uri.format(root=beside))
    assert found(config.dataset.uri, own=own_folders(config)) == (["beach"], {})
    for folder in ("outputs", "artifacts", "state"):
        assert f"{folder} holds outputs of recapture and is left out of the dataset" in caplog.text


def test_a_job_at_the_working_directory_finds_its_one_clip_and_remembers_it(beside, monkeypatch):
    monkeypatch.setattr(folders, "SETTLED", 0.0)
    config = configured(".")
    first, _ = chosen_clips(config)
    assert [clip.id for clip in first] == ["beach"]
    assert list((beside / "artifacts/scans").iterdir())
    assert chosen_clips(config)[0] == first


def test_outputs_of_another_job_are_known_by_their_marker(beside):
    other = configured(".", "--dataset.name", "sample")
    mark_own_folders(other)
    assert (beside / "outputs/sample" / MARKER).is_file()
    assert found(".") == (["beach"], {})
    # Asked for by name, they are a dataset like any other.
    assert len(found("outputs/sample")[0]) == 4


def test_a_store_that_holds_the_dataset_may_do_so_but_a_dataset_inside_outputs_is_refused(beside):
    (beside / "videos").mkdir()
    video(beside / "videos/own.mp4")
    config = configured("videos", "--store", ".", "--outputs", "videos")
    assert found(config.dataset.uri, own=own_folders(config)) == (["own"], {})
    config = configured("outputs/sample", "--dataset.name", "sample")
    with pytest.raises(ClipError, match=r"where this job writes to.*choose another folder"):
        scan(config.dataset.uri, own=own_folders(config))


def test_outputs_on_s3_are_left_out_too(s3_endpoint, tmp_path):
    fs = fsspec.filesystem("s3")
    bucket = f"test-{os.urandom(8).hex()}"
    fs.mkdir(bucket)
    fs.put_file(str(video(tmp_path / "a.mp4")), f"{bucket}/videos/a.mp4")
    for place in ("outputs/sample/a/orbit/recapture.mp4", "else/where/recapture.mp4"):
        fs.put_file(str(tmp_path / "a.mp4"), f"{bucket}/videos/{place}")
    mark(f"s3://{bucket}/videos/else")
    words = ("--outputs", f"s3://{bucket}/videos/outputs", "--store", f"s3://{bucket}/artifacts")
    config = configured(f"s3://{bucket}/videos/", *words)
    assert found(config.dataset.uri, own=own_folders(config)) == (["a"], {})


def test_a_hundred_thousand_names_are_looked_up_in_time():
    entries = [folders.Entry(f"clip{number:06d}.mp4", "file", "1", settled=True) for number in range(100_000)]
    listing = folders.Listing(entries)
    for number in range(0, 100_000, 7):
        assert listing.get(f"clip{number:06d}.mp4") is not None
        assert len(listing.begins(f"clip{number:06d}.")) == 1
