"""`manifest` and `gc` find what is wrong or left over, and change nothing else."""

import json
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.bare_job import artifacts, configure, counts, run_bare
from support.plans import planned
from support.scripted import Scripted, items

from recapture.conf.errors import UserError
from recapture.datasets.media.video import write_video
from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.upkeep import garbage
from recapture.flows.cli import app
from recapture.flows.commands.upkeep import collect_garbage, compact_manifests, verify_manifests
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.run_stage import RunContext, run_stage

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


def age(config, hours):
    """Make everything in the store look as old as that."""
    then = time.time() - hours * 3600
    for path in Path(config.store).rglob("*"):
        os.utime(path, (then, then))


def old_of(config, kept, capsys, dry_run=True):
    """Return what `gc` finds with --old-settings, where any are kept."""
    capsys.readouterr()
    collect_garbage(config, 24, dry_run, as_json=True, kept=kept)
    return json.loads(capsys.readouterr().out)


def test_verify_finds_nothing_wrong_with_a_finished_job(job, capsys):
    found, code = printed(capsys, verify_manifests, job)
    assert (found, code) == ({"promised": 6, "problems": []}, 0)


def test_verify_names_what_is_missing_and_what_is_damaged_and_its_way_out_works(job, tmp_path, capsys):
    before = artifacts(tmp_path)
    shutil.rmtree(folder_of(job, "depth"))
    victim = folder_of(job, "fill") / "frames-00000.npz"
    victim.write_bytes(b"X" + victim.read_bytes()[1:])  # as long as it was
    found, code = printed(capsys, verify_manifests, job)
    problems = {problem["stage"]: problem for problem in found["problems"]}
    assert code == 1
    assert {stage: problem["what"] for stage, problem in problems.items()} == {
        "depth": "missing",
        "fill": "damaged",
    }
    assert "frames-00000.npz" in problems["fill"]["message"]
    assert victim.exists()

    printed(capsys, verify_manifests, job, delete=True)
    made = counts(run_bare(job))
    assert {stage for stage in STAGES if made[stage].get("ok")} == {"depth", "fill"}
    assert artifacts(tmp_path) == before
    assert printed(capsys, verify_manifests, job)[1] == 0


def test_compacting_leaves_one_part_a_stage_and_every_row(job, capsys):
    quarantined = configure(Path(job.store).parent, *ONE_FAILS, count=1)
    run_bare(quarantined)
    Quarantine(job.store, "small").retry(Quarantine(job.store, "small").entries()[0])
    run_bare(quarantined)
    before = {stage: read_manifest(job.store, "small", stage) for stage in STAGES}
    merged, _ = printed(capsys, compact_manifests, job)
    assert merged["render"] == 3 and merged["ingest"] == 0
    assert {stage: read_manifest(job.store, "small", stage) for stage in STAGES} == before
    for stage in STAGES:
        assert len(list(Path(job.store, "manifests/small", stage).iterdir())) == 1
    assert set(printed(capsys, compact_manifests, job)[0].values()) == {0}


def test_a_torn_part_stops_compacting_and_collecting_before_anything_is_lost(job):
    (part,) = Path(job.store, "manifests/small/fill").iterdir()
    part.write_bytes(part.read_bytes()[:-30])
    (part.parent / "part-zz-00000.parquet").write_bytes(b"")
    age(job, 100)
    before = sorted(Path(job.store).rglob("*"))
    for command in (compact_manifests, lambda config: collect_garbage(config, 24, dry_run=False)):
        with pytest.raises(UserError, match=r"manifest part .*fill/part-.* cannot be read"):
            command(job)
    assert sorted(Path(job.store).rglob("*")) == before


def test_gc_deletes_what_no_dataset_names_and_left_overs_and_nothing_else(job, tmp_path, capsys):
    other = configure(tmp_path, "--dataset.name", "other", "--fill.inpaint_radius", "5", count=1)
    run_bare(other)
    shared = artifacts(tmp_path)
    old_fill = next(
        key
        for key in ArtifactStore(job.store).keys("fill")
        if key in read_manifest(job.store, "small", "fill")
    )
    shutil.rmtree(Path(job.store, "manifests/small"))  # the dataset is given up
    half = folder_of(job, "depth", "e" * 32)
    half.mkdir(parents=True)
    (half / "frames.json").write_text("{}")
    left_over = folder_of(job, "depth") / ".meta.json.0123"
    left_over.write_text("half")
    age(job, 25)

    found, _ = printed(capsys, collect_garbage, job, 24, dry_run=True)
    reasons = sorted((item["stage"], item["why"]) for item in found)
    assert reasons == [
        ("", "left over from a write"),
        ("deliver", "named by no manifest"),
        ("depth", "never finished"),
        ("fill", "named by no manifest"),
        ("measure", "named by no manifest"),
    ]
    assert sum(item["bytes"] for item in found) > 0
    assert {path: content for path, content in artifacts(tmp_path).items() if path in shared} == shared

    printed(capsys, collect_garbage, job, 24, dry_run=False)
    assert not half.exists() and not left_over.exists() and not folder_of(job, "fill", old_fill).exists()
    assert counts(run_bare(other)) == {stage: {"reused": 1} for stage in STAGES}
    assert printed(capsys, collect_garbage, job, 24, dry_run=True)[0] == []


