"""The results page as HTML: of a dataset, of a clip, and of two jobs beside each other.

Pages are static. That of a dataset and that of two jobs hold all they need but the videos; pages of clips
share the files of `_page`. Names of clips may hold any sign: in HTML they are escaped by Jinja, in scripts
by `in_script`, in addresses by `address`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from recapture.tasks.report.record import DELIVERED, DROPPED, FOLDER, MISSING, Report

HERE = Path(__file__).parent
CSS = "page.css"
CODE = ("player.js", "table.js", "index.js", "clip.js", "compare.js")
STATES = (DELIVERED, MISSING, DROPPED)
ARROWS = {True: "↑", False: "↓", None: ""}
FIRST = (
    "psnr",
    "ssim",
    "consistency_psnr",
    "hole_share",
)  # what videos are ranked by
SHOWN = (
    *("psnr", "psnr_hole", "psnr_seam", "ssim", "consistency_psnr"),
    *("rotation_error_deg", "feature_distance", "hole_share"),
)  # columns at first
FACTS = ("psnr", "psnr_hole", "consistency_psnr", "rotation_error_deg", "hole_share")
LISTED = 500  # failures and warnings on the page


def in_script(value: Any) -> Markup:
    """Return a value as JSON that may stand in a script of a page; infinity as a number that reads so."""
    text = json.dumps(value, separators=(",", ":"))
    return _safe(text)


def _safe(text: str) -> Markup:
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def address(path: str) -> str:
    """Return a path as a relative address, for any sign in it."""
    return "/".join(quote(part, safe="") for part in path.split("/"))


def number(value: float | None) -> str:
    """Return a number as pages show it: three significant digits, no more than needed."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 10:
        text = f"{size:.0f}" if size >= 1000 else f"{size:.1f}"
    else:
        text = f"{size:.1e}".replace("e-0", "e-") if 0 < size < 0.01 else f"{size:.3g}"
    return f"−{text}" if value < 0 and float(text) else text


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 and math.isfinite(value) else text


