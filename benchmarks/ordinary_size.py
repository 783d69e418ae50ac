"""Ordinary clips at real size: what the stages for clips without sidecars cost, and what they find.

    python benchmarks/ordinary_size.py --work state/ordinary --write
    python benchmarks/ordinary_size.py --work state/ordinary --case seeds --write

Clips as telephones film them (bench/phone_clips.py), without captions, depth, cameras or masks. Every stage
runs in a process of its own, one item after the other, with one thread. CPU seconds are user and system time
while the items are worked on; the peak of memory (VmHWM) is that above what the process had after set-up.
With --work, artifacts are kept, and a stage whose artifacts exist is not measured again. Takes about half an
hour on one idle core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stage_costs import Clock, status

from bench.phone_clips import make_clips
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import StagePlan, supposed
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import ClipJob, recapture_stages

AUTO = "{name: auto, preset: orbit_right, amount: auto}"
SUBJECT = "{name: subject, preset: orbit_right, amount: auto, subject: {}}"
REVERSED = (
    "{name: reversed, preset: dolly_in, amount: auto, subject: {framing: first}, time: {mode: reverse}}"
)
LEFT_OUT = ("baselines", "measure")  # their costs are in stage_costs.md


@dataclass(frozen=True)
class Case:
    """A job: its clips, and what differs from the default settings."""

    frames: int
    size: tuple[int, int]  # of the files
    short_side: int
    where: str
    trajectories: str
    settings: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)  # mask.select, in pixels of the clip


BUNNY = {"box": [270, 15, 515, 450], "frame": 40}
PEDESTRIAN = {"box": [1340, 660, 190, 300]}
CLASSICAL = {"fill.method": "classical"}
CASES = {
    "81 frames": Case(81, (960, 1664), 480, "clip0002", f"[{SUBJECT}]", CLASSICAL, {"clip0002": PEDESTRIAN}),
    "300 frames": Case(
        300,
        (480, 832),
        240,
        "clip0001",
        f"[{REVERSED}]",
        CLASSICAL,
        {"clip0001": BUNNY},
    ),
    "seeds": Case(
        5,
        (960, 1664),
        480,
        "clip0002",
        f"[{AUTO}]",
        {"seeds": "3", "fill.method": "base", "fill.steps": "4"},
    ),
    "source size": Case(
        17, (960, 1664), 480, "clip0000", f"[{AUTO}]", {**CLASSICAL, "deliver.size": "source"}
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, help="Folder for clips, artifacts and rows; kept.")
    parser.add_argument("--case", choices=CASES, action="append", help="Measure these alone.")
    parser.add_argument("--tables", action="store_true", help="Measure nothing, show what --work keeps.")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "STAGE"), help=argparse.SUPPRESS)
    add_write(parser, "ordinary-size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work_folder = given.work or Path(made)
        if given.one:
            print(json.dumps(run_one(given.one[0], given.one[1], work_folder)))
            return
        for name in () if given.tables else given.case or CASES:
            measure(name, work_folder)
        names = [name for name in CASES if rows_file(work_folder, name).exists()]
        tables = [costs(given.write or "ordinary-size", names, work_folder)]
        tables.append(found(f"{given.write or 'ordinary-size'}-found", names, work_folder))
        publish(tables, write=given.write is not None)


def rows_file(folder: Path, name: str) -> Path:
    """Return the file that keeps a case's measurements."""
    return folder / f"{name.replace(' ', '_')}.json"


def measure(name: str, folder: Path) -> None:
    """Run what is missing of a case, stage by stage, and keep its measurements."""
    case, path = CASES[name], rows_file(folder, name)
    make_clips(clips_of(case, folder), 3, case.frames, *case.size)
    for caption in clips_of(case, folder).glob("*.txt"):
        caption.unlink()
    rows: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    for stage in [plan.stage.name for plan in plans(case, folder)]:
        command = [sys.executable, __file__, "--work", str(folder), "--one", name, stage]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        fresh = json.loads(done.stdout.splitlines()[-1])
        print(name, stage, *fresh, sep="\n  ", file=sys.stderr, flush=True)
        old = {one["item"]: one for one in rows.get(stage, [])}
        rows[stage] = list((old | {one["item"]: one for one in fresh}).values())
        path.write_text(json.dumps(rows, indent=1))


def clips_of(case: Case, folder: Path) -> Path:
    """Return the folder of a case's clips."""
    return folder / "clips-{}x{}x{}".format(case.frames, *case.size)


