"""The runner with plans that hold nothing, and stopped in the middle of one."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient
from prefect import flow

from recapture.flows.environment import tracking_uri
from recapture.flows.run_job import run_job
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.jobs.job import ClipJob, preview_stages
from recapture.tasks.jobs.render import RenderStage

pytestmark = pytest.mark.integration


class WithEmptyPlans(ClipJob):
    """A job that plans every stage once more, without items."""

    def tracks(self, size):
        for track in super().tracks(size):
            yield replace(track, plans=doubled(track.plans))


def doubled(plans):
    for plan in plans:
        yield StagePlan(plan.stage, (), "nothing")
        yield plan


@flow(name="preview", persist_result=False)
def run(config, kind):
    return run_job(kind.of(config, preview_stages(config)))


def test_a_plan_without_items_changes_nothing(job, capfd):
    summary = run(job(), WithEmptyPlans)
    assert summary.acceptable
    assert summary.counts == {name: {"ok": 1} for name in ("ingest", "depth", "render", "preview")}
    assert "nothing: no items in 0 s" in capfd.readouterr().err


def test_ctrl_c_in_the_middle_of_a_plan_ends_its_run_and_the_jobs_as_failed(job, monkeypatch):
    def interrupted(self, *given):
        raise KeyboardInterrupt

    monkeypatch.setattr(RenderStage, "run", interrupted)
    config = job("--tracking.enabled", "true")
    with pytest.raises(KeyboardInterrupt):
        run(config, ClipJob)
    client = MlflowClient(tracking_uri(config))
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    names = {run.info.run_id: run.data.tags.get("stage") or run.data.tags["flow"] for run in runs}
    assert {names[run.info.run_id]: run.info.status for run in runs} == {
        "ingest": "FINISHED",
        "depth": "FINISHED",
        "render": "FAILED",
        "preview": "FAILED",
    }
