"""The pre-training flow, small: what MLflow holds, what is exported, kill and resume, gates that stop it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from mlflow import MlflowClient
from typer.testing import CliRunner

from recapture.conf.load import load_pretrain_config
from recapture.conf.pretrain import PARTS
from recapture.flows.cli import app
from recapture.models.depth.estimator import DepthEstimator
from recapture.models.pretraining.depth import predict_depth
from recapture.models.wan.load import load_base
from recapture.models.wan.parallel_vae import encode_moments
from recapture.tasks.pretrain.curves import curve, file_log
from recapture.tasks.pretrain.gates import GateFailed
from recapture.tasks.pretrain.parts import Pretraining

pytestmark = pytest.mark.integration
SMOKE = str(Path(__file__).parents[1] / "support/pretrain_smoke.yaml")
STEPS = {"vae": [2, 4, 6], "refine": [2, 4], "sharpen": [2, 4], "inpainter": [2, 4], "depth": [2, 4]}
STEPS["features"] = [2, 4]


def settings(folder, *words):
    """The words that place a small run below a folder."""
    return ["--output", f"{folder}/out", "--work", f"{folder}/work", "--state", f"{folder}/state", *words]


def configured(folder, *words):
    return load_pretrain_config(SMOKE, arguments=settings(folder, *words))


def pretrained(folder, *words):
    from recapture.flows.pretrain import pretrain

    return pretrain(configured(folder, *words))


@pytest.fixture(scope="module")
def undisturbed(prefect_server, tmp_path_factory):
    """The folder and the result of a whole run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, pretrained(folder)


def remembered(folder):
    """The MLflow client, the parent runs and the children by part, newest first."""
    client = MlflowClient(f"sqlite:///{folder}/state/mlflow.db")
    experiment = client.get_experiment_by_name("pretrain")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    parents = [run for run in runs if "part" not in run.data.tags]
    children = {}
    for run in runs:
        if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id:
            children[run.data.tags["part"]] = run
    return client, parents[0], children


def finished_weights(folder):
    return {part: (folder / "work" / f"{part}.finished.safetensors").read_bytes() for part in PARTS}


