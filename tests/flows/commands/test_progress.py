"""The bars of a job end at what was counted, however fast the items come and from however many threads."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from rich.console import Console

from recapture.conf.load import load_config
from recapture.flows.commands.progress import StageProgress, print_measurements, print_summary
from recapture.models.metrics.suite import METRICS
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.summary import TABLE, JobSummary


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


def test_measurements_name_units_and_are_explained_when_asked_for():
    text = {}
    for explain in (False, True):
        console = Console(file=io.StringIO(), width=120)
        print_measurements({"a@b": {"base/psnr_hole": 21.0, "base/flow_px": 2.0}}, console, explain)
        text[explain] = console.file.getvalue()
    assert re.search(r"psnr_hole +│ dB +│ higher", text[False]) and "flow_px" in text[False]
    assert "`recapture status --explain`" in text[False]
    assert f"  flow_px: {METRICS['flow_px'].definition}" in text[True]


def test_every_metric_of_the_table_is_defined():
    assert set(TABLE) <= set(METRICS)


def test_summaries_name_the_command_that_serves_the_dashboards(capsys):
    print_summary(JobSummary("small"), load_config())
    assert "dashboards: recapture ui" in capsys.readouterr().out


def test_a_bar_says_what_failed_or_that_all_was_there():
    assert "3/3" in (line := shown(["reused"] * 3)) and line.endswith("reused")
    assert shown(["ok", "quarantined", "ok"]).endswith("1 failed")
    assert "reused" not in shown(["reused", "ok"])
