"""Self-iterative tuning of tiny scenes: what it leaves, what it reuses, what may go wrong without harm."""

import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.settings import PREFECT_API_URL
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.media.video import write_video
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.environment import tracking_uri
from recapture.flows.recapture_dataset import recapture
from recapture.flows.train_iterative import train_iterative
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import load_adapter
from recapture.tasks.engine.model_revision import WEIGHTS
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.tune.tuning import Tuning

pytestmark = pytest.mark.integration
SCENES = "scenes://?count=2&seed=3&frames=5&height=48&width=64"
ONE_SCENE = SCENES.replace("count=2", "count=1")
ONE_ROUND = "[{low: 5, high: 10, steps: 3}]"
TWO_ROUNDS = "[{low: 5, high: 10, steps: 3}, {low: 10, high: 20, steps: 3}]"


def words(root, *more, uri=SCENES):
    return [
        *("--dataset.name", "small", "--dataset.uri", uri, "--execution.executor", "inline"),
        *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
        *("--tracking.enabled", "false", "--tune.training.rank", "2", "--tune.training.log_every", "1"),
        *("--tune.pairs.window", "5", "--tune.pairs.moves", "1", "--tune.pairs.masks", "1"),
        *("--tune.cycle.moves", "1", "--tune.cycle.steps", "1", "--tune.curriculum.threshold", "5"),
        *("--tune.explore.steps", "1", "--tune.explore.angles", "[20]"),
        *("--tune.curriculum.rounds", ONE_ROUND, *more),
    ]


def configured(root, *more, **given):
    return load_config(arguments=words(root, *more, **given))


def done(summary, stage):
    return summary.counts[stage].get("ok", 0)


def adapters(root):
    folder = root / "outputs/small/adapter"
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def tuned(prefect_server, migrated_mlflow, tmp_path_factory):
    """A tuning of two rounds with tracking: its folder, settings and summary."""
    root = tmp_path_factory.mktemp("tuned")
    (root / "state").mkdir()
    shutil.copy(migrated_mlflow, root / "state/mlflow.db")
    more = ("--tune.curriculum.rounds", TWO_ROUNDS, "--tracking.enabled", "true")
    return root, more, train_iterative(configured(root, *more))


def test_two_rounds_leave_an_adapter_that_the_base_takes_and_pictures(tuned):
    root, _, summary = tuned
    assert summary.acceptable and not summary.failures and summary.ended == "All rounds were made."
    assert [(one.low, one.high) for one in summary.rounds] == [(5, 10), (10, 20)]
    base = load_base(WEIGHTS / "base")
    load_adapter(base.transformer, root / "outputs/small/adapter")
    weights = load_file(root / "outputs/small/adapter" / FILE_NAME)
    assert all(value.abs().max() > 0 for value in weights.values())
    pictures = {path.name for path in (root / "outputs/small/tuning").rglob("*.png")}
    assert "curve.png" in pictures and len(pictures) == 3
    for path in (root / "outputs/small/tuning").rglob("*.png"):
        assert np.asarray(Image.open(path)).std() > 1


def test_the_second_round_learns_from_the_first_ones_output_too(tuned):
    root, _, _ = tuned
    store = ArtifactStore(f"{root}/artifacts")
    rounds = [store.open("pairs", key) for key in store.keys("pairs")]
    assert sorted(artifact.meta["round"] for artifact in rounds) == [0, 0, 1, 1]
    assert {artifact.metrics.get("cycle_pairs") for artifact in rounds if artifact.meta["round"] == 1} == {
        1.0
    }
    (last,) = [
        artifact
        for artifact in (store.open("tune", key) for key in store.keys("tune"))
        if artifact.read_bytes(FILE_NAME) == adapters(root)[FILE_NAME]
    ]
    assert last.meta["steps"] == 3


def test_mlflow_has_a_run_a_round_with_curves_and_a_model_version(tuned):
    from mlflow import MlflowClient

    root, more, summary = tuned
    client = MlflowClient(tracking_uri(configured(root, *more)))
    parent = client.get_run(summary.mlflow_run)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(run.data.tags["round"] for run in children) == ["0", "1"]
    for run in children:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
        assert steps == [1, 2, 3]
        assert {"hole_loss", "gradient_norm", "learning_rate", "seconds_per_step"} <= run.data.metrics.keys()
        assert "angle_quality.png" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "cycle_psnr/20")] == [
        -1,
        0,
        2,
    ]
    (version,) = client.search_model_versions("name='small-adapter'")
    local = Path(client.download_artifacts(version.run_id, f"adapter/{FILE_NAME}"))
    assert local.read_bytes() == adapters(root)[FILE_NAME]


def test_a_second_run_reuses_everything_and_another_rank_redoes_what_depends_on_it(tuned):
    root, more, _ = tuned
    before = adapters(root)
    again = train_iterative(configured(root, *more, "--tracking.enabled", "false"))
    assert again.reused_everything and again.table()
    assert adapters(root) == before
    other = train_iterative(
        configured(root, *more, "--tracking.enabled", "false", "--tune.training.rank", "3")
    )
    assert other.counts["tune"] == {"ok": 2}
    assert other.counts["pairs"] == {"reused": 2, "ok": 2}  # those of round 0 know no adapter
    assert (other.counts["ingest"], other.counts["depth"]) == ({"reused": 2}, {"reused": 2})
    assert adapters(root) != before


