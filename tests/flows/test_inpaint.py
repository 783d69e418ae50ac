"""The inpainting job on small datasets: removal, editing by prompt, outpainting, and what goes wrong."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from recapture.conf.errors import UserError
from recapture.datasets.media.video import probe
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.inpaint import inpaint
from recapture.flows.recapture_dataset import recapture
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.edited import fill_edited
from recapture.models.fill.propagate import propagate_static
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.clip.scene_reader import SceneReader, read_frames
from recapture.tasks.jobs.fill import open_filler
from recapture.tasks.jobs.render import surface_settings

pytestmark = pytest.mark.integration
OBJECT = ("--mask.objects", "[1]")


def frames_of(config, stage):
    store = ArtifactStore(config.store)
    (key,) = store.keys(stage)
    return frames_in(store, stage, key)


def frames_in(store, stage, key):
    artifact = store.open(stage, key)
    frames = np.arange(artifact.frames().frames)
    if stage != "fill":
        return read_frames(artifact, frames)
    (render,) = store.keys("render")
    return read_filled(artifact, store.open("render", render), frames)


def record(tmp_path):
    (path,) = (tmp_path / "outputs").rglob("recapture.json")
    return path.parent, json.loads(path.read_text())


def test_an_object_is_removed_and_the_rest_is_the_source_bit_for_bit(job, tmp_path):
    config = job(*OBJECT, "--deliver.side_by_side", "true")
    summary = inpaint(config)
    assert (summary.delivered, summary.wanted, summary.failures) == (1, 1, [])
    folder, told = record(tmp_path)
    assert folder.name == "inpaint" and (folder / "side_by_side.mp4").exists()
    edit = frames_of(config, "mask")["edit"]
    source, result = frames_of(config, "ingest")["rgb"], frames_of(config, "fill")["rgb"]
    assert 0.01 < edit.mean() < 0.5
    assert (result[~edit] == source[~edit]).all()
    assert np.abs(result.astype(int) - source)[edit].mean() > 10
    assert told["metrics"]["classical/psnr_visible"] > 50
    assert told["metrics"]["classical/hole_share"] == pytest.approx(edit.mean())
    assert inpaint(config).reused_everything


def test_the_base_redraws_by_the_prompt_and_another_prompt_redraws_again(job):
    words = (*OBJECT, "--fill.method", "base", "--fill.steps", "2", "--mask.prompt")
    config = job(*words, "a blue sphere")
    first = inpaint(config)
    assert first.failures == []
    edit = frames_of(config, "mask")["edit"]
    source, blue = frames_of(config, "ingest")["rgb"], frames_of(config, "fill")["rgb"]
    reach = 1  # a render does not see the pixels beside a mask either
    far = np.ones_like(edit)
    for t, row, column in zip(*np.nonzero(edit), strict=True):
        far[t, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = False
    assert far.any() and (blue[far] == source[far]).all()
    store = ArtifactStore(config.store)
    (before,) = store.keys("fill")
    again = inpaint(job(*words, "a red cube"))
    redone = [stage for stage, counts in again.counts.items() if counts.get("ok")]
    assert redone == ["fill", "measure", "deliver"]
    (after,) = store.keys("fill") - {before}
    red = frames_in(store, "fill", after)["rgb"]
    assert (red[far] == blue[far]).all() and (red[edit] != blue[edit]).any()


def test_outpainting_delivers_the_larger_picture_and_measures_it_against_the_truth(job, tmp_path):
    config = job("--mask.outpaint", "{left: 0.25, bottom: 0.5}")
    assert inpaint(config).failures == []
    folder, told = record(tmp_path)
    info = probe(str(folder / "recapture.mp4"))
    assert (info.frames, info.width, info.height) == (5, 80, 72)
    expected = 1 - (48 * 64) / (72 * 80)
    assert told["metrics"]["classical/hole_share"] == pytest.approx(expected)
    assert told["metrics"]["classical/psnr_visible"] > 40
    assert 5 < told["metrics"]["classical/psnr_hole"] < 40


def test_a_clip_whose_mask_does_not_fit_never_stops_the_others(job, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    edit = np.zeros((5, 48, 64), dtype=bool)
    edit[:, 20:30, 20:30] = True
    np.savez(folder / "scene-000003.npz", mask=edit)
    np.savez(folder / "scene-000004.npz", mask=edit[:4])
    config = job("--mask.uri", str(folder), count=3)
    summary = inpaint(config)
    assert summary.delivered == 1
    told = {failure.item: failure.error for failure in summary.failures}
    assert "clip 'scene-000004': mask" in told["scene-000004"]
    assert "has 4 frames, the clip has 5" in told["scene-000004"]
    assert "clip 'scene-000005': mask.uri" in told["scene-000005"]
    np.savez(folder / "scene-000004.npz", mask=edit)
    assert inpaint(config).delivered == 2


def test_a_mask_that_hides_nothing_gives_the_clip_as_it_is_and_is_said(job, tmp_path, caplog):
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "black.png")
    config = job("--mask.uri", str(tmp_path / "black.png"))
    with caplog.at_level(logging.WARNING):
        assert inpaint(config).delivered == 1
    said = [r.getMessage() for r in caplog.records if "the mask is empty" in r.getMessage()]
    assert said == ["scene-000003@inpaint: the mask is empty, so the clip is delivered unchanged"]
    assert (frames_of(config, "fill")["rgb"] == frames_of(config, "ingest")["rgb"]).all()


def test_nothing_to_redraw_is_one_message(job):
    with pytest.raises(
        UserError, match=r"nothing is to be redrawn; set mask.uri, mask.objects, mask.select or mask.outp"
    ):
        inpaint(job())


def test_a_new_camera_and_an_edit_are_one_pass(job, tmp_path):
    plain, edited = job(), job(*OBJECT)
    recapture(plain)
    _, before = record(tmp_path)
    summary = recapture(edited)
    assert summary.failures == [] and summary.counts["render"] == {"ok": 1}
    assert summary.counts["ingest"] == summary.counts["depth"] == {"reused": 1}
    folder, after = record(tmp_path)
    assert folder.name == "orbit_right_10"
    grown = after["metrics"]["classical/hole_share"] - before["metrics"]["classical/hole_share"]
    edit = frames_of(edited, "mask")["edit"]
    assert 0.3 * edit.mean() < grown < 1.5 * edit.mean()


def test_something_new_stands_where_the_mask_is_and_is_drawn_before_the_holes_of_the_move(job):
    words = (*OBJECT, "--fill.method", "base", "--fill.steps", "1", "--mask.prompt", "a blue sphere")
    config = job(*words)
    assert recapture(config).failures == []
    render, result = frames_of(config, "render"), frames_of(config, "fill")
    edit = render["edit"]
    assert 0.01 < edit.mean() < 0.5 and not (edit & render["visible"]).any()
    store = ArtifactStore(config.store)
    made = {stage: store.open(stage, next(iter(store.keys(stage)))) for stage in ("mask", "render")}
    inputs = {"ingest": made["mask"], "depth": made["mask"], "render": made["render"]}
    view, source = SceneReader(inputs, torch.device("cpu")).read(np.arange(5))
    surface = surface_settings(config.render)
    filler = open_filler(config.fill, surface, torch.device("cpu"), config.seed)
    whole = propagate_static(view, source, surface=surface)
    said = {"caption": "a blue sphere", "seed": config.seed}
    said["kept"] = kept_pixels(view, whole, source)
    expected = fill_edited(filler, whole, torch.from_numpy(edit), **said)
    assert (result["rgb"] == to_frames(expected.video)).all()