def test_curves_samples_settings_and_summary_are_in_mlflow_and_prefect(undisturbed):
    folder, result = undisturbed
    client, parent, children = remembered(folder)
    assert (parent.info.status, parent.data.params["vae.steps"]) == ("FINISHED", "6")
    assert {"config.yaml", "summary.md"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert tuple(sorted(children)) == tuple(sorted(PARTS))
    for part, child in children.items():
        history = client.get_metric_history(child.info.run_id, "loss")
        assert [point.step for point in history] == STEPS[part]
        assert all(child.data.metrics[name] == value for name, value in result.scores[part].items())
        images = [file.path for file in client.list_artifacts(child.info.run_id, "images")]
        assert any(image.endswith(".png") and f"/{part}+" in image for image in images)

    from prefect.artifacts import Artifact

    artifact = Artifact.get("pretrain-summary")
    assert artifact.data == result.markdown()
    assert "inpainter/hole_gain is" in artifact.data


def test_the_base_loads_here_and_in_diffusers_and_is_what_was_trained(undisturbed):
    folder, _ = undisturbed
    run, path = Pretraining(configured(folder)), folder / "out" / "base"
    base = load_base(path)
    assert base.layout == "inpaint"
    stock = WanPipeline.from_pretrained(path, local_files_only=True)
    assert isinstance(stock.vae, AutoencoderKLWan) and isinstance(stock.transformer, WanTransformer3DModel)

    vae, mean, deviation = run.finished_vae()
    video = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = encode_moments(vae, video)[0]
        for loaded in (base.vae, stock.vae):
            torch.testing.assert_close(
                loaded.encode(video).latent_dist.mode(), expected, atol=2e-4, rtol=2e-4
            )
    assert torch.tensor(stock.vae.config.latents_mean) == pytest.approx(mean, abs=1e-5)
    assert torch.tensor(stock.vae.config.latents_std) == pytest.approx(deviation, abs=1e-5)

    inpainter = run.finished_inpainter()
    for loaded in (base, stock):
        for name, module in (
            ("transformer", inpainter.transformer),
            ("text_encoder", inpainter.text_encoder),
        ):
            weights = getattr(loaded, name).state_dict()
            for key, value in module.state_dict().items():
                assert torch.equal(weights[key].float(), value), key
    assert stock.tokenizer("a red sphere").input_ids == base.tokenizer("a red sphere").input_ids


def test_the_depth_directory_gives_the_trained_models_depth(undisturbed):
    folder, _ = undisturbed
    video = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    estimator = DepthEstimator(str(folder / "out" / "depth"))
    assert estimator.kind == "metric"
    expected = predict_depth(Pretraining(configured(folder)).finished_depth(), video)
    torch.testing.assert_close(estimator.estimate(video), expected, atol=1e-4, rtol=1e-4)


def test_a_killed_and_resumed_run_equals_an_undisturbed_one_bit_for_bit(undisturbed, tmp_path):
    folder, _ = undisturbed
    command = [
        sys.executable,
        "-m",
        "recapture.tasks.pretrain",
        "vae",
        "--config",
        SMOKE,
        *settings(tmp_path),
    ]
    checkpoint = tmp_path / "work" / "vae.safetensors"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert checkpoint.exists() and not (tmp_path / "work" / "vae.finished.safetensors").exists()

    run = Pretraining(configured(tmp_path))
    assert not run.train("vae", file_log(run.folder, "vae"), until=time.monotonic())
    with pytest.raises(GateFailed):  # the flow goes on with vae, and trains refine, before a gate stops it
        pretrained(tmp_path, "--gates.enforce", "true")
    for part, stop in (("sharpen", 3), ("inpainter", 3), ("depth", 2), ("features", 2)):
        assert not run.train(part, file_log(run.folder, part), stop_at=stop)
        assert Pretraining(configured(tmp_path)).train(part, file_log(run.folder, part))
    assert finished_weights(tmp_path) == finished_weights(folder)

    client, _, children = remembered(tmp_path)
    for part, child in children.items():
        logged = {point.step for point in client.get_metric_history(child.info.run_id, "loss")}
        assert (
            logged == set(curve(run.folder, part)) >= set(STEPS[part])
        )  # in one run, from the first step on


def test_a_failing_gate_stops_the_flow_and_names_itself(undisturbed, tmp_path):
    folder, _ = undisturbed
    (tmp_path / "work").mkdir()
    for part in ("vae", "refine"):
        for kind in ("finished.safetensors", "scores.json", "jsonl"):
            (tmp_path / "work" / f"{part}.{kind}").write_bytes(
                (folder / "work" / f"{part}.{kind}").read_bytes()
            )
    score = json.loads((folder / "work" / "refine.scores.json").read_text())["scores"]["classic/psnr"]
    named = f"refine/classic/psnr is {score:.4g}, needed >= 32"

    words = settings(tmp_path, "--gates.enforce", "true")
    done = CliRunner().invoke(app, ["pretrain", "--config", SMOKE, *words])
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert named in last and "gates.enforce=false" in last and "refine.steps" in last
    assert not (tmp_path / "work" / "inpainter.jsonl").exists() and not (tmp_path / "out").exists()

    _, parent, children = remembered(tmp_path)
    assert set(children) == {"vae", "refine"}
    assert parent.info.status == "FAILED"
    assert "refine/classic/psnr" in parent.data.tags["gates_missed"]
    with pytest.raises(GateFailed, match=f"gate failed: {named}"):
        pretrained(tmp_path, "--gates.enforce", "true")


def test_missed_gates_are_named_in_the_card_when_they_are_not_enforced(undisturbed):
    folder, result = undisturbed
    assert any(gate.name == "classic/psnr" and gate.part == "sharpen" for gate in result.missed)
    card = (folder / "out" / "base" / "README.md").read_text()
    for gate in result.missed:
        if gate.part in ("sharpen", "inpainter"):
            assert f"| {gate.name} | {gate.side} {gate.bound:g} | {gate.value:.4g} | not met |" in card
    assert "gates.enforce: false" in card


def test_a_second_run_trains_nothing_and_changed_settings_are_refused(undisturbed):
    folder, result = undisturbed
    before = finished_weights(folder), {p: (folder / "work" / f"{p}.jsonl").read_bytes() for p in PARTS}
    assert pretrained(folder).scores == result.scores
    assert before == (
        finished_weights(folder),
        {p: (folder / "work" / f"{p}.jsonl").read_bytes() for p in PARTS},
    )
    with pytest.raises(
        ValueError, match=r"depth\.finished\.safetensors was made with steps=4, not 5; remove"
    ):
        pretrained(folder, "--depth.steps", "5")
