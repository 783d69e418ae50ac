"""Ordinary clips, from file to recapture, with nothing beside them.

    python benchmarks/situations.py --write --picture docs/images/situations.jpg

The three bundled videos without their captions, and six situations made from pictures that scikit-image
and scikit-learn ship: a camera that pans, zooms and shakes, a cut, a body that crosses, exposure that drifts.
Each is a video file and goes through `recapture run` with the default settings. Takes about six minutes on
two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
from sklearn.datasets import load_sample_image

import recapture
from bench.tables import Cell, Column, Table, add_write, publish, this_run

FOOTAGE = Path(__file__).parents[1] / "datasets/sample/real"
FRAMES, HEIGHT, WIDTH, FPS = 25, 240, 424, 24
TRAJECTORIES = "[{preset: orbit_right, angle_degrees: 15}]"
FIELD = 75.0  # degrees across the whole of a picture that a camera turns in


def turned(picture: np.ndarray, yaw: float, pitch: float, roll: float, zoom: float = 1.0) -> np.ndarray:
    """Return what a camera of half the picture's field sees after turning by these degrees."""
    high, wide = picture.shape[:2]
    far = wide / 2 / np.tan(np.radians(FIELD / 2))
    there = np.array([[far, 0, wide / 2], [0, far, high / 2], [0, 0, 1]])
    near = WIDTH / 2 / np.tan(np.radians(FIELD / 4)) * zoom
    here = np.array([[near, 0, WIDTH / 2], [0, near, HEIGHT / 2], [0, 0, 1]])
    x, y, z = (cv2.Rodrigues(np.radians(axis))[0] for axis in np.diag([pitch, yaw, roll]))
    back = there @ y @ x @ z @ np.linalg.inv(here)
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(picture, back, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)


def _pan(frame: float) -> np.ndarray:
    return turned(load_sample_image("china.jpg"), -8 + 16 * frame, 0, 0)


def _zoom(frame: float) -> np.ndarray:
    return turned(skimage.data.rocket(), 0, 3, 0, 1.6**frame)


def _shake(frame: float) -> np.ndarray:
    swing = 2 * np.pi * frame
    return turned(
        load_sample_image("china.jpg"),
        1.2 * np.sin(1.3 * swing) + 0.3 * np.sin(5 * swing),
        0.8 * np.sin(1.9 * swing + 1),
        0.5 * np.sin(1.1 * swing),
    )


def _cut(frame: float) -> np.ndarray:
    first = frame < 0.5
    return turned(
        load_sample_image("china.jpg" if first else "flower.jpg"), 6 * frame - (1.5 if first else 4.5), 0, 0
    )


def _crossing(frame: float) -> np.ndarray:
    scene = turned(load_sample_image("china.jpg"), 0, 0, 0).astype(np.float32)
    cat = cv2.resize(skimage.data.chelsea()[:, 60:390], (150, 136))
    y, x = np.mgrid[:136, :150]
    alpha = np.clip(12 * (1 - ((x - 75) / 72) ** 2 - ((y - 68) / 66) ** 2), 0, 1)[..., None]
    left = round(-150 + (WIDTH + 150) * frame)
    inside = slice(max(0, -left), min(150, WIDTH - left))
    place = scene[90:226, left + inside.start : left + inside.stop]
    if place.shape[1]:
        place += alpha[:, inside] * (cat[:, inside] - place)
    return scene.astype(np.uint8)


def _exposure(frame: float) -> np.ndarray:
    picture = turned(skimage.data.coffee(), -3 + 6 * frame, 0, 0)
    return np.clip(picture * (1 + 0.45 * np.sin(2 * np.pi * frame)), 0, 255).astype(np.uint8)


SITUATIONS: dict[str, Callable[[float], np.ndarray]] = {
    "pan": _pan,
    "zoom": _zoom,
    "shake": _shake,
    "cut": _cut,
    "crossing": _crossing,
    "exposure": _exposure,
}


