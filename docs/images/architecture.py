"""Draw architecture.png: the floors, their rooms, and the way of a job through them.

python docs/images/architecture.py
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

TARGET = Path(__file__).with_suffix(".png")
INK, FAINT, WAY = "#1f2933", "#52606d", "#c2410c"
FLOORS = {  # left, bottom, width, height, colour
    "flows": (0.0, 6.55, 14.0, 1.95, "#dbeafe"),
    "tasks": (0.0, 3.5, 14.0, 2.85, "#dcfce7"),
    "models": (0.0, 1.25, 6.9, 2.05, "#fef3c7"),
    "datasets": (7.1, 1.25, 6.9, 2.05, "#fce7f3"),
    "conf": (0.0, 0.0, 14.0, 1.05, "#e5e7eb"),
}
ABOUT = {
    "flows": "what happens, and when: Prefect and the command line",
    "tasks": "stages, and what runs them: Ray, MLflow",
    "models": "PyTorch: tensors in, tensors out",
    "datasets": "clips and cameras",
    "conf": "all settings, with defaults and bounds",
}
ROOMS = [  # left, bottom, width, height, name, lines
    (0.2, 6.7, 3.2, 1.2, "cli.py", "commands/: plan, status,\nreplay, gc, doctor, …"),
    (
        4.4,
        6.7,
        4.4,
        1.2,
        "one file per flow",
        "recapture_dataset, inpaint,\npreview, train_iterative, pretrain",
    ),
    (9.8, 6.7, 4.0, 1.2, "run_job.py", "carries out the plans\nof any job, delivers, reports"),
    (0.2, 3.65, 1.9, 2.1, "pretrain/", "the embedded\nbase"),
    (2.3, 3.65, 2.3, 2.1, "tune/", "pairs, tune,\nexplore; rounds;\nmany GPUs"),
    (
        4.8,
        3.65,
        3.2,
        2.1,
        "jobs/",
        "one file per stage:\ningest, depth, mask, render,\nfill, measure, deliver, preview",
    ),
    (8.2, 3.65, 2.2, 2.1, "clip/", "size, camera path,\nframes, sheets:\nshared by stages"),
    (
        10.6,
        3.65,
        3.2,
        2.1,
        "engine/",
        "stage: the contract\nplanner: items and keys\nrun_stage: what is missing\nexecutors and worker",
    ),
    (
        0.2,
        1.4,
        6.5,
        1.3,
        "",
        "geometry/   depth/   wan/   fill/   metrics/\ninverse/   tuning/   training/   pretraining/",
    ),
    (7.3, 1.4, 3.7, 1.3, "", "readers/   clips/   cameras/\nmedia/   scenes/"),
    (11.2, 1.4, 2.6, 1.3, "store/", "artifacts, manifests,\nquarantine"),
]
STEPS = [  # from, to; numbered in this order
    ((3.4, 7.3), (4.4, 7.3)),
    ((8.8, 7.3), (9.8, 7.3)),
    ((12.2, 6.7), (12.2, 5.75)),
    ((10.6, 3.88), (8.0, 3.88)),
    ((5.6, 3.65), (4.6, 2.7)),
    ((7.9, 3.65), (12.1, 2.7)),
]


def draw_floor(axes: Axes, name: str) -> None:
    left, bottom, width, height, colour = FLOORS[name]
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=colour, ec="none"
        )
    )
    top = bottom + height - 0.32
    axes.text(left + 0.2, top, f"{name}/", fontsize=14, fontweight="bold", color=INK, va="center")
    axes.text(left + 1.75, top, ABOUT[name], fontsize=10.5, color=FAINT, va="center")


def draw_room(
    axes: Axes, left: float, bottom: float, width: float, height: float, name: str, lines: str
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            fc="white",
            ec="#9aa5b1",
            lw=1,
        )
    )
    middle = left + width / 2
    if name:
        axes.text(
            middle,
            bottom + height - 0.27,
            name,
            fontsize=12,
            fontweight="bold",
            color=INK,
            ha="center",
            va="center",
        )
    axes.text(
        middle,
        bottom + (height - (0.45 if name else 0)) / 2,
        lines,
        fontsize=10,
        color=INK,
        ha="center",
        va="center",
        linespacing=1.35,
    )


def draw_step(axes: Axes, number: int, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": WAY, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    )
    place = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    axes.text(
        *place,
        str(number),
        fontsize=11,
        fontweight="bold",
        color="white",
        ha="center",
        va="center",
        bbox={"boxstyle": "circle,pad=0.22", "fc": WAY, "ec": "white"},
    )


def main() -> None:
    figure, axes = pyplot.subplots(figsize=(13, 8))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    axes.set(xlim=(-0.1, 14.1), ylim=(-0.1, 8.6))
    axes.axis("off")
    for name in FLOORS:
        draw_floor(axes, name)
    for room in ROOMS:
        draw_room(axes, *room)
    axes.text(
        0.2,
        0.3,
        "schema.py   fill.py   mask.py   trajectory.py   tune.py   pretrain.py   profile/*.yaml",
        fontsize=11,
        color=INK,
    )
    axes.text(
        6.0,
        6.03,
        "imports: pretrain, tune → jobs → clip → engine",
        fontsize=10.5,
        color=FAINT,
        ha="left",
        va="center",
    )
    for number, (start, end) in enumerate(STEPS, 1):
        draw_step(axes, number, start, end)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(128).save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
