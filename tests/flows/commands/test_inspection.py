"""plan, status, quarantine and doctor say what is so."""

import json
import os
import shutil

import pytest
from support.bare_job import run_bare

from recapture.conf.errors import UserError
from recapture.datasets.media import encoding
from recapture.datasets.store.manifest import read_manifest
from recapture.flows.commands import doctor
from recapture.flows.commands.doctor import examine, run_checks
from recapture.flows.commands.plan import duration, forecast, print_plan
from recapture.flows.commands.quarantine import drop_quarantined, print_quarantine, retry_quarantined
from recapture.flows.commands.status import print_status
from recapture.flows.jobs import surveyed
from recapture.flows.recapture_dataset import recapture

pytestmark = pytest.mark.integration
ONE_FAILS = (
    "--trajectories",
    "[{preset: static, name: ok}, {preset: static, mode: bullet_time, freeze_frame: 99, name: late}]",
)


def forecasts(config):
    return {row.stage: row for row in forecast(*surveyed(config))}


def printed(capsys, show, *arguments):
    capsys.readouterr()
    show(*arguments, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_plan_tells_new_from_reused_and_takes_times_from_past_items(job, finished, tmp_path, capsys):
    before = forecasts(job("--store", f"{tmp_path}/empty"))
    assert {row.new for row in before.values()} == {1}
    assert {row.work_seconds for row in before.values()} == {None}

    after = printed(capsys, print_plan, job())
    assert [(row["new"], row["reused"]) for row in after["stages"]] == [(0, 1)] * 6
    assert {row["seconds"] for row in after["stages"]} == {0.0}

    changed = forecasts(job("--fill.inpaint_radius", "5"))
    assert {stage: (row.new, row.reused) for stage, row in changed.items()} == {
        **dict.fromkeys(("ingest", "depth", "render"), (0, 1)),
        **dict.fromkeys(("fill", "measure", "deliver"), (1, 0)),
    }
    (row,) = read_manifest(job().store, "small", "fill").values()
    assert changed["fill"].work_seconds == pytest.approx(row["seconds"])


def test_quarantine_goes_from_failure_through_retry_and_drop(job, capsys):
    config = job(*ONE_FAILS)
    run_bare(config)
    (entry,) = printed(capsys, print_quarantine, config)
    assert (entry["stage"], entry["state"]) == ("render", "quarantined")
    assert entry["item"].endswith("@late") and "frames 0 to 4" in entry["error"] and entry["way_out"]
    planned = forecasts(config)
    assert (planned["render"].quarantined, planned["render"].new) == (1, 0)
    assert [planned[stage].blocked for stage in ("fill", "measure", "deliver")] == [1, 1, 1]

    with pytest.raises(UserError, match="nothing in quarantine matches 'nobody'"):
        retry_quarantined(config, "nobody", False)
    with pytest.raises(UserError, match="--all"):
        retry_quarantined(config, None, False)

    retry_quarantined(config, "*@late", False)
    assert printed(capsys, print_quarantine, config) == []
    assert forecasts(config)["render"].new == 1
    assert recapture(config).failure_share == 0.5

    drop_quarantined(config, None, True)
    assert forecasts(config)["render"].dropped == 1
    assert recapture(config).wanted == 1
    retry_quarantined(config, None, True)  # all that is quarantined, which a dropped item is not
    (entry,) = printed(capsys, print_quarantine, config)
    assert entry["state"] == "dropped"
    with pytest.raises(UserError, match="nothing in quarantine matches 'all'"):
        retry_quarantined(config, "all", False)
    retry_quarantined(config, entry["key"][:8], False)
    assert printed(capsys, print_quarantine, config) == []


def test_status_knows_how_jobs_ended_and_where_their_results_are(job, tmp_path, migrated_mlflow, capsys):
    (tmp_path / "state").mkdir()
    shutil.copy(migrated_mlflow, tmp_path / "state/mlflow.db")
    config = job("--tracking.enabled", "true")
    assert printed(capsys, print_status, config)["jobs"] == []
    recapture(config)
    recapture(config)
    status = printed(capsys, print_status, config)
    second, first = status["jobs"]
    for past in (first, second):
        assert (past["state"], past["delivered"], past["wanted"]) == ("finished", 1, 1)
    assert first["stages"]["fill"] == {"ok": 1} and second["stages"] == {}
    assert status["measurements"]["classical"]["psnr"] > 0
    found = {name for name in os.listdir(status["videos"]) if not name.startswith(".")}  # noqa: PTH208
    assert found == {"_page", "index.html", "scene-000003"}
    assert sorted(os.listdir(status["tables"])) == sorted(first["stages"])  # noqa: PTH208

    without = printed(capsys, print_status, job())
    assert [past["state"] for past in without["jobs"]] == ["unknown"]


def test_status_without_its_mlflow_server_still_answers(job, finished, capsys):
    capsys.readouterr()
    print_status(job("--tracking.enabled", "true", "--tracking.uri", "http://127.0.0.1:9"), as_json=True)
    out, err = capsys.readouterr()
    assert len(json.loads(out)["jobs"]) == 1
    assert "MLflow at http://127.0.0.1:9 is unreachable" in err


def test_doctor_finds_nothing_wrong_with_a_job_that_runs(job, capsys):
    assert run_checks(job(), as_json=True) == 0
    found = {finding["check"] for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "video", "dataset", "store", "disk", "prefect", "mlflow", "ray"} <= found


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("dataset", ["--dataset.uri", "/no/such/folder"]),
        ("store", ["--store", "/proc/nowhere"]),
        ("models", ["--depth.model", "/no/model"]),
        ("models", ["--fill.method", "base", "--fill.adapter", "/no/adapter.safetensors"]),
        ("ray", ["--execution.executor", "ray", "--execution.ray_address", "127.0.0.1:9"]),
        ("ray", ["--execution.executor", "ray", "--execution.resources", "{fill: {gpus: 99}}"]),
        ("models", ["--caption.model", "/nowhere"]),
        ("models", ["--mask.select.words", "a dog"]),
    ],
)
def test_doctor_fails_what_would_fail_and_says_the_way_out(job, check, words):
    failed = [finding for finding in examine(job(*words)) if finding.status == "fail"]
    assert [finding.check for finding in failed] == [check]
    assert all(finding.way_out for finding in failed)


