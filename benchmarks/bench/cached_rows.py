"""Measurements that a benchmark keeps between calls, keyed by everything that their numbers depend on."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Collection, Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import recapture
from bench.tables import machine
from recapture.conf.fill import FillConfig
from recapture.conf.schema import RenderConfig
from recapture.conf.tune import MaskSharesConfig, TrainingConfig
from recapture.datasets.store.keys import content_key
from recapture.tasks.engine.model_revision import model_revision

BENCH = Path(__file__).parent
PRODUCT = Path(recapture.__file__).parent
MODELS = ("base", "adapter")  # arguments that name a model; the key holds its hash
HOW = ("workers", "seconds", "rows", "adapters", "table", "write")  # decide how a call works, not its numbers
NOT_IN_NUMBERS = (  # modules that only present or pass on numbers, or whose values are in the key themselves
    "bench.cached_rows",
    "bench.tables",
    "bench.parallel",
    "bench.inverse_tables",
    "bench.tuning_tables",
    "recapture.conf",
    "recapture.tasks.engine",
    "recapture.tasks.jobs",
)

At = tuple[Any, ...]


def setting_key(script: str, given: argparse.Namespace, *, chooses: Collection[str] = ()) -> str:
    """Return the content key of a setting: every argument, the sources, the models, the machine.

    script: path of the benchmark. chooses: arguments that only choose which rows are measured, such as
    --only; what distinguishes these rows is part of each row instead.
    """
    named = {name: value for name, value in vars(given).items() if name not in (*HOW, *chooses)}
    models = {name: named.pop(name) for name in MODELS if name in named}
    configs = (FillConfig(), RenderConfig(), MaskSharesConfig(), TrainingConfig())
    return content_key(
        Path(script).stem,
        source_hash(script),
        {name: str(value) if isinstance(value, Path) else value for name, value in named.items()},
        {name: model_revision(f"--{name}", value) for name, value in models.items() if value is not None},
        {
            "machine": machine(getattr(given, "device", "cpu")),
            "torch": torch.__version__,
            "defaults": {type(one).__name__: one.model_dump(mode="json") for one in configs},
        },
    )


class CachedRows:
    """The measurements of one setting; a file may hold those of many, one per line.

    A row is found by `at`, for instance (angle, scene, seed, name).
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.dates: set[str] = set()
        self._scores: dict[At, Any] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            if isinstance(row, dict) and row["key"] == key:
                self._remember(_hashable(row["at"]), row["scores"], row["date"])

    def __contains__(self, at: At) -> bool:
        return at in self._scores

    def __getitem__(self, at: At) -> Any:
        return self._scores[at]

    def items(self) -> Iterator[tuple[At, Any]]:
        """Yield (at, scores) of each row."""
        yield from self._scores.items()

    def add(self, at: At, scores: Any) -> None:
        """Keep a measurement in memory and in the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        today = date.today().isoformat()
        with self.path.open("a") as file:
            file.write(json.dumps({"key": self.key, "date": today, "at": at, "scores": scores}) + "\n")
        self._remember(at, scores, today)

    def measured_on(self) -> str:
        """Return the date of the rows, or the first and the last."""
        days = sorted(self.dates) or [date.today().isoformat()]
        return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"

    def _remember(self, at: At, scores: Any, day: str) -> None:
        self._scores[at] = scores
        self.dates.add(day)


@lru_cache
def source_hash(script: str) -> str:
    """Return a hash of the script and of all modules of `bench` and `recapture` that it imports.

    Comments, docstrings and formatting do not count, nor do the modules of NOT_IN_NUMBERS.
    """
    found: dict[str, str] = {}
    todo = {Path(script).stem: Path(script)}
    while todo:
        name, path = todo.popitem()
        tree = ast.parse(path.read_text())
        found[name] = ast.dump(_without_docstrings(tree))
        todo |= {name: path for name, path in _imported(tree) if name not in found}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"  # what ast.dump writes differs
    return content_key("sources", python, found, {}, {})


def _imported(tree: ast.Module) -> Iterator[tuple[str, Path]]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            folder = {"bench": BENCH, "recapture": PRODUCT}.get(package)
            if folder is None or name.startswith(NOT_IN_NUMBERS):
                continue
            if (file := folder / f"{rest.replace('.', '/')}.py").is_file():
                yield name, file


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return tree


def _hashable(at: list[Any]) -> At:
    return tuple(_hashable(one) if isinstance(one, list) else one for one in at)