def test_recapture_fills_under_the_adapter_and_refuses_one_of_another_base(tuned, job, tmp_path):
    file = tuned[0] / "outputs/small/adapter" / FILE_NAME
    given = ("--fill.method", "base", "--fill.steps", "1")
    plain, under = (
        recapture(job(*given, *adapter)).metrics for adapter in ((), ("--fill.adapter", str(file.parent)))
    )
    assert [name for name in plain if plain[name] == under[name]] == []
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    metadata["recapture"] = metadata["recapture"].replace('"base": "', '"base": "00')
    other = tmp_path / "other.safetensors"
    save_file(load_file(file), other, metadata=metadata)
    with pytest.raises(StageSick, match=r"was tuned on base 00.*; load that base, or tune again on this one"):
        recapture(job(*given, "--fill.adapter", str(other)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"fill.adapter: .*/empty has no adapter; name a LoRA file"):
        recapture(job(*given, "--fill.adapter", str(tmp_path / "empty")))


def test_a_touch_up_gives_every_clip_an_adapter_beside_the_datasets(prefect_server, tmp_path):
    summary = train_iterative(configured(tmp_path, "--tune.scope", "both", "--tune.touch_up_steps", "1"))
    found = adapters(tmp_path)
    clips = sorted(summary.adapted)
    assert list(found) == [*(f"clips/{clip}/{FILE_NAME}" for clip in clips), FILE_NAME] and len(clips) == 2
    assert len(set(found.values())) == 3
    alone = train_iterative(configured(tmp_path, "--tune.scope", "clip"))
    assert alone.counts["pairs"] == {"reused": 2} and alone.counts["tune"] == {"ok": 2}
    assert list(adapters(tmp_path)) == list(found)[:-1]


def test_a_flat_clip_and_a_short_one_are_left_out_and_the_others_go_on(prefect_server, tmp_path):
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 255, (9, 48, 64, 3), dtype=np.uint8))
    folder = tmp_path / "clips"
    folder.mkdir()
    ramp = np.broadcast_to(np.linspace(2, 8, 64, dtype=np.float32), (9, 48, 64))
    for name, frames, depth in (("flat", 9, np.full_like(ramp, 4)), ("short", 3, ramp), ("fine", 9, ramp)):
        write_video(str(folder / f"{name}.mp4"), pictures[:frames], fps=Fraction(8))
        np.savez(folder / f"{name}.depth.npz", depth=depth[:frames])
    config = configured(tmp_path, "--execution.max_failure_share", "0.7", uri=str(folder))
    summary = train_iterative(config)
    errors = {failure.item: failure.error for failure in summary.failures}
    assert errors.keys() == {"flat@round-0", "short@round-0"}
    assert "has flat depth" in errors["flat@round-0"] and "uncovers nothing" in errors["flat@round-0"]
    assert "has 3 frames, a window takes 5" in errors["short@round-0"]
    assert summary.adapted == {"fine"} and summary.acceptable
    assert FILE_NAME in adapters(tmp_path)


def test_a_diverging_first_round_says_so_and_leaves_no_adapter(prefect_server, tmp_path):
    wild = ("--tune.training.rate", "1e30", "--tune.training.clip", "1e30", "--tune.training.warm_up", "1")
    summary = train_iterative(configured(tmp_path, *wild, uri=ONE_SCENE))
    assert not summary.acceptable and summary.ended == "Round 0 left no adapter."
    (failure,) = summary.failures
    assert failure.item == "dataset@round-0" and "lower the learning rate" in failure.error
    assert adapters(tmp_path) == {}


def test_rounds_end_where_quality_collapses(prefect_server, tmp_path):
    more = ("--tune.curriculum.rounds", TWO_ROUNDS, "--tune.curriculum.threshold", "90")
    summary = train_iterative(configured(tmp_path, *more, uri=ONE_SCENE))
    assert len(summary.rounds) == 1 and "at 20 degrees, less than" in summary.ended
    assert summary.acceptable and adapters(tmp_path)


@pytest.mark.full
def test_a_job_killed_between_rounds_goes_on_to_the_same_adapter(prefect_server, tmp_path, monkeypatch):
    config = configured(tmp_path, "--tune.curriculum.rounds", TWO_ROUNDS)
    with monkeypatch.context() as patched:
        patched.setattr(Tuning, "next_round", lambda job, one: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_iterative(config)
    summary = train_iterative(config)
    assert summary.counts["tune"] == {"reused": 1, "ok": 1}
    assert adapters(tmp_path)


@pytest.mark.full  # test_tune_stage.py interrupts a training on every commit
def test_a_training_killed_at_a_step_goes_on_from_its_checkpoint_to_the_same_adapter(
    prefect_server, tmp_path
):
    more = ("--tune.curriculum.rounds", "[{low: 5, high: 10, steps: 25}]", "--tune.checkpoint_seconds", "0")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    train_iterative(configured(undisturbed, *more, uri=ONE_SCENE))
    job = subprocess.Popen(
        [sys.executable, "-m", "recapture.flows.cli", "train", *words(disturbed, *more, uri=ONE_SCENE)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )
    deadline = time.monotonic() + 150
    states = disturbed / "artifacts/checkpoints/tune"
    while not list(states.glob("*/state.safetensors")) and time.monotonic() < deadline:
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait(timeout=30)
    (state,) = states.glob("*/state.safetensors")
    assert not ArtifactStore(f"{disturbed}/artifacts").keys("tune")
    summary = train_iterative(configured(disturbed, *more, uri=ONE_SCENE))
    assert summary.counts["pairs"] == {"reused": 1} and done(summary, "tune") == 1
    assert adapters(disturbed) == adapters(undisturbed)
    assert not state.parent.exists()
