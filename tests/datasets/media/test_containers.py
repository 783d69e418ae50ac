"""Hostile files: nothing that is named like a video makes FFmpeg open a socket or another file."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from recapture.datasets.media.containers import open_container
from recapture.datasets.media.video import VideoError, probe, write_video
from recapture.datasets.readers.scan import scan

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"
 mediaPresentationDuration="PT1S"><Period><AdaptationSet><Representation id="1" bandwidth="1">
<BaseURL>inner.dat</BaseURL></Representation></AdaptationSet></Period></MPD>"""
SCRIPTS = {
    "sdp": SDP,
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninner.dat\n#EXT-X-ENDLIST\n",
    "hls_http": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "dash": DASH,
    "concat": "ffconcat version 1.0\nfile inner.dat\n",
    "concat_absolute": "ffconcat version 1.0\nfile /etc/hostname\n",
    "rtsp_reference": "[Reference]\nRef1=http://127.0.0.1:9/a\n",
    "smil": '<smil><body><video src="inner.dat"/></body></smil>',
    "text": "These are not the frames you are looking for.\n" * 50,
}


@contextmanager
def sockets_watched() -> Iterator[set[Any]]:
    """Give the set of this process's new sockets, filled while the block runs."""
    process, found, stop = psutil.Process(), set[Any](), threading.Event()
    before = set(process.net_connections("inet"))

    def watch() -> None:
        while not stop.is_set():
            found.update(set(process.net_connections("inet")) - before)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """A whole video beside the hostile file, under a name that a scan does not look at."""
    write_video(str(tmp_path / "inner.mp4"), [np.full((32, 48, 3), 99, np.uint8)] * 5, Fraction(25))
    return (tmp_path / "inner.mp4").rename(tmp_path / "inner.dat")


@pytest.mark.parametrize("suffix", ["mp4", "ts", "avi"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_playlist_or_script_named_like_a_video_is_refused_at_once(
    tmp_path: Path, inner: Path, name: str, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_text(SCRIPTS[name])
    started = time.monotonic()
    with sockets_watched() as sockets:
        clips, rejected = scan(str(tmp_path))
    assert not clips and not sockets
    assert [item.id for item in rejected] == ["x"]
    assert "is not an MP4, MOV, Matroska, WebM, AVI, GIF or MPEG file" in rejected[0].error
    assert "replace the file or remove it" in rejected[0].error
    assert time.monotonic() - started < 10


def boxed(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def with_references(path: Path, entry: bytes) -> None:
    """Replace the data references of an MP4 whose moov box comes last; keeps all sizes of boxes right."""
    content = path.read_bytes()
    at = content.index(b"moov") - 4

    def rebuilt(part: bytes) -> bytes:
        out, place = b"", 0
        while place + 8 <= len(part):
            length, kind = int.from_bytes(part[place : place + 4], "big"), part[place + 4 : place + 8]
            body = part[place + 8 : place + length]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = rebuilt(body)
            elif kind == b"dref":
                body = bytes(4) + (1).to_bytes(4, "big") + entry
            out += boxed(kind, body)
            place += length
        return out

    path.write_bytes(content[:at] + rebuilt(content[at:]))


def alias(target: str) -> bytes:
    """An `alis` entry as QuickTime writes it: volume and file name, then the path as a tagged record."""
    name = target.rsplit("/", 1)[-1].encode()
    head = bytes(4) + bytes(6) + (2).to_bytes(2, "big") + bytes(2) + bytes([4]) + b"disk".ljust(27, b"\0")
    head += bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + bytes(4) + bytes(16)
    text = target.encode()
    path = (2).to_bytes(2, "big") + len(text).to_bytes(2, "big") + text + b"\0" * (len(text) % 2)
    return boxed(b"alis", bytes(4) + head[4:] + path + (0xFFFF).to_bytes(2, "big") + bytes(2))


@pytest.mark.parametrize("kind", ["alias", "url", "url_http"])
def test_data_references_of_mov_are_not_followed(tmp_path: Path, inner: Path, kind: str) -> None:
    path = tmp_path / "x.mov"
    with av.open(str(path), "w", format="mov") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 200, np.uint8), format="rgb24")
        out.mux([*stream.encode(frame), *stream.encode(None)])
    own = {"alias": alias(str(inner)), "url": boxed(b"url ", bytes(4) + b"inner.dat\0")}
    own["url_http"] = boxed(b"url ", bytes(4) + b"http://127.0.0.1:9/x\0")
    with_references(path, boxed(b"url ", bytes([0, 0, 0, 1])))
    assert probe(str(path)).frames == 1  # rebuilt as it was: self-contained
    with_references(path, own[kind])
    with sockets_watched() as sockets, pytest.raises(VideoError, match=r"x\.mov'.*another file; write all"):
        probe(str(path))
    assert not sockets


def test_no_format_that_may_open_other_files_is_allowed(tmp_path: Path, inner: Path) -> None:
    from recapture.datasets.media.containers import FORMATS

    allowed = {name for listed in FORMATS for name in av.format.ContainerFormat(listed, "r").name.split(",")}
    assert not allowed & {
        "hls",
        "dash",
        "sdp",
        "rtp",
        "rtsp",
        "concat",
        "image2",
        "applehttp",
        "lavfi",
        "imf",
    }
    with inner.open("rb") as stream, open_container(stream, "x") as container:
        assert container.format.name.startswith("mov")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty .0 bytes"),
        (bytes(4096), "not an MP4"),
        (b"\0\0\0\x18ftypisom", "cut off"),
        (b"\0\0\0\x14ftypisom\0\0\0\0isom", "not an MP4"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "not an MP4"),
        (b"RIFF\x04\0\0\0AVI ", "not an MP4"),
        (b"GIF89a;", "not an MP4|no frame|no video"),
        (b"\0\0\x01\xba" + bytes(60), "not an MP4|no frame|no video|cannot be decoded"),
        (b"G" + bytes(187), "not an MP4"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an MP4"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "not an MP4"),
        (b"%PDF-1.7\n" + bytes(300), "not an MP4"),
        (b"ID3\x04" + bytes(300), "not an MP4"),
        (b"\0\0\0\x01moov" + b"\xff" * 200, "not an MP4|cut off|cannot be decoded"),
    ],
)
def test_headers_without_a_video_are_one_clear_error(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"x\.mp4'.*({reason}).*(replace|remove)") as caught:
        probe(str(path))
    assert "\n" not in str(caught.value)


def test_a_gif_of_a_hundred_bytes_takes_no_gigabytes(tmp_path: Path) -> None:
    screen = (60000).to_bytes(2, "little") * 2 + bytes([0x80, 0, 0]) + bytes([0, 0, 0, 255, 255, 255])
    image = bytes([0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0]) + bytes([2, 2, 0x44, 1, 0])
    (tmp_path / "x.gif").write_bytes(b"GIF89a" + screen + image + b";")
    with pytest.raises(VideoError, match=r"x\.gif'.*more than 134217728 pixels.*remove it"):
        probe(str(tmp_path / "x.gif"))


def test_one_function_opens_every_file_that_is_read() -> None:
    root = Path(__file__).parents[3]
    files = [
        path for room in ("flows", "tasks", "models", "datasets") for path in (root / room).rglob("*.py")
    ]
    opening = [
        path.name
        for path in files
        for line in path.read_text().splitlines()
        if "av.open(" in line and '"w"' not in line
    ]
    assert opening == ["containers.py"]
