"""Training curves of pre-training: PART.jsonl in its working folder, one line per record."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recapture.models.training.schedule import Log


def file_log(folder: Path, part: str) -> Log:
    """Return a log that appends each record to the part's file as a JSON line, and prints it."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()

    def write(step: int, values: Mapping[str, float]) -> None:
        rounded = {name: round(value, 6) for name, value in values.items()}
        line = json.dumps({"step": step, "machine": machine, **rounded})
        print(part, line, flush=True)
        with _path(folder, part).open("a") as file:
            file.write(line + "\n")

    return write


def curve(folder: Path, part: str) -> dict[int, dict[str, float]]:
    """Return a part's log: step -> values; for steps that a resumed run repeated, the last record."""
    points = {
        entry["step"]: {name: value for name, value in entry.items() if name not in ("step", "machine")}
        for entry in _entries(folder, part)
    }
    return dict(sorted(points.items()))


def seconds(folder: Path, part: str) -> float:
    """Return the seconds of a part's steps, data generation included; repeated steps count once."""
    took, last = 0.0, 0
    for entry in _entries(folder, part):
        steps = max(0, entry["step"] - last)
        took += steps / entry["steps_per_second"]
        last += steps
    return took


def machines(folder: Path, parts: Sequence[str]) -> str:
    """Return the machines on which the parts were trained, separated by commas."""
    return ", ".join(sorted({entry["machine"] for part in parts for entry in _entries(folder, part)}))


def _path(folder: Path, part: str) -> Path:
    return folder / f"{part}.jsonl"


def _entries(folder: Path, part: str) -> list[dict[str, Any]]:
    path = _path(folder, part)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
