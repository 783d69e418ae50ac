"""Make docs/images/trajectories.jpg: what subject, time and amount auto do.

    python docs/images/trajectories.py

A procedural scene with exact depth through a recapture job, with the classical fill. Takes about a CPU
minute.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs.job import ClipJob, recapture_stages

FOLDER = Path(__file__).parent
SCENE = "scenes://?count=1&seed=3&frames=17&height=160&width=256"
MOMENTS = (0, 8, 16)
ABOUT: dict[str, Any] = {"preset": "orbit_right", "angle_degrees": 25, "subject": {"objects": [2]}}
UP: dict[str, Any] = {"preset": "orbit_up", "amount": "auto"}
ROWS: dict[str, dict[str, Any] | None] = {  # what is shown: trajectory; None: the clip itself
    "the clip": None,
    "orbit_right 25 about a body": ABOUT,
    "the same, framing centre": {**ABOUT, "subject": {"objects": [2], "framing": "centre"}},
    "orbit_left 25, time freeze": {
        "preset": "orbit_left",
        "angle_degrees": 25,
        "time": {"mode": "freeze", "seconds": 1.0},
    },
    "dolly_in, time reverse": {"preset": "dolly_in", "time": {"mode": "reverse"}},
    "orbit_up, amount auto, 10 % holes": {**UP, "bound": {"hole_share": 0.1}},
    "orbit_up, amount auto, 30 % holes": {**UP, "bound": {"hole_share": 0.3}},
}


def run(work: Path, *words: str) -> Callable[[str, str], Path]:
    """Run a job over the scene; return a function from a trajectory and a file's name to the file."""
    places = ("--store", f"{work}/store", "--outputs", f"{work}/outputs", "--state", f"{work}/state")
    given = ("--dataset.uri", SCENE, "--dataset.name", "pictures", "--depth.source", "given")
    config = load_config(arguments=[*given, *places, "--ingest.short_side", "160", *words])
    job, store = ClipJob.of(config, recapture_stages(config)), ArtifactStore(config.store)
    made: dict[str, str] = {}
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        context = RunContext(store, executor, "pictures", "pictures", retry_policy(config.execution))
        for plan in job.plans():
            if plan.stage.name not in ("baselines", "measure"):
                plan.outcomes += run_stage(plan.stage, plan.items, context)
            if plan.stage.name == "deliver":
                made |= {item.params.label: item.key for item in plan.items}

    def file(label: str, name: str) -> Path:
        target = work / f"{label}-{name}"
        target.write_bytes(store.open("deliver", made[label]).read_bytes(name))
        return target

    return file


def frames(video: Path) -> list[np.ndarray]:
    """Return the frames of a video, BGR."""
    with av.open(str(video)) as opened:
        return [frame.to_ndarray(format="bgr24") for frame in opened.decode(video=0)]


def parts(video: Path, width: int) -> list[list[np.ndarray]]:
    """Return source, render and result of every frame of side_by_side.mp4; width: of one of them."""
    film = frames(video)
    step = (film[0].shape[1] - width) // 2
    return [[one[:, part * step : part * step + width] for part in range(3)] for one in film]


def moments(film: list[np.ndarray]) -> list[np.ndarray]:
    """Return the first, middle and last frame."""
    return [film[round(place / MOMENTS[-1] * (len(film) - 1))] for place in MOMENTS]


def row(title: str, pictures: list[np.ndarray]) -> np.ndarray:
    """Return pictures side by side below their title."""
    shown = np.hstack(pictures)
    head = np.full((22, shown.shape[1], 3), 255, np.uint8)
    cv2.putText(head, title, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([head, shown])


def main() -> None:
    """Run the jobs and write the pictures."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        paths = [{"name": f"t{number}", **one} for number, one in enumerate(ROWS.values()) if one]
        file = run(work, "--fill.method", "classical", "--trajectories", json.dumps(paths))
        rows = []
        for number, (title, trajectory) in enumerate(ROWS.items()):
            film = frames(file(f"t{max(number, 1)}", "recapture.mp4"))
            if trajectory is None:
                width = film[0].shape[1]
                film = [one[0] for one in parts(file("t1", "side_by_side.mp4"), width)]
            rows.append(row(title, moments(film)))
        cv2.imwrite(str(FOLDER / "trajectories.jpg"), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 55])


if __name__ == "__main__":
    main()
