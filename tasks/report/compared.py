"""The page of two jobs beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from recapture.tasks.report import page
from recapture.tasks.report.compare import LEVEL, RESAMPLES, Difference, Pair, differences, pairs, values
from recapture.tasks.report.record import Report

WHISKER = 70  # pixels on either side of no difference


def compare_page(before: Report, after: Report, playable: Sequence[Pair], copies: str) -> str:
    """Return the page; playable: the pairs whose earlier videos are in the folder `copies`."""
    found = {one.metric: one for one in differences(before, after)}
    main = next(iter(after.videos.methods), "")
    names = [name for name in page.metric_names(after, main) if name in found]
    both = pairs(before, after)
    earlier = values(before, [pair.before for pair in both])
    later = values(after, [pair.after for pair in both])
    at = {pair: place for place, pair in enumerate(both)}
    columns = []
    for name in names:
        texts = [
            f'"{side}":{page.column_text(values_.tolist(), len(both))}'
            for side, values_ in (("before", earlier[name]), ("after", later[name]))
        ]
        columns.append(f"{json.dumps(page.described(name))[:-1]},{','.join(texts)}}}")
    fixed = {
        "clips": [after.videos.clip[pair.after] for pair in both],
        "labels": [after.videos.label[pair.after] for pair in both],
        "names": [f"Before: {before.run}", f"After: {after.run}"],
        "copies": copies,
        "playable": [at[pair] for pair in playable],
    }
    data = f'{page.in_script(fixed)[:-1]},"metrics":[{",".join(columns)}]}}'
    return page.render(
        "compare.html",
        ("player.js", "table.js", "compare.js"),
        Markup(str(page._safe(data))),
        before=before,
        after=after,
        before_ended=page.moment(before.ended),
        after_ended=page.moment(after.ended),
        pairs=len(both),
        differences=[_row(found[name]) for name in names],
        level=f"{LEVEL:.0%}",
        resamples=RESAMPLES,
    )


def _row(one: Difference) -> dict[str, Any]:
    about = page.described(one.metric)
    verdict, kind, colour = "no clear difference", "soft", "soft"
    if one.low is not None and one.high is not None and not one.low <= 0 <= one.high:
        if about["better"] is None:
            verdict, kind = ("higher" if one.mean > 0 else "lower"), ""
        else:
            good = (one.mean > 0) == about["better"]
            verdict, kind, colour = ("better", "good", "good") if good else ("worse", "bad", "bad")
    elif one.low is None:
        verdict = "–"
    row = {**about, **vars(one), "verdict": verdict, "verdict_class": kind, "colour": colour}
    if one.low is not None and one.high is not None:
        reach = max(abs(one.low), abs(one.high), 1e-12)
        for name, value in (("low", one.low), ("high", one.high), ("mean", one.mean)):
            row[f"x_{name}"] = round(80 + WHISKER * value / reach, 1)
    return row