def test_gc_keeps_what_a_running_job_may_be_making(job, tmp_path, capsys):
    shutil.rmtree(Path(job.store, "manifests"))
    before = artifacts(tmp_path)
    assert printed(capsys, collect_garbage, job, 24, dry_run=False)[0] == []
    age(job, -5)  # written by a machine whose clock is ahead, or before ours was set back
    assert printed(capsys, collect_garbage, job, 0, dry_run=False)[0] == []
    assert artifacts(tmp_path) == before


def test_what_is_reused_is_named_again_so_that_gc_keeps_it(job, capsys):
    shutil.rmtree(Path(job.store, "manifests"))
    run_bare(job)
    age(job, 100)
    assert printed(capsys, collect_garbage, job, 24, dry_run=False)[0] == []
    (row,) = read_manifest(job.store, "small", "measure").values()
    assert row["status"] == "reused" and row["metrics"]["classical/psnr"] > 0 and row["bytes"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ["manifest", "verify"],
        ["manifest", "compact"],
        ["gc", "--dry-run", "--older-than-hours", "0"],
        ["gc", "--dry-run", "--old-settings", "--also", "demo", "--dataset.uri", "scenes://?count=1"],
        ["quarantine", "ls"],
    ],
)
def test_each_command_takes_settings_and_ends_well_on_an_empty_store(tmp_path, words, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        app([*words, "--store", str(tmp_path / "none"), "--dataset.name=small", "--json"])
    assert end.value.code in (0, None)
    assert json.loads(capsys.readouterr().out) in ([], {}, {"promised": 0, "problems": []})


def test_gc_of_old_settings_keeps_what_the_given_ones_need_and_no_row_promises_the_rest(
    job, tmp_path, capsys
):
    present = configure(tmp_path, *OTHER, count=1)
    run_bare(present)
    needed = {stage: planned(present).items(stage)[0].key for stage in STAGES}
    every = {stage: ArtifactStore(job.store).keys(stage) for stage in STAGES}
    old = {(stage, key) for stage in STAGES for key in every[stage] - {needed[stage]}}
    assert {stage for stage, _ in old} == {"fill", "measure", "deliver"}
    assert old_of(job, [present], capsys) == []  # younger than a day
    age(job, 25)

    assert old_of(job, [], capsys) == []
    assert old_of(job, [job, present], capsys) == []
    before = artifacts(tmp_path)
    found = old_of(job, [present], capsys)
    assert {(item["stage"], item["key"]) for item in found} == old
    assert {item["why"] for item in found} == {"made with other settings"}
    assert artifacts(tmp_path) == before

    assert old_of(job, [present], capsys, dry_run=False) == found
    assert {stage: ArtifactStore(job.store).keys(stage) for stage in STAGES} == {
        stage: {key} for stage, key in needed.items()
    }
    assert printed(capsys, verify_manifests, job) == ({"promised": 6, "problems": []}, 0)
    assert counts(run_bare(present)) == {stage: {"reused": 1} for stage in STAGES}
    again = counts(run_bare(job))
    assert {stage for stage in STAGES if again[stage].get("ok")} == {"fill", "measure", "deliver"}
    assert artifacts(tmp_path) == before


def test_gc_of_old_settings_keeps_what_another_dataset_names_and_clips_that_a_run_leaves_out(
    job, tmp_path, capsys
):
    run_bare(configure(tmp_path, "--dataset.name", "other", count=1))
    two = configure(tmp_path, count=2)
    run_bare(two)
    age(two, 25)
    narrow = configure(tmp_path, "--dataset.limit", "1", count=2)
    assert old_of(narrow, [narrow], capsys) == []
    changed = configure(tmp_path, *OTHER, count=2)
    shared = {key for stage in STAGES for key in read_manifest(two.store, "other", stage)}
    found = {item["key"] for item in old_of(changed, [changed], capsys)}
    assert len(found) == 3 and found.isdisjoint(shared)


def test_gc_of_old_settings_stops_where_a_clip_cannot_be_read(job, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/torn.mp4").write_bytes(b"no video")
    frame = np.full((32, 48, 3), 99, np.uint8)
    write_video(str(tmp_path / "videos/whole.mp4"), [frame] * 5, fps=Fraction(12))
    config = configure(tmp_path, "--dataset.uri", str(tmp_path / "videos"))
    age(job, 25)
    before = artifacts(tmp_path)
    with pytest.raises(UserError, match=r"nothing was deleted: 1 clips of small cannot be read \(torn\)"):
        collect_garbage(config, 24, False, kept=[config])
    assert artifacts(tmp_path) == before


def test_a_profile_to_keep_needs_the_option_that_deletes(tmp_path):
    with pytest.raises(UserError, match="--also names what --old-settings keeps"):
        app(["gc", "--also", "demo", "--store", str(tmp_path)], standalone_mode=False)


RUNNING = """
import sys, time
from recapture.datasets.store.lease import lease
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.upkeep import garbage

with lease(sys.argv[1], "running", "small"):
    with ArtifactStore(sys.argv[1]).create("fill", "f" * 32) as output:
        output.write_bytes("x.bin", b"x")
    unfinished = ArtifactStore(sys.argv[1]).create("fill", "e" * 32)
    unfinished.write_bytes("y.bin", b"y")
    print("made", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def running(tmp_path):
    """A job in another process that has made an artifact which no manifest names yet."""
    command = [sys.executable, "-c", RUNNING, str(tmp_path / "artifacts")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "made\n"
    yield process
    process.kill()
    process.communicate()


def unnamed(root, hours):
    return {(item.why, item.key[:1]) for item in garbage(str(root / "artifacts"), hours)}


BOTH = {("named by no manifest", "f"), ("never finished", "e")}


def test_gc_keeps_what_a_running_job_has_made_however_long_ago(tmp_path, running):
    root = tmp_path / "artifacts"
    assert unnamed(tmp_path, 0.0) == set()
    # A shard of 28 hours: its job began 30 h ago and lives, its first artifact is 25 h old.
    lease_file = root / "leases/running.json"
    lease_file.write_text(json.dumps({"dataset": "small", "started": time.time() - 30 * 3600}))
    then = time.time() - 25 * 3600
    for path in (root / "objects").rglob("*"):
        os.utime(path, (then, then))
    assert unnamed(tmp_path, 24.0) == set()
    running.stdin.write("\n")
    running.stdin.flush()
    running.wait(timeout=20)
    assert list((root / "leases").iterdir()) == []
    assert unnamed(tmp_path, 24.0) == BOTH


def test_gc_keeps_what_a_killed_job_has_made_for_the_stated_hours(tmp_path, running):
    running.kill()
    running.wait()
    lease_file = tmp_path / "artifacts/leases/running.json"
    record = json.loads(lease_file.read_text())
    lease_file.write_text(json.dumps(record | {"started": record["started"] - 30 * 3600}))
    then = time.time() - 25 * 3600
    for path in (tmp_path / "artifacts/objects").rglob("*"):
        os.utime(path, (then, then))
    hour_ago = time.time() - 3600
    os.utime(lease_file, (hour_ago, hour_ago))
    assert unnamed(tmp_path, 24.0) == set()  # another run would reuse it
    assert unnamed(tmp_path, 0.5) == BOTH | {("lease of a killed job", "")}
    os.utime(lease_file, (then, then))
    assert unnamed(tmp_path, 24.0) == BOTH | {("lease of a killed job", "")}


def test_gc_of_old_settings_refuses_beside_a_running_job_over_the_dataset(job, tmp_path, running):
    with pytest.raises(UserError, match="job running over small is running"):
        collect_garbage(job, 0.0, False, kept=[job])
    assert artifacts(tmp_path)


def test_an_artifact_that_a_shard_reuses_is_named_before_the_shard_works(tmp_path):
    # It was made by a job that was killed long ago; nothing else keeps it while others are made from it.
    store = ArtifactStore(str(tmp_path / "store"))
    todo = items("ok", "ok")
    with store.create("scripted", todo[0].key) as output:
        output.write_json("x.json", {})
    seen = []

    class Looking(InlineExecutor):
        def run(self, *arguments):
            seen.append(set(read_manifest(store.root, "small", "scripted")))
            return super().run(*arguments)

    with Looking(store.root) as executor:
        run_stage(Scripted(str(tmp_path / "log")), todo, RunContext(store, executor, "small", "run"))
    assert seen == [{todo[0].key}]
    assert set(read_manifest(store.root, "small", "scripted")) == {item.key for item in todo}
