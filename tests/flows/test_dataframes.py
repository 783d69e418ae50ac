"""The Python interface: what it returns for a finished job, and what it costs to import."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.finished_job import finished_job, finished_tuning

import recapture
from recapture.conf.errors import UserError
from recapture.datasets.store.manifest import read_manifest


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two finished videos, and a tuning."""
    config = finished_job(tmp_path_factory.mktemp("job"))
    finished_tuning(config)
    return config


def test_results_lists_every_finished_video_with_its_measurements(job):
    table = recapture.results("holidays", outputs=job.outputs)
    assert list(table.columns[:4]) == ["clip", "trajectory", "video", "key"]
    assert list(table["trajectory"]) == ["orbit_right_10"] * 2
    assert table["clip"].is_unique
    assert all(Path(video).is_file() for video in table["video"])
    rows = read_manifest(job.store, "holidays", "measure").values()
    by_clip = {row["clip_id"]: row["metrics"]["classical/psnr_visible"] for row in rows}
    assert dict(zip(table["clip"], table["classical/psnr_visible"])) == by_clip


def test_a_preview_is_a_result_without_video(job, tmp_path):
    record = {"clip": "a/b", "key": "k", "metrics": {"x/psnr": math.inf}}
    folder = tmp_path / "holidays/a/b/left"
    folder.mkdir(parents=True)
    (folder / "recapture.json").write_text(json.dumps(record))
    table = recapture.results("holidays", outputs=tmp_path)
    assert table.loc[0, ["clip", "trajectory", "video"]].tolist() == ["a/b", "left", None]
    assert math.isnan(table.loc[0, "x/psnr"])


def test_the_manifest_of_a_stage_equals_the_rows_of_the_store_and_all_stages_are_the_default(job):
    rows = read_manifest(job.store, "holidays", "render")
    table = recapture.manifest("holidays", "render", store=job.store)
    assert set(table["key"]) == set(rows)
    for row in table.to_dict("records"):
        assert row["metrics"] == rows[row["key"]]["metrics"]
        assert row["created_at"].to_pydatetime() == rows[row["key"]]["created_at"]
    every = recapture.manifest("holidays", store=job.store)
    assert every["stage"].value_counts().to_dict() == dict.fromkeys(
        ("ingest", "depth", "render", "fill", "measure", "deliver"), 2
    )
    assert every["created_at"].is_monotonic_increasing


def test_the_newest_row_of_a_key_and_the_newest_measurement_of_a_video_count(job, tmp_path):
    config = finished_job(tmp_path, "--measure.baselines", "true")
    before = recapture.measurements("holidays", store=config.store)
    finished_job(tmp_path, "--measure.baselines", "false")
    assert len(recapture.manifest("holidays", "measure", store=config.store)) == 4
    after = recapture.measurements("holidays", store=config.store)
    assert set(before["method"]) == {"classical", "copy_source"}
    assert set(after["method"]) == {"classical"}


def test_measurements_are_one_row_per_video_and_method(job):
    table = recapture.measurements("holidays", store=job.store)
    assert list(table.columns[:3]) == ["clip", "trajectory", "method"]
    assert not table.duplicated(["clip", "trajectory", "method"]).any()
    wide = recapture.results("holidays", outputs=job.outputs)
    mean = table.groupby("method")["psnr_visible"].mean()
    assert mean["classical"] == pytest.approx(wide["classical/psnr_visible"].mean())


def test_the_curve_is_one_row_per_metric_and_angle(job):
    table = recapture.curve("holidays", outputs=job.outputs)
    assert table["gain"].tolist() == [1.0, 0.5]
    assert table["angle"].tolist() == [20.0, 40.0]


def test_the_configured_places_are_the_default(job, monkeypatch):
    monkeypatch.setenv("RECAPTURE_STORE", job.store)
    monkeypatch.setenv("RECAPTURE_OUTPUTS", job.outputs)
    assert len(recapture.results("holidays")) == len(recapture.manifest("holidays", "deliver")) == 2


@pytest.mark.parametrize("name", ["results", "curve"])
def test_an_unknown_dataset_in_the_outputs_is_one_error_that_lists_those_there_are(job, tmp_path, name):
    ask = getattr(recapture, name)
    with pytest.raises(UserError, match=r"'holiday' has no .*; choose one of holidays$"):
        ask("holiday", outputs=job.outputs)
    with pytest.raises(
        UserError, match=r"'holiday' has no .* in outputs .*; nor has any other; run a job first"
    ):
        ask("holiday", outputs=tmp_path / "empty")
    with pytest.raises(UserError, match=re.escape("'../holidays' cannot be the name of a dataset")):
        ask("../holidays", outputs=job.outputs)


@pytest.mark.parametrize("name", ["manifest", "measurements"])
def test_an_unknown_dataset_in_the_store_is_one_error_that_lists_those_there_are(job, tmp_path, name):
    ask = getattr(recapture, name)
    with pytest.raises(UserError, match=r"'holiday' has no manifest in store .*; choose one of holidays$"):
        ask("holiday", store=job.store)
    with pytest.raises(UserError, match=r"'holiday' has no manifest .*; nor has any other; run a job first"):
        ask("holiday", store=tmp_path / "empty")
    with pytest.raises(UserError, match=r"store is one path or URL, not"):
        ask("holidays", store=[job.store, job.store])


def test_an_unknown_stage_is_one_error_that_lists_those_there_are(job):
    with pytest.raises(
        UserError, match=r"no manifest of stage 'fil' .* deliver, depth, fill, ingest, measure"
    ):
        recapture.manifest("holidays", "fil", store=job.store)


def test_importing_the_package_imports_nothing_but_itself():
    code = "import sys; before = set(sys.modules); import recapture; print(sorted(set(sys.modules) - before))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "['recapture']"
    assert {"results", "manifest", "measurements", "curve"} <= set(dir(recapture))
    with pytest.raises(AttributeError, match=r"has no attribute 'result'"):
        recapture.result  # noqa: B018
