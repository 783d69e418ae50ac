"""Results at the clip's own size, against what the new cameras really see there.

    python benchmarks/source_size.py
    python benchmarks/source_size.py cost --height 1080 --width 1920 --short-side 480
    python benchmarks/source_size.py picture

quality: procedural scenes of 384 x 576, worked on at a short side of 96; the classical fill. Every way makes
the result at 384 x 576: `enlarged result` from the finished one alone, the others from the clip's own frames
(`deliver.size source`), each with another enlargement of depth or another compositing. Means over the cases
of PSNR in known pixels, in holes and in a ring of 16 pixels around holes; `unsteady_hole` is the mean error
of the change from one frame to the next in holes, in levels of 255.
cost: CPU seconds per frame of the stage, and the peak of memory of its process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import recapture.tasks.jobs.enlarge as stage
from bench.tables import PAGES, Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.scene_reader import read_truth
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs.job import ClipJob, recapture_stages

SCENES = "scenes://?count={scenes}&seed=40&frames={frames}&height={height}&width={width}"
TRAJECTORIES = (
    "[{name: t, preset: orbit_right, angle_degrees: 15}]",
    "[{name: t, preset: dolly_in, distance: 0.3}]",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("quality", "cost", "picture"), nargs="?", default="quality")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--short-side", type=int, default=96)
    add_write(parser, "source-size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        if given.stage == "picture":
            _picture(given, root)
            return
        made = _cost(given, root) if given.stage == "cost" else _quality(given, root)
    publish([made], write=given.write is not None)


def _quality(given: argparse.Namespace, root: str) -> Table:
    scores = [one for trajectory in TRAJECTORIES for one in _scores(_job(given, root, trajectory))]
    names = list(WAYS)
    rows: list[list[Cell]] = [
        [name, *(float(np.nanmean([one[name][metric] for one in scores])) for metric in METRICS)]
        for name in names
    ]
    title = f"{given.height}x{given.width} from a short side of {given.short_side}, {len(scores)} cases"
    columns = [Column("way"), *(Column(metric, ".2f") for metric in METRICS)]
    return Table(given.write or "source-size", title, columns, rows, this_run())


def _picture(given: argparse.Namespace, root: str) -> None:
    """Write docs/images/source_size.png: a part of the last frame enlarged, at source size, and in truth."""
    given.scenes = 1
    config, store, plan = _job(given, root, TRAJECTORIES[0])
    (item,) = plan.items
    inputs = {name: store.open(name, key) for name, key in item.inputs.items()}
    clip, path = item.params.clip, inputs["render"].read_npz("cameras.npz")
    full = {**path, "intrinsics": path["intrinsics"] * _factors(clip, inputs["ingest"])}
    last = np.array([len(path["source_frame"]) - 1])
    truth = _truth(clip, inputs["ingest"], full, last, (clip.height, clip.width))[-1]
    made = [WAYS[name](item, inputs, config)["rgb"][-1] for name in ("enlarged result", "source size")]
    part = slice(clip.height // 4, 3 * clip.height // 4), slice(clip.width // 4, 3 * clip.width // 4)
    shown = np.concatenate([one[part] for one in (*made, truth)], axis=1)
    cv2.imwrite(str(PAGES.parent / "docs/images/source_size.png"), shown[..., ::-1])


METRICS = ("psnr_known", "psnr_hole", "psnr_ring", "psnr", "unsteady_hole")


def _job(given: argparse.Namespace, root: str, trajectory: str) -> tuple:
    config = load_config(
        arguments=[
            *("--dataset.name", "bench", "--dataset.uri", SCENES.format(**vars(given))),
            *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
            *("--execution.executor", "inline", "--tracking.enabled", "false", "--fill.method", "classical"),
            *("--depth.source", "given", "--measure.baselines", "false", "--deliver.side_by_side", "false"),
            *("--ingest.short_side", str(given.short_side), "--deliver.size", "source"),
            *("--trajectories", trajectory),
        ]
    )
    job = ClipJob.of(config, recapture_stages(config))
    store, plans = ArtifactStore(config.store), {}
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        context = RunContext(store, executor, "bench", "bench", retry_policy(config.execution))
        for plan in job.plans():
            if plan.stage.name not in ("measure", "enlarge", "deliver"):
                plan.outcomes += run_stage(plan.stage, plan.items, context)
            plans[plan.stage.name] = plan
    return config, store, plans["enlarge"]


def _scores(job: tuple) -> list[dict[str, dict[str, float]]]:
    config, store, plan = job
    found = []
    for item in plan.items:
        inputs = {name: store.open(name, key) for name, key in item.inputs.items()}
        clip, path = item.params.clip, inputs["render"].read_npz("cameras.npz")
        full = {**path, "intrinsics": path["intrinsics"] * _factors(clip, inputs["ingest"])}
        frames = np.arange(len(path["source_frame"]))
        height, width = clip.height, clip.width
        truth = _truth(clip, inputs["ingest"], full, frames, (height, width))
        results = {name: way(item, inputs, config) for name, way in WAYS.items()}
        known = results["source size"]["known"]
        found.append({name: _measured(one["rgb"], truth, known) for name, one in results.items()})
    return found


def _factors(clip: Clip, ingest: Artifact) -> np.ndarray:
    height, width = ingest.meta["content"]
    return np.array([[clip.width / width], [clip.height / height], [1.0]])


def _truth(clip: Clip, ingest: Any, path: Any, frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    sized: Any = SimpleNamespace(meta={**ingest.meta, "content": size})
    found = [read_truth(clip, {"ingest": sized}, path, np.array([t])) for t in frames]
    return np.concatenate([one["video"] for one in found if one is not None])


def _measured(rgb: np.ndarray, truth: np.ndarray, known: np.ndarray) -> dict[str, float]:
    error = ((rgb.astype(np.float64) - truth) ** 2).mean(-1)
    hole = torch.from_numpy(~known)[:, None].float()
    ring = (torch.nn.functional.max_pool2d(hole, 33, 1, 16)[:, 0] > 0).numpy() & known
    masks = {"psnr_known": known, "psnr_hole": ~known, "psnr_ring": ring, "psnr": np.ones_like(known)}
    scores = {
        name: 10 * np.log10(255**2 / max(error[mask].mean(), 1e-9)) if mask.any() else np.nan
        for name, mask in masks.items()
    }
    both = ~known[1:] & ~known[:-1]
    change = np.diff(rgb.astype(np.float64), axis=0) - np.diff(truth.astype(np.float64), axis=0)
    return scores | {"unsteady_hole": float(np.abs(change).mean(-1)[both].mean())}


def _run(item: Any, inputs: Any, config: RecaptureConfig, **changed: Any) -> dict[str, np.ndarray]:
    """Make the stage's arrays, with functions or numbers of its module replaced."""
    before = {name: getattr(stage, name) for name in changed}
    for name, value in changed.items():
        setattr(stage, name, value)
    try:
        return _arrays(item, inputs, config)
    finally:
        for name, value in before.items():
            setattr(stage, name, value)


