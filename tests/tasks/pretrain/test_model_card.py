"""Cards against the records they are written from; the shipped ones too."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from recapture.conf.pretrain import PretrainConfig
from recapture.tasks.pretrain.curves import curve, file_log, machines, seconds
from recapture.tasks.pretrain.gates import part_gates
from recapture.tasks.pretrain.model_card import Training, base_card, depth_card, features_card, score_table
from recapture.tasks.pretrain.summary import Pretrained

WEIGHTS = Path(__file__).parents[3] / "weights"
REACHED = {
    "refine": {"classic/psnr": 33, "classic/chroma_r2": 0.98, "wide/psnr": 31, "wide/chroma_r2": 0.99},
    "inpainter": {"hole_gain": 2.5, "colour_accuracy": 0.9},
}


def record(config, scores=REACHED, earlier=None):
    sizes = {"vae": 2_500_000, "transformer": 7_104_000}
    return Training.of(config, sizes, scores, {"vae": 400.4, "inpainter": 90}, "NVIDIA H200", earlier or {})


CARDS = {"base": base_card, "depth": depth_card, "features": features_card}


@pytest.mark.parametrize(("name", "card"), CARDS.items())
def test_a_shipped_card_is_what_its_record_gives(name, card):
    training = Training.read(WEIGHTS / name)
    assert card(training) == (WEIGHTS / name / "README.md").read_text()
    numbers = 0
    for path in (WEIGHTS / name).rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                size = 1
                for side in file.get_slice(key).get_shape():
                    size *= side
                numbers += size
    assert sum(training.parameters.values()) == pytest.approx(numbers, rel=1e-3)


def test_the_shipped_cards_name_exactly_the_gates_that_are_missed():
    training = Training.read(WEIGHTS / "base")
    gates = [
        g for part, scores in training.scores.items() for g in part_gates(training.config.gates, part, scores)
    ]
    lines = base_card(training).splitlines()
    for gate in gates:
        (row,) = [line for line in lines if line.startswith(f"| {gate.name} | {gate.side}")]
        assert row.endswith("| met |" if gate.value >= gate.bound else "| not met |")


def test_a_card_adds_up_the_runs_that_its_weights_come_from():
    earlier = {"inpainter": [{"steps": 700, "seconds": 30.0}, {"steps": 0, "seconds": 0.0}]}
    words = " ".join(base_card(record(PretrainConfig(), earlier=earlier)).split())
    assert "transformer and text encoder 700 + 13000 steps" in words and "inpainter 120 s" in words


def test_a_card_says_recipe_time_gates_and_licence():
    card = base_card(record(PretrainConfig(vae={"steps": 11, "rate": 0.1, "ema": 0.9}, inpainter_batch=5)))
    words = " ".join(card.split())
    assert card.startswith("---\nlicense: apache-2.0\n---\n")
    assert "vae 2.50 M, transformer 7.10 M" in words
    assert "autoencoder 11 steps" in words and "steps of 5 clips" in words
    assert "Training time: vae 400 s, inpainter 90 s on NVIDIA H200" in words
    assert "1 of 6 gates are not met: wide/psnr." in words
    assert "| wide/psnr | >= 32 | 31 | not met |" in card and "| hole_gain | >= 2 | 2.5 | met |" in card
    assert max(map(len, card.splitlines())) <= 110
    better = {**REACHED, "refine": {**REACHED["refine"], "wide/psnr": 32.0}}
    assert "All 6 gates are met." in base_card(record(PretrainConfig(), better))


def test_a_record_comes_back_from_its_file_and_names_no_place(tmp_path):
    config = PretrainConfig(work="/secret/folder", tracking={"uri": "http://user:word@host"}, seed=7)
    training = record(config)
    training.write(tmp_path)
    assert Training.read(tmp_path) == training
    assert training.config == PretrainConfig(seed=7)
    assert "secret" not in (tmp_path / "training.json").read_text()
    assert "word@host" not in (tmp_path / "training.json").read_text()


def test_seconds_count_every_step_once(tmp_path):
    lines = [(10, 2.0), (20, 5.0), (15, 100.0), (20, 100.0), (30, 10.0)]  # killed after 20, resumed at 10
    rows = [json.dumps({"step": step, "steps_per_second": pace, "machine": "m"}) for step, pace in lines]
    (tmp_path / "vae.jsonl").write_text("\n".join(rows) + "\n")
    assert seconds(tmp_path, "vae") == pytest.approx(10 / 2 + 10 / 5 + 10 / 10)
    assert seconds(tmp_path, "depth") == 0
    assert curve(tmp_path, "vae") == {
        s: {"steps_per_second": p} for s, p in [(10, 2), (15, 100), (20, 100), (30, 10)]
    }
    assert machines(tmp_path, ["vae", "depth"]) == "m"


def test_what_is_logged_is_read_back(tmp_path, capsys):
    log = file_log(tmp_path / "new", "depth")
    log(50, {"loss": 1.23456789})
    log(100, {"loss": 0.5})
    assert curve(tmp_path / "new", "depth") == {50: {"loss": 1.234568}, 100: {"loss": 0.5}}
    assert capsys.readouterr().out.count("depth {") == 2


def test_the_summary_names_missed_gates_and_what_was_exported(tmp_path):
    result = Pretrained(PretrainConfig(output=str(tmp_path)), dict(REACHED))
    assert result.lines() == ["nothing exported", "gate missed: refine/wide/psnr is 31, needed >= 32"]
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model").write_bytes(bytes(2_500_000))
    result.exported = True
    assert result.lines()[0] == f"{tmp_path}/base, {tmp_path}/depth and {tmp_path}/features: 2.5 MB"
    page = result.markdown()
    assert "| wide/psnr | >= 32 | 31 | not met |" in page and score_table(REACHED["inpainter"]) in page