def settings(case: Case, folder: Path) -> RecaptureConfig:
    """Return a case's job."""
    words = {
        "dataset.uri": str(clips_of(case, folder)),
        "dataset.where": case.where,
        "store": str(folder / "store"),
        "outputs": str(folder / "outputs"),
        "state": str(folder / "state"),
        "ingest.short_side": str(case.short_side),
        "trajectories": case.trajectories,
        "measure.baselines": "false",
        **case.settings,
    }
    if case.prompts:
        prompts = clips_of(case, folder) / "prompts.json"
        prompts.write_text(json.dumps(case.prompts))
        words |= {"mask.select.prompts": str(prompts)}
    return load_config(arguments=[word for name, value in words.items() for word in (f"--{name}", value)])


def plans(case: Case, folder: Path) -> list[StagePlan]:
    """Return the plans of a case that have items, without measuring."""
    config = settings(case, folder)
    stages = recapture_stages(config)
    for stage in stages:
        stage.resources = type(stage.resources)(1, 0)
    made = supposed(ClipJob.of(config, stages).plans())
    return [plan for plan in made if plan.items and plan.stage.name not in LEFT_OUT]


def run_one(name: str, stage: str, folder: Path) -> list[dict[str, Any]]:
    """Work on the items of one stage that are missing; return what each took and measured."""
    case = CASES[name]
    plan = next(plan for plan in plans(case, folder) if plan.stage.name == stage)
    store = ArtifactStore(settings(case, folder).store)
    missing = [item for item in plan.items if not store.exists(stage, item.key)]
    if not missing:
        return []
    rows = []
    with limited_threads(plan.stage.resources):
        plan.stage.setup()
        set_up = status("VmRSS")
        for item in missing:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now that of this item
            before = Clock.now()
            outcome = work(plan.stage, item, store, 1)
            row: dict[str, Any] = {"item": item.name, "cpu": Clock.now().cpu - before.cpu}
            row |= {"peak": status("VmHWM") - set_up, "mb": outcome.bytes / 1e6, "metrics": outcome.metrics}
            if outcome.status != "ok":
                print(outcome.traceback or outcome.error, file=sys.stderr)
                row["error"] = outcome.error
            rows.append(row)
    return rows


def costs(name: str, names: list[str], folder: Path) -> Table:
    """Return CPU seconds and memory by case and stage."""
    rows: list[list[Cell]] = []
    for case in names:
        for stage, items in json.loads(rows_file(folder, case).read_text()).items():
            if not items:
                continue  # its artifacts were there before
            seconds = [one["cpu"] for one in items]
            failed = sum("error" in one for one in items)
            peak, stored = max(one["peak"] for one in items), max(one["mb"] for one in items)
            mean = sum(seconds) / len(seconds)
            rows.append(
                [case, stage, len(items), failed, mean, 1e3 * mean / CASES[case].frames, peak, stored]
            )
    columns = [Column("case"), Column("stage"), Column("items", ".0f"), Column("failed", ".0f")]
    columns += [Column("CPU s per item", ".1f"), Column("CPU ms per frame", ".0f")]
    columns += [Column("peak, MiB", ".0f"), Column("MB", ".1f")]
    sizes = "; ".join(
        f"{case}: {CASES[case].frames} frames of {CASES[case].size[0]}x{CASES[case].size[1]}, "
        f"short side {CASES[case].short_side}"
        for case in names
    )
    return Table(name, "Clips as telephones film them, one thread", columns, rows, this_run(), [f"{sizes}."])


FOUND = {
    "camera_confidence": ".2f",
    "camera_path": ".3f",
    "camera_fov_degrees": ".0f",
    "selected_share": ".3f",
    "amount": ".1f",
    "amount_hole_share": ".3f",
    "subject_unseen_share": ".2f",
    "hole_share": ".3f",
    "spread_hole": ".3f",
}


def found(name: str, names: list[str], folder: Path) -> Table:
    """Return what the stages found, by case and item."""
    rows: list[list[Cell]] = []
    for case in names:
        merged: dict[str, dict[str, float]] = {}
        for items in json.loads(rows_file(folder, case).read_text()).values():
            for one in items:
                merged.setdefault(one["item"], {}).update(one["metrics"] or {})
        for item, metrics in merged.items():
            if any(key in metrics for key in FOUND):
                rows.append([case, item, *(metrics.get(key) for key in FOUND)])
    columns = [Column("case"), Column("item"), *(Column(key, style) for key, style in FOUND.items())]
    return Table(name, "What was found", columns, rows, this_run())


if __name__ == "__main__":
    main()
