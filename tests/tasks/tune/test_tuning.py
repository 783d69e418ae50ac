"""A tuning that cannot begin, or leaves no adapter, reports why."""

import pytest

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.tune.summary import TuneSummary
from recapture.tasks.tune.tuning import Tuning


@pytest.fixture
def job(tmp_path):
    uri = "scenes://?count=2&seed=3&frames=5&height=32&width=48"
    config = load_config(arguments=["--dataset.uri", uri, "--store", str(tmp_path)])
    job = Tuning(config)
    job.open_record("run", (None, None), "train-iterative")
    return job


def outcome(item, status, stage="pairs", error=""):
    return Outcome(item, item.partition("@")[0], "k", stage, status, error=error)


def carry_out(job, status, stage):
    """Carry out plans; every item of a stage ends with a status, all others are made."""
    for plan in job.plans():
        ends = status if plan.stage.name == stage else "ok"
        plan.outcomes += [outcome(item.name, ends, plan.stage.name, "damaged file") for item in plan.items]
        job.summary.add(plan.stage.name, plan.outcomes)


@pytest.mark.parametrize(
    ("status", "reason"),
    [("quarantined", "damaged file"), ("dropped", "dropped; see `recapture quarantine ls`")],
)
def test_a_tuning_without_a_clip_to_learn_from_names_each_with_its_reason(job, status, reason):
    with pytest.raises(UserError) as caught:
        carry_out(job, status, "ingest")
    clips = [clip.id for clip in Tuning(job.config).clips]
    lines = [f"  {clip}: {reason}" for clip in clips]
    assert str(caught.value).splitlines() == ["no clip gives pairs to learn from", *lines]


def test_a_tuning_without_an_adapter_still_logs_its_end(job, monkeypatch, tmp_path):
    logged = []
    monkeypatch.setattr(job._record, "finished", logged.append)
    job.deliver(ArtifactStore(str(tmp_path)))
    assert logged == [job.summary] and not job.summary.acceptable


def test_dropped_items_count_only_where_they_leave_a_clip_without_an_adapter():
    summary = TuneSummary("d", clips=3, adapted={"a@home"})
    summary.add("explore", [Outcome("a@home@base-20", "a@home", "k", "explore", "dropped")])
    assert (summary.wanted, summary.delivered) == (3, 1)  # b and c are missing
    summary.add("pairs", [outcome("b@round-0", "dropped")])
    assert (summary.wanted, summary.failure_share) == (2, 0.5)
    summary.add("tune", [outcome("dataset@round-1", "dropped", "tune")])
    assert summary.wanted == 2


def test_a_tuning_is_acceptable_up_to_the_configured_share_and_never_without_an_adapter():
    half = TuneSummary("d", clips=2, adapted={"a"}, max_failure_share=0.5)
    assert half.acceptable
    assert not TuneSummary("d", clips=2, adapted={"a"}, max_failure_share=0.4).acceptable
    assert not TuneSummary("d", clips=2, max_failure_share=1.0).acceptable
