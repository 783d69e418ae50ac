"""What a job shows of its progress: bars on a terminal, lines with a time left anywhere else."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.bare_job import configure, run_bare

from recapture.datasets.store.manifest import read_manifest
from recapture.flows import prefect_artifacts
from recapture.flows.eta import Eta, past_seconds
from recapture.flows.prefect_artifacts import JobArtifacts
from recapture.flows.progress import StageProgress
from recapture.tasks.engine import executor
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.stage import Outcome


def outcome(number, stage="fill", status="ok", seconds=0.0):
    return Outcome(f"clip/{number}", f"clip/{number}", "k", stage, status, seconds=seconds)


def plan_of(stage):
    return StagePlan(SimpleNamespace(name=stage), (), stage)


def shown(statuses, threads=1):
    text = io.StringIO()
    bars = StageProgress({"fill": len(statuses)}, Console(file=text, width=120, force_terminal=True))
    outcomes = [outcome(number, status=one) for number, one in enumerate(statuses)]
    with bars, bars.plan(plan_of("fill")), ThreadPoolExecutor(threads) as pool:
        list(pool.map(bars.advance, outcomes))
    assert bars.done == len(statuses)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).strip().splitlines()[-1]


def test_every_item_is_counted():
    assert "5000/5000" in shown(["ok"] * 5000, threads=8)


def test_a_bar_says_what_failed_or_that_all_was_there():
    assert "3/3" in (line := shown(["reused"] * 3)) and line.endswith("reused")
    assert shown(["ok", "quarantined", "ok"]).endswith("1 failed")
    assert "reused" not in shown(["reused", "ok"])


class Job:
    """The progress of a job without a terminal, under a clock that is set by hand."""

    def __init__(self, expected, past=()):
        self.text, self.now, self.working = io.StringIO(), 1000.0, []
        self.progress = StageProgress(
            expected,
            Console(file=self.text, force_terminal=False),
            at_work=lambda: self.working,
            past=dict(past).get,
            clock=lambda: self.now,
        )

    def later(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.progress.tick()

    @property
    def lines(self):
        return self.text.getvalue().splitlines()


def test_without_a_terminal_there_is_one_line_per_stage_and_minute_with_the_current_clip():
    job = Job({"render": 2, "fill": 4}, past={"render": 10.0, "fill": 90.0})
    job.progress.begin(plan_of("render"))
    job.progress.begin(fill := plan_of("fill"))
    job.working = [("fill", "a/b@left"), ("render", "c@left"), ("fill", "d@left")]
    job.later(59)
    assert job.lines == []
    job.later(1)
    left = "job: about 2 min left"  # 2 x 10 + 4 x 90 seconds of work, three at a time
    assert job.lines == [
        f"render: 0 of 2 in 60 s; at c@left; {left}",
        f"fill: 0 of 4 in 60 s; at a/b@left and 1 more; {left}",
    ]
    job.later(59)
    assert len(job.lines) == 2
    job.progress.advance(outcome(0, seconds=100.0))
    job.progress.advance(outcome(1, status="quarantined"))
    job.later(1)
    assert len(job.lines) == 4
    assert "fill: 2 of 4, 1 failed in 2 min; at a/b@left and 1 more; job: about 4 min left" in job.lines
    for number in (2, 3):
        job.progress.advance(outcome(number, status="reused"))
    job.progress.end(fill)
    assert job.lines[-1] == "fill: 4 of 4, 1 failed, 2 reused in 2 min"
    job.later(120)
    assert [line for line in job.lines[5:] if line.startswith("fill")] == []


def test_a_job_that_ends_says_what_it_has_of_each_stage_once():
    job = Job({"fill": 3, "measure": 3})
    with job.progress:
        for stage in ("fill", "measure"):
            job.progress.begin(plan_of(stage))
        job.progress.advance(outcome(0))
    assert job.lines == ["fill: 1 of 3 in 0 s"]


def test_bars_and_controls_never_reach_a_log():
    job = Job({"fill": 1})
    with job.progress, job.progress.plan(plan_of("fill")):
        job.progress.advance(outcome(0))
        job.later(200)
    assert job.lines == ["fill: 1 of 1 in 3 min"]
    assert "\x1b" not in job.text.getvalue()


def test_the_time_left_is_the_work_left_by_the_pace_so_far():
    eta = Eta({"render": 10, "fill": 10}, {"render": 2.0}.get)
    first = eta.left(0.0, at_work=4)
    assert (first.seconds, first.unknown) == (10 * 2.0 / 4, ("fill",))
    for number in range(4):
        eta.add(outcome(number, "render", seconds=3.0))
        eta.add(outcome(number, "fill", seconds=7.0))
    eta.add(outcome(9, "fill", "reused"))
    left = eta.left(20.0, at_work=1)  # 40 s of work in 20 s
    assert left.unknown == ()
    assert left.seconds == pytest.approx((6 * 3.0 + 5 * 7.0) / 2)
    assert Eta({"fill": 2}, {}.get).left(10.0, 1) is None


def test_few_items_of_this_job_count_beside_those_of_earlier_ones():
    eta = Eta({"fill": 11}, {"fill": 30.0}.get)
    eta.add(outcome(0, seconds=60.0))
    assert eta.left(60.0, 1).seconds == pytest.approx(10 * (60 + 2 * 30) / 3)


def test_past_items_are_those_of_the_manifest_and_a_store_that_fails_stops_nothing(tmp_path):
    config = configure(tmp_path, count=2)
    run_bare(config)
    mean = past_seconds(config.store, config.dataset.name)
    rows = read_manifest(config.store, config.dataset.name, "ingest").values()
    assert mean("ingest") == pytest.approx(sum(row["seconds"] for row in rows) / len(rows))
    assert mean("seeds") is None
    (tmp_path / "file").write_text("")
    assert past_seconds(str(tmp_path / "file"), "small")("ingest") is None


def test_executors_tell_what_they_work_on(monkeypatch, tmp_path):
    inline, told = InlineExecutor(str(tmp_path)), []

    def noted(stage, item, *given):
        told.append(list(inline.at_work))
        return outcome(0)

    monkeypatch.setattr(executor, "work", noted)
    inline._work(SimpleNamespace(name="fill"), SimpleNamespace(name="a@left"), 1)
    assert told == [[("fill", "a@left")]]
    assert list(inline.at_work) == []

    def call(name, started):
        entry = SimpleNamespace(item=SimpleNamespace(name=name))
        return SimpleNamespace(started=started, entry=entry, hosted=SimpleNamespace(name="fill"))

    ray = RayExecutor(str(tmp_path))
    assert list(ray.at_work) == []
    workers = [
        SimpleNamespace(calls=(call("b", 5.0), call("c", 3.0))),
        SimpleNamespace(calls=(call("d", 4.0),)),
    ]
    monkeypatch.setattr(ray, "_made", SimpleNamespace(workers=workers))
    assert ray.at_work == [("fill", "c"), ("fill", "d"), ("fill", "b")]


def test_prefects_bar_says_what_is_worked_on_and_how_long_it_takes(monkeypatch):
    told = []
    monkeypatch.setattr(prefect_artifacts, "create_progress_artifact", lambda *a, **k: "id")
    monkeypatch.setattr(prefect_artifacts, "update_progress_artifact", lambda **given: told.append(given))
    job = Job({"fill": 4}, past={"fill": 60.0})
    job.progress.begin(plan_of("fill"))
    job.working = [("fill", "a@left")]
    shown = JobArtifacts("recapture", "holidays")
    shown.progress(25.0, lambda: job.progress.now)
    assert told == [
        {
            "artifact_id": "id",
            "progress": 25.0,
            "description": "holidays: fill 0 of 4; at a@left; job: about 4 min left",
        }
    ]
    shown.progress(26.0, lambda: job.progress.now)  # within the same second
    assert len(told) == 1
