"""Do the metrics in weights/features put known degradations in order, and what does PSNR prefer beside them?

    python benchmarks/perceptual.py --write

Clips of two families of scenes that no training saw, and of the bundled videos; every degradation at four
doses, against the clips as they were. Takes about a minute on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.datasets.scenes.film_world import film
from recapture.datasets.scenes.held_out_worlds import make_world
from recapture.models.metrics.feature_net import FeatureNet, load_feature_net
from recapture.models.metrics.frechet import frechet_distance
from recapture.models.training.degradations import OF_MOTION, OF_PICTURES, Degradation
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.engine.model_revision import WEIGHTS
from recapture.tasks.pretrain.judge_features import degraded, look, ordered_share

FAMILIES = ("outdoor", "cutout", "videos")
DOSES = (0.0, 0.25, 0.55, 1.0)
FRAMES, SIDE = 12, 96
FOOTAGE = Path(__file__).parents[1] / "datasets/sample/real"
RISING = {"PSNR": -1, "feature_distance": 1, "view_agreement": -1, "frechet_image": 1, "frechet_clip": 1}
MILD = "gain"  # a third more or less contrast: of all degradations the one that eyes mind least
WORSE = ("blur", "block", "double", "smear", "warp", "colour")
Curves = Mapping[str, Mapping[str, np.ndarray]]  # degradation -> metric -> [clips, doses] or [doses]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=4)
    add_write(parser, "perceptual")
    given = parser.parse_args()
    begin, run = given.write or "perceptual", this_run()
    net = load_feature_net(WEIGHTS / "features")
    curves = {}
    for family in FAMILIES:
        curves[family] = measured(net, torch.stack(list(clips(family, given.clips))))
        print(family, "done", flush=True)
    what = f"{given.clips} clips of {FRAMES} frames of {SIDE}x{SIDE}"
    columns = [Column("clips"), Column("degradation"), *(Column(metric, ".2f") for metric in RISING)]
    title = f"Share of neighbouring doses (0, 0.25, 0.55, 1) in order, {what}"
    tables = [Table(f"{begin}-order", title, columns, list(order_rows(curves)), run)]
    columns = [Column("clips"), Column("worse than a change of contrast")]
    columns += [Column("PSNR, dB", ".1f"), Column("PSNR of the contrast, dB", ".1f")]
    columns += [Column(f"{metric} agrees", ".2f") for metric in list(RISING)[:3]]
    title = f"Share of clips of which a metric calls a degradation of dose 0.55 worse than {MILD} of dose 1"
    tables.append(Table(f"{begin}-eyes", f"{title}, {what}", columns, list(eye_rows(curves)), run))
    publish(tables, write=given.write is not None)


def clips(family: str, count: int) -> Iterator[Tensor]:
    """Yield clips [T, 3, S, S] of a family in [-1, 1]."""
    if family == "videos":
        names = sorted(FOOTAGE.glob("*.mp4"))
        for index in range(count):
            yield footage(names[index % len(names)], index // len(names))
        return
    for seed in range(count):
        world = make_world(family, seed)  # type: ignore[arg-type]
        cameras = world.cameras(FRAMES, SIDE, SIDE)
        yield film(world, *cameras, torch.arange(FRAMES), SIDE, SIDE).video


def footage(file: Path, part: int) -> Tensor:
    """Return the part-th frames of a video, the middle square of each."""
    frames = []
    with av.open(str(file)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= (part + 1) * FRAMES:
                break
            if index >= part * FRAMES:
                picture = frame.to_ndarray(format="rgb24")
                side = min(picture.shape[:2])
                top, left = ((length - side) // 2 for length in picture.shape[:2])
                square = picture[top : top + side, left : left + side]
                frames.append(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return to_video(np.stack(frames), torch.device("cpu"))


@torch.inference_mode()
def measured(net: FeatureNet, shown: Tensor) -> Curves:
    """Return every metric of every degradation at all doses; shown: [B, T, 3, S, S]."""
    truth = look(net, shown)
    curves: dict[str, dict[str, np.ndarray]] = {}
    kinds: tuple[dict[str, Degradation], ...] = (OF_PICTURES, OF_MOTION)
    for group in kinds:
        for index, kind in enumerate(group):
            rows: dict[str, list[np.ndarray]] = {metric: [] for metric in RISING}
            for dose in DOSES:
                made = degraded(shown, group, index, dose)
                frames, seen, windows = look(net, made)
                error = (made - shown).square().mean((1, 2, 3, 4)).clamp_min(1e-10)
                apart, agreed = net.distance(seen, truth[1]), (seen.view * truth[1].view).sum(1)
                rows["PSNR"].append((10 * torch.log10(4 / error)).numpy())
                rows["feature_distance"].append(apart.unflatten(0, shown.shape[:2]).mean(1).numpy())
                rows["view_agreement"].append(agreed.unflatten(0, shown.shape[:2]).mean(1).numpy())
                sets = (frames, truth[0]), (windows, truth[2])
                for metric, (one, other) in zip(("frechet_image", "frechet_clip"), sets):
                    rows[metric].append(np.array(frechet_distance(one.numpy(), other.numpy())))
            curves[kind] = {metric: np.stack(values, -1) for metric, values in rows.items()}
    return curves


def order_rows(curves: Mapping[str, Curves]) -> Iterator[list[Cell]]:
    """Yield the rows of the first table, and of each family the mean."""
    for family, of_family in curves.items():
        shares = []
        for kind, values in of_family.items():
            shares.append([ordered_share(sign * values[metric]) for metric, sign in RISING.items()])
            yield [family, kind, *shares[-1]]
        yield [family, "mean", *np.mean(shares, 0).tolist()]


def eye_rows(curves: Mapping[str, Curves]) -> Iterator[list[Cell]]:
    """Yield the rows of the second table."""
    dose = DOSES.index(0.55)
    for family, of_family in curves.items():
        for kind in WORSE:
            worse, mild = of_family[kind], of_family[MILD]
            agrees = [
                float((RISING[m] * worse[m][:, dose] > RISING[m] * mild[m][:, -1]).mean())
                for m in list(RISING)[:3]
            ]
            yield [
                family,
                kind,
                float(worse["PSNR"][:, dose].mean()),
                float(mild["PSNR"][:, -1].mean()),
                *agrees,
            ]


if __name__ == "__main__":
    main()
