"""Jobs whose stages run side by side: no barrier, bounded, published as they go, equal to an inline job."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.bare_job import artifacts
from support.plans import planned

from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.recapture_dataset import recapture
from recapture.tasks.engine.intake import Intake
from recapture.tasks.engine.ray_cluster import Cluster
from recapture.tasks.jobs import publish_early
from recapture.tasks.jobs.job import ClipJob

pytestmark = pytest.mark.integration
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]
RAY = ("--execution.executor", "ray", "--execution.workers", "2")
PACKED = (
    *("--fill.method", "base", "--fill.steps", "1", "--fill.window", "5", "--fill.overlap", "1"),
    *("--fill.packing", "{frames: 2, spacing: 3}"),
    *(
        "--trajectories",
        "[{preset: orbit_right, angle_degrees: 10}, {preset: orbit_left, angle_degrees: 20}]",
    ),
)


def in_order(root, config):
    """Stage and clip of every artifact, in the order of their commits."""
    made = []
    for stage in STAGES:
        for item in planned(config).items(stage):
            marker = Path(root, f"artifacts/objects/{stage}/{item.key[:2]}/{item.key}/meta.json")
            if marker.exists():
                made.append((marker.stat().st_mtime_ns, stage, item.clip_id))
    return [(stage, clip) for _, stage, clip in sorted(made)]


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    """A Ray that the jobs of this file find and leave running: to start one takes seconds."""
    cluster = Cluster("", None, "")
    cluster.connect()
    yield
    cluster.disconnect()


@pytest.fixture(scope="module")
def inline(job_below, tmp_path_factory):
    """The folder and the summary of an inline job."""
    root = tmp_path_factory.mktemp("inline")
    return root, recapture(job_below(root, "--execution.shard", "2", count=3))


@pytest.fixture(scope="module")
def streamed(job_below, tmp_path_factory):
    """A job of three shards with at most three clips in flight, and what was seen of it on its way."""
    root, opened, there = tmp_path_factory.mktemp("streamed"), [], {}
    real, deliver = Intake.__init__, ClipJob.deliver

    def noted(self, *given):
        opened.append(self)
        real(self, *given)

    def at_the_end(self, store):
        for record in (root / "outputs/small").rglob("recapture.json"):
            there[record] = json.loads(record.read_text()), record.stat().st_mtime_ns
        deliver(self, store)

    config = job_below(root, *RAY, "--execution.clips_in_flight", "3", "--execution.shard", "3", count=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Intake, "__init__", noted)
        patch.setattr(ClipJob, "deliver", at_the_end)
        summary = recapture(config)
    return SimpleNamespace(root=root, config=config, summary=summary, intake=opened[0], there=there)


@pytest.mark.parametrize("shard", ["2", pytest.param("256", marks=pytest.mark.full)])
def test_a_streamed_job_leaves_what_an_inline_job_leaves(job, inline, tmp_path, shard):
    root, alone = inline
    streamed = job("--execution.shard", shard, *RAY, count=3)
    summary = recapture(streamed)
    assert artifacts(tmp_path) == artifacts(root)
    assert (summary.counts, summary.ready) == (alone.counts, alone.ready)
    assert list(summary.metrics.items()) == list(alone.metrics.items())  # in the same order
    for stage in STAGES:
        assert len(read_manifest(streamed.store, "small", stage)) == 3
    published = [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in (folder / "outputs").rglob("*")
            if path.is_file() and "runs" not in path.parts and path.parent.name != "small"
        }  # but for the page of the dataset and the record of the run, which name the run and its time
        for folder in (root, tmp_path)
    ]
    assert published[0] == published[1]


def test_no_stage_waits_for_the_last_clip_of_the_stage_before_it(streamed):
    assert streamed.summary.counts["deliver"] == {"ok": 7}
    order = in_order(streamed.root, streamed.config)
    last_ingest = max(number for number, (stage, _) in enumerate(order) if stage == "ingest")
    first_deliver = min(number for number, (stage, _) in enumerate(order) if stage == "deliver")
    assert first_deliver < last_ingest


def most_at_once(root, config):
    """The most clips that were begun and not finished, by the order of the artifacts."""
    begun, finished, most = set(), set(), 0
    order = in_order(root, config)
    last = {clip: number for number, (_, clip) in enumerate(order)}
    for number, (_, clip) in enumerate(order):
        begun.add(clip)
        most = max(most, len(begun - finished))
        if last[clip] == number:
            finished.add(clip)
    return most


def test_so_many_clips_are_begun_and_not_finished_and_no_more(streamed):
    assert streamed.summary.delivered == 7
    assert streamed.intake.most_begun == 3
    assert most_at_once(streamed.root, streamed.config) <= 3  # independent of what the intake says of itself


def test_a_clip_that_fails_in_its_render_delays_and_stops_no_other_even_one_at_a_time(job, tmp_path):
    config = job(*RAY, "--execution.clips_in_flight", "1", "--execution.shard", "2", count=3)
    store, (bad, *others) = ArtifactStore(config.store), planned(config).items("render")
    Quarantine(store.root, "small").add(
        Quarantined(bad.name, bad.clip_id, "render", bad.key, "ValueError", "bad", "", 1, "r0")
    )
    summary = recapture(config)
    assert summary.counts["render"] == {"quarantined": 1, "ok": 2}
    assert summary.counts["fill"] == {"blocked": 1, "ok": 2}
    assert summary.counts["deliver"] == {"blocked": 1, "ok": 2}
    assert [failure.item for failure in summary.failures] == [bad.name]
    assert summary.ready == {item.name for item in others}
    assert most_at_once(tmp_path, config) == 1


@pytest.mark.full  # test_packing.py packs inline on every commit
def test_packed_fills_come_in_their_order_clip_by_clip_and_equal_an_inline_jobs(job, tmp_path):
    words = (*PACKED, "--execution.shard", "1")
    inline = job(*words, "--store", f"{tmp_path}/inline/artifacts", count=2)
    assert recapture(inline).failures == []
    streamed = job(*words, *RAY, count=2)
    summary = recapture(streamed)
    assert summary.failures == [] and summary.counts["fill"] == {"ok": 4}
    assert artifacts(tmp_path) == artifacts(tmp_path / "inline")
    assert recapture(streamed).reused_everything


def test_a_result_is_published_while_the_job_still_works(streamed):
    summary = streamed.summary
    assert len(streamed.there) == summary.delivered == 7
    for path, (record, moment) in streamed.there.items():
        assert record["metrics"] == summary.metrics[f"{record['clip']}@{path.parent.name}"]
        assert path.stat().st_mtime_ns == moment  # the end finds it complete, and leaves it


def test_what_cannot_be_published_meanwhile_is_published_at_the_end(job, monkeypatch, tmp_path, caplog):
    def broken(*given):
        raise OSError("no route to host")

    monkeypatch.setattr(publish_early, "publish_one", broken)
    assert recapture(job(count=2)).delivered == 2
    assert len(list((tmp_path / "outputs/small").rglob("recapture.json"))) == 2
    said = [r.getMessage() for r in caplog.records if "cannot be published now" in r.getMessage()]
    assert len(said) == 1 and "no route to host" in said[0]
