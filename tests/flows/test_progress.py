"""The bars of a job end at what was counted, however fast the items come and from however many threads."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from rich.console import Console

from recapture.flows.progress import StageProgress
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome


def shown(statuses, threads=1):
    text = io.StringIO()
    bars = StageProgress({"fill": len(statuses)}, Console(file=text, width=120))
    plan = StagePlan(SimpleNamespace(name="fill"), (), "fill")
    outcomes = [Outcome(f"clip/{n}", f"clip/{n}", "k", "fill", one) for n, one in enumerate(statuses)]
    with bars, bars.plan(plan), ThreadPoolExecutor(threads) as pool:
        list(pool.map(bars.advance, outcomes))
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).strip().splitlines()[-1]


def test_every_item_is_counted():
    assert "5000/5000" in shown(["ok"] * 5000, threads=8)


def test_a_bar_says_what_failed_or_that_all_was_there():
    assert "3/3" in (line := shown(["reused"] * 3)) and line.endswith("reused")
    assert shown(["ok", "quarantined", "ok"]).endswith("1 failed")
    assert "reused" not in shown(["reused", "ok"])