def make_clips(folder: Path) -> list[str]:
    """Write every clip as a video file, without sidecars; return their names."""
    folder.mkdir(parents=True)
    for video in FOOTAGE.glob("*.mp4"):
        shutil.copy(video, folder / video.name)
    for name, picture in SITUATIONS.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as video:
            stream = video.add_stream("libx264", rate=FPS, options={"crf": "16"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(picture(index / (FRAMES - 1)), "rgb24")
                video.mux(stream.encode(frame))
            video.mux(stream.encode(None))
    return sorted(path.stem for path in folder.glob("*.mp4"))


def run(work: Path) -> int:
    """Recapture the clips below `work`; return the command's exit code."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("recapture")),
            *("run", "--dataset.uri", str(work / "clips"), "--dataset.name", "situations"),
            *("--trajectories", TRAJECTORIES, "--state", str(work / "state")),
            *("--store", str(work / "store"), "--outputs", str(work / "outputs")),
        ],
        check=False,
    ).returncode


def table(work: Path, names: list[str]) -> Table:
    """Return a row per clip: what became of it, its camera and what was measured."""
    manifest = recapture.manifest("situations", store=str(work / "store"))
    videos = recapture.results("situations", outputs=str(work / "outputs")).set_index("clip")
    rows: list[list[Cell]] = []
    for name in names:
        of_clip = manifest[manifest["clip_id"] == name]
        failed = of_clip[of_clip["status"] == "quarantined"]
        camera = of_clip[of_clip["stage"] == "cameras"]["metrics"]
        found = dict(camera.iloc[0]) if len(camera) else {}
        made = videos[videos.index == name].to_dict("records")
        first = made[0] if made else {}
        outcome = "recaptured" if made else f"failed: {failed['error'].iloc[0]}"
        known = "known" if found.get("camera_known") else "not known"
        numbers = [found.get(f"camera_{part}") for part in ("confidence", "path", "fov_degrees")]
        measured = [first.get(f"inverse/{part}") for part in ("hole_share", "warp_error")]
        rows.append([name, outcome, known, *numbers, *measured])
    columns = [
        Column("clip"),
        Column("outcome"),
        Column("camera"),
        Column("confidence", ".2f"),
        Column("path", ".3f"),
        Column("lens", ".0f"),
        Column("holes", ".3f"),
        Column("warp", ".4f"),
    ]
    title = f"{len(names)} video files without captions, depth or cameras; orbit_right 15, default settings"
    notes = [
        "path: of the camera, in units of the depth; lens: its field of view in degrees; "
        "warp: squared error after flow.",
    ]
    return Table("situations", title, columns, rows, this_run(base="weights/base"), notes)


def picture(work: Path, names: list[str], target: Path) -> None:
    """Write a sheet: of each clip three moments, and below them the same of its recapture."""
    videos = recapture.results("situations", outputs=str(work / "outputs")).set_index("clip")
    tiles = []
    for name in names:
        if name not in videos.index:
            continue
        both = [_frames(work / "clips" / f"{name}.mp4"), _frames(Path(videos.loc[name]["video"]))]
        rows = [
            np.hstack([cv2.resize(film[round(k * (len(film) - 1))], (212, 120)) for k in (0.1, 0.5, 0.9)])
            for film in both
        ]
        tiles.append(np.vstack(rows))
    while len(tiles) % 3:
        tiles.append(np.zeros_like(tiles[0]))
    sheet = np.vstack([np.hstack(tiles[row : row + 3]) for row in range(0, len(tiles), 3)])
    cv2.imwrite(str(target), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def main() -> None:
    """Make the clips, run the job, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_write(parser, "situations")
    parser.add_argument("--work", type=Path, help="Folder for clips and results; kept.")
    parser.add_argument("--picture", type=Path, help="Where to write a sheet of clips and results.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work = given.work or Path(made)
        names = (
            make_clips(work / "clips")
            if not (work / "clips").exists()
            else sorted(path.stem for path in (work / "clips").glob("*.mp4"))
        )
        code = run(work)
        publish([table(work, names)], write=given.write is not None)
        print(json.dumps({"exit code": code}))
        if given.picture:
            picture(work, names, given.picture)


if __name__ == "__main__":
    main()
