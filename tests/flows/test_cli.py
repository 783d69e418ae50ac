"""The command line answers with one clear message, whatever is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import recapture

HEAVY = {"torch", "ray", "prefect", "mlflow", "cv2", "pydantic", "transformers", "pandas"}


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from recapture.flows.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    for command in (
        "run",
        "inpaint",
        "preview",
        "plan",
        "status",
        "quarantine",
        "doctor",
        "config",
        "ui",
        "cameras",
    ):
        assert command in done.stdout
    assert "heavy: []" in done.stdout


def test_the_file_runs_as_a_script_from_any_folder(tmp_path):
    script = Path(__file__).parents[2] / "flows" / "cli.py"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        cwd=tmp_path,
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "recapture" in done.stdout


def test_the_default_dataset_is_found_from_any_folder(recapture_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = recapture_command("plan", "--json", "--store", f"{tmp_path}/artifacts")
    assert done.code == 0, done.err
    assert json.loads(done.out)["clips"] == 6


def test_help_lists_the_jobs_first_and_in_groups(recapture_command):
    text = recapture_command("--help").out
    marks = ["Jobs", "run ", "inpaint", "train", "Inspect", "plan", "settings", "Maintain", "replay", "gc"]
    places = [text.index(mark, text.index("─ Jobs")) for mark in marks]
    assert places == sorted(places)


def test_the_version_is_printed(recapture_command):
    assert recapture_command("--version").out.strip() == recapture.__version__


def test_the_shell_completes_commands():
    asked = {"_RECAPTURE_COMPLETE": "complete_bash", "COMP_WORDS": "recapture r", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "recapture.flows.cli"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["run", "report", "replay"]


def test_settings_are_described_by_section_or_by_a_part_of_the_name(recapture_command):
    (window,) = json.loads(recapture_command("settings", "fill.window", "--json").out)
    assert window["name"] == "fill.window"
    assert (window["type"], window["default"], window["bounds"]) == ("int", "49", "5 to 1001")
    text = recapture_command("settings", "dilate").out
    assert text.startswith("mask.dilate  (int, 0 to 256, default 2)\n    Pixels by which masks")
    done = recapture_command("settings", "fil.window")
    assert done.code == 2 and "did you mean fill.window?" in done.err


def test_the_settings_page_is_what_the_models_say(recapture_command):
    page = Path(__file__).parents[2] / "docs/settings.md"
    assert recapture_command("settings", "--markdown").out == page.read_text(), (
        "generate it again: recapture settings --markdown > docs/settings.md"
    )


def test_config_prints_what_the_layers_come_to(recapture_command, monkeypatch):
    monkeypatch.setenv("RECAPTURE_SEED", "7")
    settings = yaml.safe_load(recapture_command("config", "--profile", "demo", "--fill.window", "17").out)
    assert (settings["fill"]["window"], settings["seed"], settings["dataset"]["name"]) == (17, 7, "sample")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--fill.windw", "17"], "fill.windw: no such setting; did you mean fill.window?"),
        (["run", "--profile", "nope"], "no profile is called 'nope'"),
        (["plan", "--dataset.uri", "/no/such/folder"], "/no/such/folder"),
        (["run", "--method", "guess"], "fill.method"),
        (["run", "--dataset", "sample"], "dataset file 'sample' does not exist; give a path to a YAML file"),
        (["config", "--trajectories", "[{preset: orbit_rigth}]"], "did you mean 'orbit_right'?"),
        (["plan", "--trajectories", "[{preset: orbit_left, distance: 1}]"], "write angle_degrees instead"),
        (["run", "--trajectories", "[{preset: dolly_in, angle_degrees: 9}]"], "write distance instead"),
        (
            ["run", "--trajectories", "[{file: gone.npz}]"],
            "trajectory 'gone': file 'gone.npz' cannot be used",
        ),
        (["preview", "--trajectories", "[{file: gone.npz}]"], "file 'gone.npz' cannot be used"),
        (["run", "--fill.base", "no/such/base"], "fill.base: no/such/base"),
        (["run", "--depth.model", "no/such/model"], "depth.model: 'no/such/model' does not exist"),
        (["run", "--measure.learned.dino", "no/dino"], "measure.learned.dino: 'no/dino' does not exist"),
        (["inpaint"], "set mask.uri, mask.objects, mask.select or mask.outpaint"),
        (
            ["run", "--mask.keep_first_frame", "true"],
            "set mask.uri, mask.objects, mask.select or mask.outpaint",
        ),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(recapture_command, words, message):
    done = recapture_command(*words)
    assert done.code == 2
    assert message in done.err.replace("\n", " ")
    assert "Traceback" not in done.err
