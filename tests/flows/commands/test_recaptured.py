"""The tables at the end of a job name metrics with their units, and where to look further."""

import io
import re

from rich.console import Console

from recapture.conf.load import load_config
from recapture.flows.commands.recaptured import print_measurements, print_summary
from recapture.models.metrics.learned import LEARNED_METRICS
from recapture.models.metrics.suite import METRICS
from recapture.tasks.jobs.summary import TABLE, JobSummary


def test_measurements_name_units_and_are_explained_when_asked_for():
    text = {}
    for explain in (False, True):
        console = Console(file=io.StringIO(), width=120)
        print_measurements({"a@b": {"base/psnr_hole": 21.0, "base/flow_px": 2.0}}, console, explain)
        text[explain] = console.file.getvalue()
    assert "psnr_hole dB ↑" in text[False] and re.search(r"│ flow_px +│", text[False])
    assert "`recapture status --explain`" in text[False]
    assert f"  flow_px: {METRICS['flow_px'].definition}" in text[True]


def test_a_terminal_of_80_columns_shows_every_name():
    console = Console(file=io.StringIO(), width=80)
    methods = ("inverse", "inverse_unpasted", "copy_source", "classical")
    print_measurements({"a@b": {f"{m}/{name}": -12.345 for m in methods for name in TABLE}}, console)
    assert "…" not in console.file.getvalue()


def test_every_metric_of_the_table_is_defined():
    assert set(TABLE) <= {*METRICS, *LEARNED_METRICS}


def test_summaries_name_the_command_that_serves_the_dashboards(capsys):
    print_summary(JobSummary("small"), load_config())
    assert "dashboards: recapture ui" in capsys.readouterr().out