def _arrays(item: Any, inputs: Any, config: RecaptureConfig) -> dict[str, np.ndarray]:
    made: dict[str, list[np.ndarray]] = {}

    class _Writer:
        def __init__(self) -> None:
            self.meta: dict[str, Any] = {}

        def frames(self, **_: Any) -> Any:
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            return None

        def append(self, **arrays: np.ndarray) -> None:
            for name, array in arrays.items():
                made.setdefault(name, []).append(array)

    writer: Any = _Writer()
    stage.EnlargeStage(config.fill, config.render).run(item, inputs, writer)
    return {name: np.concatenate(parts) for name, parts in made.items()}


def _enlarged_result(item: Any, inputs: Any, config: RecaptureConfig) -> dict[str, np.ndarray]:
    frames = np.arange(len(inputs["render"].read_npz("cameras.npz")["source_frame"]))
    filled = stage.read_filled(inputs["fill"], inputs["render"], frames)["rgb"]
    height, width = inputs["ingest"].meta["content"]
    video = stage.to_video(filled[:, :height, :width])
    size = item.params.clip.height, item.params.clip.width
    return {"rgb": stage.to_frames(stage.enlarge_video(video, size))}


def _plain(mode: str) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    def enlarge(depth: Tensor, small: Tensor, large: Tensor, break_ratio: float) -> Tensor:
        del small, break_ratio
        more = {} if mode == "nearest" else {"align_corners": False}
        nearness = torch.where(depth > 0, 1 / depth, 0.0)
        found = interpolate(nearness[:, None], large.shape[2:], mode=mode, **more)[:, 0]
        return torch.where(found > 0, 1 / found, 0.0)

    return enlarge


class _Pasted(stage.Compositing):
    def __call__(self, generated: Tensor, video: Tensor, known: Tensor) -> Tensor:
        return torch.where(known[:, None], video, generated)


WAYS: dict[str, Callable] = {
    "enlarged result": _enlarged_result,
    "bilinear depth": lambda *given: _run(*given, enlarge_depth=_plain("bilinear")),
    "nearest depth": lambda *given: _run(*given, enlarge_depth=_plain("nearest")),
    "source size": _run,
    "pasted": lambda *given: _run(*given, Compositing=_Pasted),
    "8 frames at a time": lambda *given: _run(*given, COMPOSITED=8),
}


def _cost(given: argparse.Namespace, root: str) -> Table:
    given.scenes = 1
    config, store, plan = _job(given, root, TRAJECTORIES[0])
    (item,) = plan.items
    inputs = {name: store.open(name, key) for name, key in item.inputs.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        made = ArtifactStore(folder).create("enlarge", "k")
        with made as output:
            stage.EnlargeStage(config.fill, config.render).run(item, inputs, output)
            stored = output.total_bytes / given.frames / 2**20
    seconds = (time.process_time() - begin) / given.frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows: list[list[Cell]] = [[f"{given.height}x{given.width}", seconds, before, peak, stored]]
    columns = [
        Column("size"),
        Column("CPU s per frame", ".2f"),
        Column("GiB before", ".2f"),
        Column("GiB at most", ".2f"),
        Column("MiB stored per frame", ".1f"),
    ]
    name = f"{given.write or 'source-size'}-cost"
    return Table(name, f"{given.frames} frames, one process", columns, rows, this_run())


if __name__ == "__main__":
    main()
