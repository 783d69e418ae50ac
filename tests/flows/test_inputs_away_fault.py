"""An unreachable storage of inputs stops the stage and blames no clip; the next run goes on."""

import logging
import shutil
from fractions import Fraction

import numpy as np
import pytest
from support.bare_job import configure, run_bare

from recapture.datasets.clips.clip import Rejected
from recapture.datasets.media.video import write_video
from recapture.datasets.store.outage import InputsAway
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs import chosen_clips
from recapture.tasks.jobs.job import ClipJob, recapture_stages


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        frame = np.full((32, 32, 3), 40 + 50 * number, np.uint8)
        write_video(str(folder / f"{number}.mp4"), [frame] * 5, fps=Fraction(12))
    return folder


def ingest(config, meanwhile=lambda: None):
    """Plan a job, do something, and run its first stage; return the outcomes."""
    plan = next(iter(ClipJob.of(config, recapture_stages(config)[:1]).plans()))
    meanwhile()
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        policy = RetryPolicy(attempts=2, pause_seconds=0.01)
        context = RunContext(ArtifactStore(config.store), executor, "small", "run", policy)
        return run_stage(plan.stage, plan.items, context)


def test_a_dataset_that_goes_away_stops_the_stage_and_nobody_is_quarantined(tmp_path, videos):
    config = configure(tmp_path, "--dataset.uri", str(videos))
    elsewhere = videos.with_name("elsewhere")
    with pytest.raises(InputsAway) as away:
        ingest(config, lambda: videos.rename(elsewhere))
    assert str(away.value).startswith(f"{videos} cannot be read, and nothing beside it can: ")
    assert str(away.value).endswith("; run the job again when the storage responds")
    assert Quarantine(config.store, "small").entries() == []
    elsewhere.rename(videos)
    assert [outcome.status for outcome in ingest(config)] == ["ok"] * 3


def test_a_dataset_that_goes_away_during_its_scan_is_no_dataset_of_fewer_clips(tmp_path, videos, monkeypatch):
    found, _ = chosen_clips.scan(str(videos))
    lost = Rejected("1", str(videos / "1.mp4"), "scan", "FileNotFoundError", "clip '1': no such file")

    def scan(*arguments, **settings):
        shutil.rmtree(videos)
        videos.mkdir()  # an empty mount point
        return found[:1], [lost]

    monkeypatch.setattr(chosen_clips, "scan", scan)
    with pytest.raises(InputsAway, match="went away while it was scanned; run the job again"):
        chosen_clips.chosen_clips(configure(tmp_path, "--dataset.uri", str(videos)))


def test_one_clip_that_is_deleted_meanwhile_is_blamed_alone(tmp_path, videos):
    config = configure(tmp_path, "--dataset.uri", str(videos))
    found = ingest(config, (videos / "1.mp4").unlink)
    assert [outcome.status for outcome in found] == ["ok", "quarantined", "ok"]
    assert [entry.item for entry in Quarantine(config.store, "small").entries()] == ["1"]
    assert "there is no such file" in found[1].error


def test_a_folder_of_masks_that_goes_away_stops_the_stage(tmp_path, videos, monkeypatch):
    from recapture.tasks.jobs.mask import MaskStage

    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        np.savez(masks / f"{number}.npz", mask=np.ones((5, 32, 32), bool))
        np.savez(videos / f"{number}.depth.npz", depth=np.full((5, 32, 32), 3.0, np.float32))
    config = configure(tmp_path, "--dataset.uri", str(videos), "--mask.uri", str(masks))
    original = MaskStage.run

    def late(self, item, inputs, output):
        shutil.rmtree(masks, ignore_errors=True)
        return original(self, item, inputs, output)

    monkeypatch.setattr(MaskStage, "run", late)
    monkeypatch.setattr(RetryPolicy, "pause", lambda self, outcome: 0.0)
    with pytest.raises(InputsAway, match=f"{masks} cannot be read"):
        run_bare(config)
    assert Quarantine(config.store, "small").entries() == []


def test_a_passing_error_of_the_network_is_tried_again_after_a_pause(tmp_path, videos, monkeypatch):
    from recapture.tasks.jobs.ingest import IngestStage

    tries, pauses = [], []
    original = IngestStage.run

    def flaky(self, item, inputs, output):
        tries.append(item.name)
        if tries.count(item.name) == 1:
            raise OSError(116, "Stale file handle", item.params.clip.uri)
        return original(self, item, inputs, output)

    monkeypatch.setattr(IngestStage, "run", flaky)
    monkeypatch.setattr("recapture.tasks.engine.executor.time.sleep", pauses.append)
    found = ingest(configure(tmp_path, "--dataset.uri", str(videos)))
    assert [(outcome.status, outcome.attempts) for outcome in found] == [("ok", 2)] * 3
    assert pauses == [0.01] * 3


def test_pauses_grow_and_only_where_they_help():
    from recapture.tasks.engine.stage import Outcome

    def pause(kind, attempts):
        return RetryPolicy().pause(Outcome("a", "a", "k", "s", "error", kind, attempts=attempts))

    assert [pause("ConnectionError", attempt) for attempt in (1, 2, 3, 4)] == [2.0, 8.0, 32.0, 60.0]
    assert pause("OutOfMemoryError", 1) == pause("WorkerHung", 2) == 0.0


def test_the_inline_executor_reports_an_item_that_makes_no_progress(tmp_path, caplog):
    from support.scripted import Scripted, items, work

    with caplog.at_level(logging.WARNING, logger="recapture"):
        found = work(
            lambda: InlineExecutor(str(tmp_path / "store")),
            Scripted(str(tmp_path / "log")),
            items("slow", "ok"),
            RetryPolicy(timeout_seconds=1),
        )
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert "stage 'scripted', clip/0: no progress for 1 s; it cannot be stopped here" in caplog.text
