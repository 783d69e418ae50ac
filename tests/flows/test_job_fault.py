"""What goes wrong around a job: artifacts changed behind its back, other jobs, the clock, depth, cameras."""

import shutil
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.bare_job import artifacts, configure, counts, run_bare
from support.plans import planned
from support.subprocesses import run_python

from recapture.conf.errors import ConfigError
from recapture.datasets.media.video import write_video
from recapture.datasets.store import manifest
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.upkeep import verify

STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]


@pytest.fixture
def root(finished_bare, tmp_path):
    shutil.copytree(finished_bare, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_an_artifact_damaged_behind_our_back_is_found_removed_and_made_again(root):
    config = configure(root, count=1)
    before = artifacts(root)
    store = ArtifactStore(config.store)
    (key,) = store.keys("render")
    victim = next(Path(config.store, "objects/render", key[:2], key).glob("frames-*.npz"))
    victim.write_bytes(bytes(victim.stat().st_size))  # as long as it was: no listing shows it
    store.delete("fill", *store.keys("fill"))

    first = run_bare(config)
    (found,) = first["fill"]
    assert (found.status, found.error_type) == ("blocked", "ArtifactDamaged")
    assert f"{key} of stage 'render' is damaged: {victim.name}" in found.error
    assert found.error.endswith("it was removed: rerun the job to make it again")
    assert not store.exists("render", key)
    assert Quarantine(config.store, "small").entries() == []

    assert counts(run_bare(config))["render"] == {"ok": 1}
    assert artifacts(root) == before


def test_a_parent_deleted_between_the_plan_and_the_work_blocks_its_item_and_is_made_again(root, monkeypatch):
    config = configure(root, count=1)
    before = artifacts(root)
    store = ArtifactStore(config.store)
    store.delete("fill", *store.keys("fill"))
    from recapture.tasks.engine import run_stage as run

    sort_items = run.sort_items

    def sort_then_delete(stage, *arguments, **settings):
        todo = sort_items(stage, *arguments, **settings)
        if stage.name == "fill":
            store.delete("render", *store.keys("render"))
        return todo

    with monkeypatch.context() as patch:
        patch.setattr(run, "sort_items", sort_then_delete)
        (found,) = run_bare(config)["fill"]
    assert (found.status, found.error_type) == ("blocked", "ArtifactMissing")
    assert Quarantine(config.store, "small").entries() == []
    run_bare(config)
    assert artifacts(root) == before


def test_two_jobs_on_one_dataset_at_once_leave_what_one_leaves(finished_bare, tmp_path):
    code = (
        "import os, sys\n"
        "from support.bare_job import configure, run_bare\n"
        "jobs = []\n"
        "for _ in range(2):\n"
        "    if not (job := os.fork()):\n"
        "        made = run_bare(configure(sys.argv[1], count=1)).values()\n"
        "        os._exit(not all(outcome.usable for outcomes in made for outcome in outcomes))\n"
        "    jobs.append(job)\n"
        "sys.exit(any([os.waitpid(job, 0)[1] for job in jobs]))\n"
    )
    done = run_python("-c", code, str(tmp_path), timeout=200)
    assert done.returncode == 0, done.stderr
    assert artifacts(tmp_path) == artifacts(finished_bare)
    assert [p for _, _, problems in verify(f"{tmp_path}/artifacts", "small") for p in problems] == []
    assert [path for path in tmp_path.rglob("objects/**/.*") if path.is_file()] == []


def test_a_clock_that_was_set_back_loses_nothing_and_repeats_nothing(root, monkeypatch):
    config = configure(root, count=1)
    before = artifacts(root)

    class Earlier(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) - timedelta(days=400)

    monkeypatch.setattr(manifest, "datetime", Earlier)
    outcomes = run_bare(config)
    assert counts(outcomes) == {stage: {"reused": 1} for stage in STAGES}
    store = ArtifactStore(config.store)
    measured = outcomes["measure"][0].metrics
    store.delete("measure", *store.keys("measure"))
    again = run_bare(config)
    assert counts(again)["measure"] == {"ok": 1}
    assert again["measure"][0].metrics == run_bare(config)["measure"][0].metrics == measured
    rows = manifest.read_manifest(config.store, "small", "measure")
    assert max(row["created_at"] for row in rows.values()) > datetime.now(UTC) - timedelta(days=1)
    assert artifacts(root) == before


FLAT = np.full((6, 40, 64), 3.0)
DEPTHS = {
    "non-finite": (np.where(np.arange(6)[:, None, None] == 4, np.nan, FLAT), "depth has 1 frames (4)"),
    "negative": (-FLAT, "depth has 6 frames"),
    "wrong length": (FLAT[:4], "4"),
    "wrong axes": (FLAT[:, :, 0], "depth"),
}


def test_depth_that_cannot_be_used_costs_its_own_clip_only_and_says_why(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = [np.stack([np.roll(ramp, 3 * t)[None].repeat(40, 0)] * 3, -1) for t in range(6)]
    depths = {**DEPTHS, "constant": (FLAT, "")}
    for name, (depth, _) in depths.items():
        write_video(str(folder / f"{name}.mp4"), frames, fps=Fraction(12))
        np.savez(folder / f"{name}.depth.npz", depth=depth.astype(np.float32))
    config = configure(tmp_path, "--dataset.uri", str(folder))
    outcomes = run_bare(config)
    errors = {clip.id: clip.error for clip in planned(config).rejected}
    errors |= {o.clip_id: o.error for o in [*outcomes["ingest"], *outcomes["depth"]] if not o.usable}
    assert errors.keys() == DEPTHS.keys()
    for name, (_, message) in DEPTHS.items():
        assert f"clip {name!r}" in errors[name] and message in errors[name]
    # A wall is a scene: constant depth is filmed like any other.
    assert {o.clip_id for o in outcomes["deliver"] if o.status == "ok"} == {"constant"}


def test_cameras_behind_the_scene_are_refused_or_see_nothing_and_the_others_are_made(tmp_path):
    paths = (
        "{preset: static, name: ok}",
        "{keyframes: [{at: 0, pan: 180}], name: away}",
    )
    through = "[{preset: dolly_in, distance: 2}]"
    with pytest.raises(ConfigError, match="would pass the pivot; stay below 1"):
        configure(tmp_path, "--trajectories", through, count=1)
    outcomes = run_bare(configure(tmp_path, "--trajectories", f"[{', '.join(paths)}]", count=1))
    found = {outcome.item.rpartition("@")[2]: outcome for outcome in outcomes["render"]}
    assert found["ok"].metrics["hole_share"] < 0.2
    assert found["away"].metrics["hole_share"] == 1.0
    delivered = {outcome.item.rpartition("@")[2] for outcome in outcomes["deliver"] if outcome.status == "ok"}
    assert delivered == {"ok", "away"}