def test_doctor_names_the_format_and_an_encoder_that_is_missing(job, monkeypatch):
    (finding,) = doctor._formats(job("--deliver.codec", "h265", "--deliver.bits", "10"))
    assert (finding.status, finding.message) == ("ok", "deliver: h265 yuv420p10le")
    monkeypatch.setitem(encoding.ENCODERS, "h265", "libx266")
    (finding,) = doctor._formats(job("--deliver.codec", "h265"))
    assert finding.status == "fail" and "no encoder libx266" in finding.message
    assert finding.way_out.endswith("or set deliver.codec h264")


def test_a_check_that_raises_reports_what_failed_with_its_own_way_out(job, monkeypatch):
    def broken(config):
        raise OSError("cannot reach redis://me:secret@head:6379")

    monkeypatch.setattr(doctor, "check_ray", broken)
    (finding,) = (finding for finding in examine(job()) if finding.status == "fail")
    assert (finding.check, finding.message) == ("ray", "OSError: cannot reach redis://head:6379")
    assert "--execution.executor inline" in finding.way_out

    def missing(config):
        raise ImportError("no module called ray")

    monkeypatch.setattr(doctor, "check_ray", missing)
    (finding,) = (finding for finding in examine(job()) if finding.status == "fail")
    assert finding.way_out.startswith("install again")


def test_doctor_warns_of_an_mlflow_server_that_is_away(job):
    away = job("--tracking.enabled", "true", "--tracking.uri", "http://127.0.0.1:9")
    (finding,) = (finding for finding in examine(away) if finding.check == "mlflow")
    assert finding.status == "warn" and "mlflow server" in finding.way_out


def test_doctor_reports_settings_that_cannot_be_used_and_goes_on(recapture_command):
    done = recapture_command("doctor", "--json", "--fill.window", "18")
    findings = {finding["check"]: finding for finding in json.loads(done.out)}
    assert done.code == 1
    assert findings["configuration"]["status"] == "fail" and "4n+1" in findings["configuration"]["message"]
    assert findings["video"]["status"] == "ok"


def test_a_pattern_may_stand_before_between_or_after_settings(recapture_command, tmp_path):
    settings = ["--store", str(tmp_path / "artifacts"), "--dataset.name=small"]
    for words in (["a*", *settings], [*settings, "a*"], [settings[0], settings[1], "a*", settings[2]]):
        done = recapture_command("quarantine", "retry", *words)
        assert done.code == 2
        assert "nothing in quarantine matches 'a*'" in done.err.replace("\n", " ")


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
