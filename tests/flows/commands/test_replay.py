"""`replay` makes one item again and compares; with `plan` it knows every kind of job."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from support.bare_job import artifacts, configure, run_bare

from recapture.conf.errors import UserError
from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.plan import print_plan
from recapture.flows.commands.replay import replay
from recapture.tasks.jobs.job import inpaint_stages
from recapture.tasks.jobs.still_camera import with_still_camera

OTHER = ("--fill.inpaint_radius", "5")
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]
ONE_FAILS = (
    "--trajectories",
    "[{preset: static, name: ok}, {preset: static, mode: bullet_time, freeze_frame: 99, name: late}]",
)


@pytest.fixture
def job(finished_bare, tmp_path):
    shutil.copytree(finished_bare, tmp_path, dirs_exist_ok=True)
    return configure(tmp_path, count=1)


def printed(capsys, show, *arguments, **settings):
    capsys.readouterr()
    code = show(*arguments, as_json=True, **settings)
    return json.loads(capsys.readouterr().out), code


def only_key(config, stage):
    (key,) = ArtifactStore(config.store).keys(stage)
    return key


def folder_of(config, stage, key=None):
    key = key or only_key(config, stage)
    return Path(config.store, "objects", stage, key[:2], key)


def test_replay_of_a_failure_prints_its_traceback_and_changes_nothing(tmp_path, capsys):
    config = configure(tmp_path, *ONE_FAILS, count=1)
    run_bare(config)
    (entry,) = Quarantine(config.store, "small").entries()
    before = {path: path.stat().st_mtime_ns for path in Path(config.store).rglob("*")}
    assert replay(config, entry.item, "render") == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last)")
    assert "camera_path" in error and entry.error.splitlines()[0][:40] in error
    assert {path: path.stat().st_mtime_ns for path in Path(config.store).rglob("*")} == before


def test_replay_that_succeeds_commits_and_leaves_quarantine(job, tmp_path, capsys):
    before = artifacts(tmp_path)
    store, quarantine = ArtifactStore(job.store), Quarantine(job.store, "small")
    (row,) = read_manifest(job.store, "small", "fill").values()
    failed = configure(tmp_path, *ONE_FAILS, count=1)
    run_bare(failed)
    (entry,) = quarantine.entries()
    repaired = {"stage": "fill", "key": row["key"], "item": row["item"], "clip_id": row["clip_id"]}
    quarantine.add(type(entry)(**{**vars(entry), **repaired}))
    store.delete("fill", row["key"])
    assert replay(job, row["item"], "fill") == 0
    assert "out of quarantine" in capsys.readouterr().out
    assert [held.stage for held in quarantine.entries()] == ["render"]
    assert {path: content for path, content in artifacts(tmp_path).items() if path in before} == before
    assert set(read_manifest(job.store, "small", "fill")[row["key"]]["metrics"]) == {"windows"}


def test_replay_of_what_is_there_compares_and_leaves_it(job, tmp_path, capsys):
    (row,) = read_manifest(job.store, "small", "fill").values()
    assert replay(job, row["clip_id"], "fill") == 0
    assert "has the same bytes" in capsys.readouterr().out
    victim = folder_of(job, "fill") / "frames.json"
    record = json.loads((folder_of(job, "fill") / "meta.json").read_text())
    victim.write_bytes(b"{}")
    record["files"]["frames.json"] = {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (folder_of(job, "fill") / "meta.json").write_text(json.dumps(record))
    before = artifacts(tmp_path)
    assert replay(job, row["clip_id"], "fill") == 0
    assert "differs in frames.json and is kept" in capsys.readouterr().out
    assert artifacts(tmp_path) == before


def test_replay_names_what_can_be_meant(job, tmp_path):
    config = configure(tmp_path, *ONE_FAILS, count=1)
    with pytest.raises(UserError, match="no stage is called 'fil'; choose one of ingest, depth"):
        replay(job, "a", "fil")
    with pytest.raises(UserError, match="no item is called 'nobody' in stage 'fill'; choose one of"):
        replay(job, "nobody", "fill")
    (row,) = read_manifest(job.store, "small", "ingest").values()
    with pytest.raises(UserError, match=r"matches 2 items in stage 'render'; choose one of .*@ok, .*@late"):
        replay(config, row["clip_id"], "render")
    ArtifactStore(job.store).delete("depth", only_key(job, "depth"))
    with pytest.raises(UserError, match="cannot be replayed: stage 'depth' has no artifact"):
        replay(job, row["clip_id"], "fill")


def test_plan_and_replay_know_inpainting_and_previews(tmp_path, capsys):
    config = configure(tmp_path, "--mask.objects", "[1]", "--measure.baselines", "false", count=1)
    before, _ = printed(capsys, print_plan, config, kind="inpaint")
    assert [stage["stage"] for stage in before["stages"]] == ["ingest", "depth", "mask", *STAGES[2:]]
    assert before["trajectories"] == ["inpaint"] and all(stage["new"] == 1 for stage in before["stages"])
    still = with_still_camera(config)
    run_bare(still, inpaint_stages(still))
    after, _ = printed(capsys, print_plan, config, kind="inpaint")
    assert [(stage["new"], stage["reused"]) for stage in after["stages"]] == [(0, 1)] * 7
    along, _ = printed(capsys, print_plan, config)
    assert {stage["stage"]: stage["new"] for stage in along["stages"]}["render"] == 1
    preview, _ = printed(capsys, print_plan, config, kind="preview")
    assert preview["stages"][-1]["stage"] == "preview"

    (row,) = read_manifest(config.store, "small", "fill").values()
    assert replay(config, row["item"], "fill", "inpaint") == 0
    assert "has the same bytes" in capsys.readouterr().out
    with pytest.raises(UserError, match="no item is called"):
        replay(config, row["item"], "fill")
    with pytest.raises(UserError, match="no job is called 'paint'; choose one of recapture, inp"):
        replay(config, row["item"], "fill", "paint")
    with pytest.raises(UserError, match=r"set mask\.uri"):
        print_plan(configure(tmp_path, count=1), kind="inpaint")
