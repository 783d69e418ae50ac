"""Masks that a box or points begin: in the mask, along a new camera, resumed, and off by default."""

from fractions import Fraction

import numpy as np
import pytest
from support import plans, tiny_sam
from support.bare_job import configure, counts, run_bare

from recapture.conf.errors import UserError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.store.store import ArtifactStore
from recapture.models.selection.grow import GrowingSelector
from recapture.models.selection.prompt import NotFound
from recapture.models.selection.sam import SamSelector
from recapture.tasks.jobs.job import inpaint_stages
from recapture.tasks.jobs.select import StoredFrames
from recapture.tasks.jobs.still_camera import with_still_camera

SCENE = "scenes://?count=1&seed=3&frames=4&height=48&width=64"
BODY = 1  # of the scene


@pytest.fixture(scope="module")
def truth():
    """bool [T,48,64]: the scene's first body, and the box around it in frame 0."""
    (clip,) = scan(SCENE)[0]
    ids = open_clip(clip).objects(0, 4)
    body = ids == BODY
    rows, columns = np.nonzero(body[0])
    box = [int(columns.min()) - 1, int(rows.min()) - 1]
    box += [int(columns.max()) - box[0] + 2, int(rows.max()) - box[1] + 2]
    return body, box


@pytest.fixture
def config(tmp_path):
    def configured(*words):
        return configure(tmp_path, "--dataset.uri", SCENE, "--ingest.short_side", "48", *words)

    return configured


def opened(config, outcomes, stage):
    store = ArtifactStore(config.store)
    return [store.open(stage, one.key) for one in outcomes[stage] if one.usable]


def test_a_box_becomes_the_mask_of_the_body_in_every_frame_and_is_kept(config, truth):
    body, box = truth
    settings = config("--mask.select.box", str(box), "--mask.dilate", "0")
    outcomes = run_bare(settings)
    (selected,) = opened(settings, outcomes, "select")
    found = selected.frames().read(0, 4, ["selected"])["selected"]
    overlap = (found & body).sum((1, 2)) / (found | body).sum((1, 2))
    assert overlap.min() > 0.7
    assert selected.read_bytes("preview.png").startswith(b"\x89PNG")
    (mask,) = opened(settings, outcomes, "mask")
    assert (mask.frames().read(0, 4, ["edit"])["edit"][:, :48, :64] == found).all()
    assert counts(run_bare(settings)) == {stage: {"reused": 1} for stage in outcomes}


def test_what_is_to_be_replaced_is_warped_along_the_new_camera(config, truth):
    _, box = truth
    words = ("--mask.select.box", str(box), "--mask.prompt", "a blue sphere")
    outcomes = run_bare(config(*words))
    (render,) = opened(config(*words), outcomes, "render")
    seen = render.frames().read(0, 4)
    assert seen["edit"].any((1, 2)).all()  # the new camera sees a hole where it would see the body
    assert not (seen["edit"] & seen["visible"]).any()
    removed = run_bare(config("--mask.select.box", str(box)))
    (render,) = opened(config(), removed, "render")
    assert "edit" not in render.frames().read(0, 1)


@pytest.mark.full
def test_inpainting_takes_it_too(config, truth):
    _, box = truth
    settings = with_still_camera(config("--mask.select.box", str(box)))
    outcomes = run_bare(settings, inpaint_stages(settings))
    assert counts(outcomes)["deliver"] == {"ok": 1}
    assert outcomes["render"][0].metrics["hole_share"] > 0


@pytest.mark.full
def test_a_file_gives_each_clip_its_own_prompt_and_others_go_unmasked(tmp_path):
    frames = np.full((4, 32, 48, 3), 90, dtype=np.uint8)
    frames += np.random.default_rng(0).integers(0, 30, (32, 48, 3), dtype=np.uint8)
    frames[:, 10:22, 14:30] = (200, 30, 40)
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips/one.mp4", iter(frames), Fraction(25))
    write_video(tmp_path / "clips/two.mp4", iter(frames[:, ::-1].copy()), Fraction(25))
    (tmp_path / "prompts.yaml").write_text("one: {box: [12, 8, 20, 16]}")
    words = ("--dataset.uri", f"{tmp_path}/clips", "--mask.select.prompts", f"{tmp_path}/prompts.yaml")
    settings = configure(tmp_path, *words, "--ingest.short_side", "32", "--depth.source", "auto")
    outcomes = run_bare(settings)
    assert [one.item for one in outcomes["select"]] == ["one"]
    edited = {one.item: one.metrics["edit_share"] for one in outcomes["mask"]}
    assert edited["one"] > 0.1 and edited["two"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mask.select.box", "[70, 4, 9, 9]"), r"mask.select.box .*covers nothing of the picture of 64x48"),
        (("--mask.select.points", "[[10, 48]]"), r"the point \[10.0, 48.0\] is outside the picture of 64x48"),
        (("--mask.select.box", "[4, 4, 9, 9]", "--mask.select.frame", "4"), r"reads frames 0 to 3"),
    ],
)
def test_a_prompt_outside_the_clip_is_an_error_of_that_clip(config, words, message):
    (outcome,) = run_bare(config(*words))["select"]
    assert outcome.status == "error" or not outcome.usable
    assert "clip 'scene-000003'" in outcome.error
    with pytest.raises(ValueError, match=message):
        raise ValueError(outcome.error)


