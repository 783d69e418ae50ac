"""A plan of many clips: the keys of a plan of few, at the price of one look at each model."""

import shutil
from pathlib import Path

import pytest
from support.plans import planned

import recapture
from recapture.conf.load import load_config
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.index import write_index
from recapture.datasets.store.keys import content_key
from recapture.tasks.clip import base_files
from recapture.tasks.engine import model_revision as revision
from recapture.tasks.engine.model_revision import model_revision, models_looked_at_once
from recapture.tasks.engine.planner import supposed
from recapture.tasks.jobs.job import ClipJob, recapture_stages


def index(folder, count):
    """Write an index of clips that do not exist; return its path."""
    size = {"frames": 5, "width": 64, "height": 48, "duration": 0.2, "audio": False}
    clips = [
        Clip(f"a/{n}", f"/none/{n}.mp4", "video", "24", **size, caption=f"clip {n}", content_hash=str(n))
        for n in range(count)
    ]
    write_index(f"{folder}/clips.parquet", clips)
    return f"{folder}/clips.parquet"


@pytest.fixture
def config(tmp_path):
    words = ["--trajectories", "[{preset: orbit_right}, {preset: dolly_in, distance: 0.3}]"]
    return load_config(arguments=["--dataset.uri", index(tmp_path, 7), *words])


def test_a_check_and_a_plan_look_at_each_model_once_a_stage(config, monkeypatch):
    looks = []
    look, find = revision.directory_hash, base_files.find_sources
    monkeypatch.setattr(revision, "directory_hash", lambda path: looks.append(Path(path).name) or look(path))
    monkeypatch.setattr(base_files, "find_sources", lambda named: looks.append("base") or find(named))
    planned(config)
    measured = ["features"] * 4  # by two stages
    assert sorted(looks) == ["base", "base", "depth", "depth", *measured]


def test_a_changed_model_is_seen_by_the_next_plan(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(Path(recapture.__file__).parent / "weights/depth", model)
    words = ["--depth.model", str(model), "--depth.source", "auto"]
    config = load_config(arguments=["--dataset.uri", index(tmp_path, 2), *words])

    def keys():
        return [item.key for item in planned(config).items("depth")]

    first = keys()
    assert keys() == first
    (model / "note.txt").write_text("other")
    assert set(keys()).isdisjoint(first)


def test_only_within_the_look_at_once_a_revision_is_remembered(tmp_path):
    (tmp_path / "a").write_text("one")
    with models_looked_at_once():
        before = model_revision("depth.model", str(tmp_path))
        (tmp_path / "a").write_text("another")
        assert model_revision("depth.model", str(tmp_path)) == before
    assert model_revision("depth.model", str(tmp_path)) != before


def test_every_key_is_that_of_its_item_alone(config):
    job = planned(config)
    for name in job.stages:
        stage = job.stage(name)
        for item in job.items(name):
            settings = stage.settings(item.params, item.inputs)
            identity = stage.identity(item.params, item.inputs)
            assert item.key == content_key(stage.name, stage.version, settings, item.inputs, identity)
    clip = job.clips[3]
    alone = ClipJob(config, recapture_stages(config), [clip])
    for plan in supposed(alone.plans()):
        kept = [item for item in job.items(plan.stage.name) if item.clip_id == clip.id]
        assert list(plan.items) == kept
