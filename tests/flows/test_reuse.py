"""What a second run reuses, redoes and shares a task for."""

import pytest
from support.bare_job import run_bare
from support.plans import planned

from recapture.datasets.store.store import ArtifactStore
from recapture.flows import carry_out
from recapture.flows.recapture_dataset import recapture

pytestmark = pytest.mark.integration
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]


def snapshot(root):
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "objects").rglob("*")) if p.is_file()
    }


def test_a_second_run_reuses_everything_and_a_changed_setting_redoes_what_depends_on_it(
    job, finished, tmp_path
):
    before = snapshot(tmp_path / "artifacts")
    again = recapture(job())
    assert again.reused_everything
    assert snapshot(tmp_path / "artifacts") == before
    assert again.metrics  # a reused run still prints its table
    changed = recapture(job("--fill.inpaint_radius", "5"))
    assert [name for name in STAGES if changed.counts[name].get("ok")] == ["fill", "measure", "deliver"]


@pytest.mark.full  # test_streaming.py compares the two on every commit
def test_a_job_on_ray_makes_what_an_inline_job_makes(job, finished, tmp_path):
    on_ray = ("--store", f"{tmp_path}/ray", "--execution.executor", "ray", "--execution.workers", "1")
    summary = recapture(job(*on_ray))
    assert summary.counts == {stage: {"ok": 1} for stage in STAGES}
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "artifacts")


def test_a_deleted_artifact_is_made_again_byte_for_byte(job, finished, tmp_path):
    config = job()
    before = snapshot(tmp_path / "artifacts")
    store = ArtifactStore(config.store)
    for stage in ("render", "deliver"):
        for key in store.keys(stage):
            store.delete(stage, key)
    summary = recapture(config)
    assert summary.counts["render"] == {"ok": 1}
    assert summary.counts["fill"] == {"reused": 1}
    assert snapshot(tmp_path / "artifacts") == before


def test_neighbouring_shards_that_are_finished_share_a_task_and_one_with_work_has_its_own(job, monkeypatch):
    titles, real = [], carry_out.task_of

    def noted(plan, batch):
        titles.append(f"{plan.title} {batch.title}")
        return real(plan, batch)

    monkeypatch.setattr(carry_out, "task_of", noted)
    config = job("--execution.shard", "1", count=4)
    run_bare(config)
    made = recapture(config)
    assert made.reused_everything and made.counts == {stage: {"reused": 4} for stage in STAGES}
    assert titles == [f"{stage} 1-4: 4 items, all complete" for stage in STAGES]
    titles.clear()
    store, third = ArtifactStore(config.store), planned(config)
    for stage in ("fill", "measure", "deliver"):
        store.delete(stage, third.items(stage)[2].key)
    again = recapture(config)
    assert again.counts["fill"] == {"ok": 1, "reused": 3} and again.delivered == 4
    assert (again.metrics, again.ready) == (made.metrics, made.ready)
    # The clips of a shard go through all stages together.
    complete = "1-2: 2 items, all complete", "3: 1 items, all complete", "4: 1 items, all complete"
    assert titles == [
        *(f"{stage} {complete[0]}" for stage in STAGES),
        *(f"{stage} {complete[1]}" for stage in STAGES[:3]),
        *(f"{stage} 3: 1 items" for stage in STAGES[3:]),
        *(f"{stage} {complete[2]}" for stage in STAGES),
    ]


def test_prefect_does_not_walk_through_what_a_summary_holds_of_each_item(job, finished):
    from prefect.utilities.collections import visit_collection

    summary, seen = recapture(job()), []
    assert len(summary.metrics) == len(summary.videos) == 1
    visit_collection(summary, visit_fn=seen.append, return_data=False)
    assert summary in seen and summary.counts in seen
    each = [*summary.metrics.values(), *summary.videos.values()]
    assert not [value for value in seen if any(value is one for one in each)]
