"""The table of an evaluation in the form of the papers, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from recapture.tasks.evaluate.protocol import Metric, Protocol
from recapture.tasks.evaluate.score import Scores


def as_json(protocol: Protocol, method: str, scores: Scores) -> dict[str, Any]:
    """Return everything that was measured, and the published rows, for JSON."""
    return {
        "protocol": protocol.name,
        "title": protocol.title,
        "paper": protocol.paper,
        "metrics": [asdict(metric) for metric in protocol.metrics],
        "published": [asdict(row) for row in protocol.published],
        "method": method,
        "complete": not scores.failed,
        "means": scores.means(),
        "scenes": scores.scenes,
        "failed": scores.failed,
    }


def as_markdown(protocol: Protocol, method: str, scores: Scores) -> str:
    """Return the page: published rows, the measured row, every scene, definitions, and what has no value."""
    metrics = protocol.metrics
    heads = ["Method", *(f"{one.name} {'↑' if one.higher_is_better else '↓'}" for one in metrics), "Source"]
    rows = [
        [row.method, *_cells(row.values, metrics), f"published: {row.source}"] for row in protocol.published
    ]
    scored, asked = len(scores.scenes), len(protocol.scenes)
    part = f"measured, {scored} of {asked} scenes" + ("" if scored == asked else ": not comparable")
    rows.append([f"**{_plain(method)}**", *_cells(scores.means(), metrics), part])
    lines = [f"# {protocol.title}", "", *_table(heads, rows), ""]
    scenes = [[scene, *_cells(values, metrics)] for scene, values in scores.scenes.items()]
    lines += [*_table(["Scene", *heads[1:-1]], scenes), ""]
    lines += [f"Definitions ({protocol.paper}):", ""]
    lines += [f"- **{one.name}**: {one.definition}." for one in metrics]
    if scores.failed:
        lines += ["", "Without a value:", ""]
        lines += [f"- {scene}: {_plain(reason)}" for scene, reason in scores.failed.items()]
    return "\n".join(lines) + "\n"


def _cells(values: dict[str, float], metrics: Sequence[Metric]) -> list[str]:
    return [f"{values[one.name]:.{one.digits}f}" if one.name in values else "–" for one in metrics]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