def count(value: float) -> str:
    """Return a number of things, its thousands apart."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def moment(ended: str) -> str:
    """Return when a job ended, in UTC."""
    return f"{datetime.fromisoformat(ended):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that says something."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(number=number, signed=signed, count=count)
    return made


@cache
def asset(name: str) -> str:
    """Return the text of a file that pages share."""
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def render(template: str, scripts: Sequence[str], data: Markup, **given: Any) -> str:
    """Return a page; without `assets`, the address of the shared files, they are part of it."""
    if "assets" not in given:
        given |= {"css": Markup(asset(CSS)), "code": {name: Markup(asset(name)) for name in scripts}}
    return _templates().get_template(template).render(scripts=scripts, data=data, **given)


@cache
def definitions() -> Mapping[str, Any]:
    """Return metric -> its unit, which side is better, and what it is, in the order of tables."""
    from recapture.models.metrics.learned import LEARNED_METRICS
    from recapture.models.metrics.suite import METRICS

    return {**METRICS, **LEARNED_METRICS}


def described(name: str) -> dict[str, Any]:
    """Return what a page says about a metric."""
    found = definitions().get(name)
    if found is None:
        return {"name": name, "unit": "", "better": None, "arrow": "", "definition": "", "shown": True}
    unit = "" if name.endswith(found.unit) else found.unit
    better = found.higher_is_better
    about = {"unit": unit, "better": better, "arrow": ARROWS[better], "definition": found.definition}
    return {"name": name, "shown": name in SHOWN, **about}


def metric_names(report: Report, method: str) -> list[str]:
    """Return the metrics of a method: first what is looked at first, then in the order of definitions."""
    names = {name.partition("/")[2] for name in report.videos.metrics if name.startswith(f"{method}/")}
    order = [*FIRST, *definitions()]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def index_page(report: Report, *, linked: bool = True, comparisons: Sequence[str] = ()) -> str:
    """Return the page of a dataset. linked: the videos and the pages of clips are beside it."""
    videos, main = report.videos, next(iter(report.videos.methods), "")
    names = metric_names(report, main)
    metrics = [described(name) for name in names]
    means = {name: _mean(videos.metrics[name]) for name in videos.metrics}
    facts = [described(name) | {"value": means[f"{main}/{name}"]} for name in FACTS if name in names]
    table = _rows(report.videos.methods, names, means)
    return render(
        "index.html",
        ("player.js", "table.js", "index.js"),
        _index_data(report, main, metrics, linked),
        report=report,
        linked=linked,
        first=_first(report, main, metrics) if linked else None,
        metrics=metrics,
        facts=facts[:4],
        table={"methods": videos.methods, "rows": table},
        ended=moment(report.ended),
        duration=duration(report.seconds),
        failures=report.failures[:LISTED],
        warnings=report.warnings[:LISTED],
        comparisons=comparisons,
    )


def clip_page(report: Report, clip: str, places: Iterable[int]) -> str:
    """Return the page of a clip; places: of its videos."""
    videos, places = report.videos, list(places)
    methods = videos.methods
    names = metric_names(report, methods[0]) if methods else []
    shown = []
    for at in places:
        values = {name: videos.value(name, at) for name in videos.metrics}
        rows = [row for row in _rows(methods, names, values) if any(one is not None for one in row["means"])]
        label = videos.label[at]
        files = [{"name": name, "href": f"{address(label)}/{address(name)}"} for name in report.files]
        one = {"label": label, "status": videos.status[at], "reason": videos.reason[at], "files": files}
        shown.append(one | {"rows": rows, "methods": methods})
    data = {
        "clip": clip,
        "labels": [one["label"] for one in shown],
        "delivered": [one["status"] == DELIVERED for one in shown],
    }
    root = "/".join([".."] * (clip.count("/") + 1))
    return render(
        "clip.html",
        ("player.js", "clip.js"),
        in_script(data),
        first=next((address(videos.label[at]) for at in places if videos.status[at] == DELIVERED), None),
        assets=f"{root}/{FOLDER}",
        root=root,
        clip=clip,
        dataset=report.dataset,
        videos=shown,
    )


def _first(report: Report, main: str, metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the address of the video that the page shows at once: the worst, as its script ranks them."""
    videos = report.videos
    places = [at for at, status in enumerate(videos.status) if status == DELIVERED]
    if metrics:
        name, turn = f"{main}/{metrics[0]['name']}", 1 if metrics[0]["better"] else -1
        known = [(turn * value, at) for at in places if (value := videos.value(name, at)) is not None]
        places = [min(known)[1]] if known else []
    return f"{address(videos.clip[places[0]])}/{address(videos.label[places[0]])}" if places else None


def _rows(
    methods: Sequence[str], names: Sequence[str], values: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    return [
        described(name) | {"means": [values.get(f"{method}/{name}") for method in methods]} for name in names
    ]


def _mean(column: Iterable[float | None]) -> float | None:
    """Return the mean of what is finite, as the summary of a job has it."""
    known = [value for value in column if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def column_text(column: Sequence[float | None], length: int) -> str:
    """Return a column as JSON with five significant digits; much shorter than what json writes."""
    texts = [
        "null" if one is None else f"{one:.5g}" if math.isfinite(one) else _endless(one) for one in column
    ]
    return "[" + ",".join([*texts, *["null"] * (length - len(texts))]) + "]"


def _endless(value: float) -> str:
    return "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"


def _index_data(report: Report, main: str, metrics: Sequence[Mapping[str, Any]], linked: bool) -> Markup:
    videos = report.videos
    state = {name: place for place, name in enumerate(STATES)}
    fixed = {
        "linked": linked,
        "clips": videos.clip,
        "labels": videos.label,
        "status": [state[one] for one in videos.status],
        "reasons": {at: reason for at, reason in enumerate(videos.reason) if reason},
    }
    columns = []
    for one in metrics:
        about = json.dumps(one)
        text = column_text(videos.metrics[f"{main}/{one['name']}"], len(videos))
        columns.append(f'{about[:-1]},"values":{text}}}')
    head = json.dumps(fixed, separators=(",", ":"))
    return _safe(f'{head[:-1]},"metrics":[{",".join(columns)}]}}')
