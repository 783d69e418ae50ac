"""Packing in a job: three trajectories of one clip, long clips, and what happens when a fill fails."""

import logging

import numpy as np
import pytest
import torch
from support.plans import as_it_stands

from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.plan import forecast
from recapture.flows.commands.replay import replay
from recapture.flows.jobs import surveyed
from recapture.flows.recapture_dataset import recapture
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.packed import finished_view
from recapture.models.fill.propagate import propagate_static
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.clip.scene_reader import SceneReader, path_of, read_view
from recapture.tasks.clip.static_scene import StaticScene
from recapture.tasks.jobs.fill import FillStage, open_filler
from recapture.tasks.jobs.render import surface_settings

pytestmark = pytest.mark.integration
IN_ORDER = ["dolly_in_0.1", "orbit_right_10", "orbit_left_30"]
THREE = "[{preset: orbit_left, angle_degrees: 30}, {preset: orbit_right, angle_degrees: 10}, {0}]"
WORDS = (
    *("--trajectories", THREE.replace("{0}", "{preset: dolly_in, distance: 0.1}")),
    *("--fill.method", "base", "--fill.steps", "1", "--fill.window", "5", "--fill.overlap", "1"),
)
LONG = "scenes://?count=1&seed=3&frames=9&height=48&width=64"
PACKED = ("--fill.packing", "{frames: 2, spacing: 3}")


def artifacts(job, stage):
    store = ArtifactStore(job.job.config.store)
    return {item.params.label: store.open(stage, item.key) for item in job.items(stage)}


def videos(job):
    """Return label -> the frames of its fill."""
    fills, renders = artifacts(job, "fill"), artifacts(job, "render")
    return {
        label: read_filled(fill, renders[label], np.arange(fill.meta["frames"]))["rgb"]
        for label, fill in fills.items()
    }


def test_each_window_of_a_trajectory_is_shown_the_same_moments_of_the_fills_before_it(job):
    alone, together = (job(*WORDS, "--dataset.uri", LONG, *words) for words in ((), PACKED))
    assert recapture(alone).failures == []
    plain = videos(as_it_stands(alone))
    summary = recapture(together)
    assert summary.failures == [] and summary.delivered == 3
    assert summary.counts["fill"] == {"ok": 2, "reused": 1}  # the first packs nothing
    assert recapture(together).reused_everything
    rows = forecast(*surveyed(together))
    assert [(row.stage, row.reused, row.new) for row in rows if row.stage == "fill"] == [("fill", 3, 0)]
    config, planned = together, as_it_stands(together)
    fills, renders = artifacts(planned, "fill"), artifacts(planned, "render")
    store = ArtifactStore(config.store)
    item = next(item for item in planned.items("fill") if item.params.label == IN_ORDER[2])
    inputs = {name: store.open(name, key) for name, key in item.inputs.items() if "/" not in name}
    assert "packed" not in fills[IN_ORDER[0]].meta
    found = videos(planned)
    assert all((found[label] != plain[label]).any() for label in IN_ORDER[1:])
    cpu, surface = torch.device("cpu"), surface_settings(config.render)
    filler = open_filler(config.fill, surface, cpu, config.seed)
    assert len(fills[IN_ORDER[2]].meta["packed"]) == 2
    for window, moments in enumerate(fills[IN_ORDER[2]].meta["packed"]):
        frames = np.arange(4 * window, 4 * window + 5)
        reader = SceneReader(inputs, cpu)
        view, source = reader.read(frames)
        source = StaticScene(reader, surface).beside(source)
        earlier = []
        for label in IN_ORDER[:2]:
            filled = read_filled(fills[label], renders[label], frames)
            shown = read_view(renders[label], path_of(renders[label]), frames, cpu)
            earlier.append(
                finished_view(shown, to_video(filled["rgb"]), torch.arange(5), to_video(filled["unpasted"]))
            )
        whole = propagate_static(view, source, surface=surface)
        expected = filler.fill_both(
            whole,
            caption=planned.clips[0].caption,
            seed=config.seed,
            packed=earlier,
            kept=kept_pixels(view, whole, source),
        )
        assert moments == [4 * window + one.time for one in expected.packed[0]] != []
        unshared = slice(0, 4) if window == 0 else slice(1, 5)
        made = found[IN_ORDER[2]][frames]
        assert (made[unshared] == to_frames(expected.video)[unshared]).all()


def test_a_failed_fill_blocks_none_and_what_was_shown_less_is_made_again_later(job, monkeypatch, caplog):
    config = job(*WORDS, *PACKED)
    whole = FillStage.run
    lost = f"scene-000003@{IN_ORDER[0]}"

    def fails_once(stage, item, inputs, output):
        if item.name == lost:
            raise ValueError("this one does not work")
        return whole(stage, item, inputs, output)

    monkeypatch.setattr(FillStage, "run", fails_once)
    with caplog.at_level(logging.WARNING):
        summary = recapture(config)
    assert [failure.item for failure in summary.failures] == [lost] and summary.delivered == 2
    said = [r.getMessage() for r in caplog.records if "runs without" in r.getMessage()]
    expected = f"scene-000003@{{}}: stage 'fill' runs without {lost}, which could not be made"
    assert said == [expected.format(label) for label in IN_ORDER[1:]]
    rows = {row.stage: row for row in forecast(*surveyed(config))}
    assert (rows["fill"].reused, rows["fill"].quarantined, rows["fill"].new) == (2, 1, 0)
    assert (rows["deliver"].reused, rows["deliver"].blocked) == (2, 1)
    again = recapture(config)
    assert again.counts["fill"] == {"reused": 2, "quarantined": 1} and again.counts["deliver"]["reused"] == 2
    less = as_it_stands(config)
    monkeypatch.setattr(FillStage, "run", whole)
    assert replay(config, lost, "fill") == 0  # repaired: it leaves quarantine
    repaired = recapture(config)
    assert repaired.failures == [] and repaired.counts["fill"] == {"reused": 1, "ok": 2}
    assert repaired.counts["deliver"] == {"ok": 3}
    keys = [job.keys("fill") for job in (less, as_it_stands(config))]
    assert [name for name in keys[0] if keys[0][name] != keys[1][name]] == [
        f"scene-000003@{label}" for label in IN_ORDER[1:]
    ]