@pytest.mark.parametrize("missing", ["error", "keep"])
def test_words_that_are_not_found_are_an_error_or_leave_the_clip_as_it_is(
    config, tmp_path, missing, monkeypatch
):
    def select(self, frames, prompt):
        raise NotFound(f"{prompt.words!r} is found in no frame")
        yield

    monkeypatch.setattr(SamSelector, "select", select)
    model = tiny_sam.save(tmp_path / "sam", "sam3_video")
    words = ("--mask.select.words", "a zebra", "--mask.select.model", model, "--mask.select.missing", missing)
    outcomes = run_bare(config(*words))
    (outcome,) = outcomes["select"]
    if missing == "error":
        assert not outcome.usable and "clip 'scene-000003'" in outcome.error
        assert "'a zebra' is found in no frame" in outcome.error and "mask.select.missing" in outcome.error
    else:
        assert outcome.metrics == {"selected_share": 0.0, "selected_frames": 0.0}
        assert outcomes["mask"][0].metrics["edit_share"] == 0 and outcomes["deliver"][0].usable


def test_a_selection_of_the_whole_picture_is_refused(config, monkeypatch):
    def select(self, frames, prompt):
        yield from ((number, np.ones((48, 64), dtype=bool)) for number in range(len(frames)))

    monkeypatch.setattr(GrowingSelector, "select", select)
    (outcome,) = run_bare(config("--mask.select.box", "[4, 4, 9, 9]"))["select"]
    assert not outcome.usable and "covers 100% of frame 0" in outcome.error


def test_mistakes_of_the_settings_are_one_error_before_anything_is_made(config, tmp_path):
    with pytest.raises(UserError, match=r"mask.select: the embedded rule takes boxes and points, no words"):
        plans.planned(config("--mask.select.words", "a ball"))
    with pytest.raises(UserError, match=r"mask.select.model: .*nowhere"):
        plans.planned(
            config("--mask.select.box", "[1, 1, 9, 9]", "--mask.select.model", f"{tmp_path}/nowhere")
        )
    (tmp_path / "bad.yaml").write_text("a: {box: [1, 2]}")
    with pytest.raises(UserError, match=r"mask.select.prompts .*bad.yaml.*write for example"):
        plans.planned(config("--mask.select.prompts", f"{tmp_path}/bad.yaml"))


@pytest.mark.parametrize("source", ["given", "model"])
def test_depth_is_looked_at_where_it_comes_with_the_clip(source):
    class Stored:
        def __init__(self):
            self.meta = {"frames": 1, "content": [2, 3], "source": source}

        def frames(self):
            return self

        def read(self, start, stop, names=None):
            return {"depth": np.full((1, 2, 3), 4.0, np.float32), "known": np.eye(2, 3, dtype=bool)[None]}

    seen = StoredFrames({"ingest": Stored(), "depth": Stored()}).depth(0)
    if source == "model":
        assert seen is None
    else:
        assert (seen == 4.0 * np.eye(2, 3)).all()


def test_nothing_is_selected_by_default_and_the_rule_alone_reads_the_depth(config, tmp_path):
    assert "select" not in plans.planned(config("--mask.objects", "[1]")).stages
    model = tiny_sam.save(tmp_path / "sam", "sam2_video")
    words = ("--mask.select.box", "[4, 4, 9, 9]")
    for more, read in (((), {"ingest", "depth"}), (("--mask.select.model", model), {"ingest"})):
        (item,) = plans.planned(config(*words, *more)).items("select")
        assert set(item.inputs) == read
