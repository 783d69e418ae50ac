"""Tables of the benchmarks: a JSON file for each, and the part of a page that is generated from it.

A script prints its tables; with --write it also stores them in benchmarks/tables/NAME.json and fills the
place of each in its page, between `<!-- table NAME: generated -->` and `<!-- end -->`. Do not edit that part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recapture.tasks.engine.mlflow_link import code_version
from recapture.tasks.engine.model_revision import model_revision

PAGES = Path(__file__).parents[1]
TABLES = PAGES / "tables"
MEASURED = "written by the script"
PLACE = re.compile(r"<!-- table (?P<name>\S+): generated -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)

Cell = str | int | float | None | list[float]  # a list: mean, low and high end of its interval


@dataclass(frozen=True)
class Run:
    """Where and by what command numbers were measured."""

    command: str
    machine: str
    date: str
    commit: str | None = None
    base: str | None = None  # the first digits of the hash of the base
    provenance: str = MEASURED


@dataclass(frozen=True)
class Column:
    """A column's heading, and the format of its numbers; intervals are always '+.2f'."""

    name: str
    format: str = ""


@dataclass(frozen=True)
class Table:
    """One table, as its JSON file holds it."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    run: Run
    notes: Sequence[str] = field(default_factory=list)

    def cell(self, row: str, column: str) -> Cell:
        """Return the cell of the row whose first cells are `row` (joined by ' / '). Raises KeyError."""
        place = [one.name for one in self.columns].index(column)
        for cells in self.rows:
            if row in (str(cells[0]), " / ".join(str(cell) for cell in cells[:2])):
                return cells[place]
        raise KeyError(f"table {self.name!r} has no row {row!r}")


def add_write(parser: argparse.ArgumentParser, name: str) -> None:
    """Add --write, whose value is the beginning of the tables' names."""
    parser.add_argument(
        "--write",
        nargs="?",
        const=name,
        metavar="NAME",
        help=f"Also write tables/NAME….json and their places in the page; NAME is {name!r} if left out.",
    )


def publish(tables: Iterable[Table], *, write: bool) -> None:
    """Print the tables; with `write`, also store them and fill their places in the pages.

    Raises SystemExit naming a table that no page has a place for.
    """
    for table in tables:
        print(f"{markdown(table)}", flush=True)
        if write:
            save(table)
            fill_places(table)


def markdown(table: Table) -> str:
    """Return the table with a line about its origin, as it stands in a page."""
    head = [column.name for column in table.columns]
    numbers = [
        all(isinstance(row[place], int | float | list | None) for row in table.rows) or bool(column.format)
        for place, column in enumerate(table.columns)
    ]
    lines = [
        f"{table.title}{'. ' if table.title else ''}{origin(table.run)}",
        "",
        f"| {' | '.join(head)} |",
        "|" + "|".join("---:" if right else "---" for right in numbers) + "|",
        *(
            f"| {' | '.join(text(cell, column.format) for cell, column in zip(row, table.columns))} |"
            for row in table.rows
        ),
    ]
    for note in table.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def origin(run: Run) -> str:
    """Return command, machine, date and code of a run in one line."""
    parts = [f"`{run.command}`", run.machine]
    parts += [run.date if run.provenance == MEASURED else run.provenance]
    parts += [f"commit {run.commit}"] if run.commit else []
    parts += [f"base {run.base}"] if run.base else []
    return f"{'; '.join(parts)}."


def text(cell: Cell, style: str) -> str:
    """Return a cell as a page shows it: '+1.30 [+1.05, +1.56]' for a mean and its interval."""
    if cell is None or cell != cell:  # NaN: nothing was there to be measured
        return ""
    if isinstance(cell, list):
        return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*cell)
    return cell if isinstance(cell, str) else format(cell, style)


def save(table: Table, folder: Path = TABLES) -> Path:
    """Write tables/NAME.json, one row per line."""
    described = asdict(table)
    rows = [json.dumps(_plain(row), ensure_ascii=False) for row in described.pop("rows")]
    head = json.dumps(described, indent=2, ensure_ascii=False)
    body = ",\n    ".join(rows)
    path = folder / f"{table.name}.json"
    path.write_text(f'{head[:-2]},\n  "rows": [\n    {body}\n  ]\n}}\n')
    return path


def load(name: str, folder: Path = TABLES) -> Table:
    """Return a stored table."""
    found = json.loads((folder / f"{name}.json").read_text())
    columns = [Column(**column) for column in found.pop("columns")]
    return Table(columns=columns, run=Run(**found.pop("run")), **found)


def fill_places(table: Table, pages: Path = PAGES) -> None:
    """Write the table where a page has a place for it. Raises SystemExit if no page has."""
    filled = False
    for page in sorted(pages.glob("*.md")):
        before = page.read_text()
        after = PLACE.sub(lambda place: _filled(place, table), before)
        filled |= any(place["name"] == table.name for place in PLACE.finditer(before))
        if after != before:
            page.write_text(after)
    if not filled:
        raise SystemExit(
            f"no page has a place for the table {table.name!r}; put the lines "
            f"<!-- table {table.name}: generated --> and <!-- end --> into one, or give another --write NAME"
        )


def _filled(place: re.Match[str], table: Table) -> str:
    if place["name"] != table.name:
        return place[0]
    return f"<!-- table {table.name}: generated -->\n{markdown(table)}<!-- end -->"


def this_run(*, device: str = "cpu", base: str | None = None, measured_on: str | None = None) -> Run:
    """Return the origin of what this process measures.

    base: its directory. measured_on: the dates of rows of earlier calls, if it uses such.
    """
    return Run(
        shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        f"{machine(device)}, torch {torch.__version__}",
        measured_on or date.today().isoformat(),
        code_version().get("mlflow.source.git.commit"),
        None if base is None else model_revision("--base", base)[:8],
    )


def machine(device: str = "cpu") -> str:
    """Return the GPU's name, or the kind and number of CPU cores."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} cores ({platform.machine()})"


def interval(values: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean."""
    random = np.random.default_rng(0)
    means = random.choice(values, (draws, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def with_interval(gains: np.ndarray) -> list[float] | None:
    """Return mean, low and high end of the interval of what is not NaN; None if nothing is left."""
    gains = gains[~np.isnan(gains)]
    return [float(gains.mean()), *interval(gains)] if len(gains) else None


def _plain(cells: Sequence[Any]) -> list[Any]:
    plain = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    return [None if cell != cell else cell for cell in plain]  # JSON has no NaN
