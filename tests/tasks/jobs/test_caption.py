"""Captions of clips without one: in the artifact, in the fill, resumed, and off by default."""

from fractions import Fraction

import numpy as np
import pytest
from support import plans, tiny_captioners
from support.bare_job import configure, counts, run_bare
from support.tiny_base import write_tiny_base

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.media.video import write_video
from recapture.datasets.store.store import ArtifactStore
from recapture.models.captions.captioner import Captioner
from recapture.tasks.jobs import fill
from recapture.tasks.jobs.summary import caption_warnings


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips: `red` shows a red body that moves, `still` nothing that moves, `told` has a caption."""
    folder = tmp_path_factory.mktemp("clips")
    rows, columns = np.mgrid[:32, :48]
    ground = np.stack([90 + 20 * np.sin(rows / 3) + 20 * np.cos(columns / 4)] * 3, axis=-1)
    frames = np.repeat(ground.astype(np.uint8)[None], 5, axis=0)
    write_video(folder / "still.mp4", iter(frames), Fraction(25))
    write_video(folder / "told.mp4", iter(frames[::-1].copy()), Fraction(25))
    (folder / "told.txt").write_text("a green box turning")
    for number, frame in enumerate(frames):
        frame[8:24, 8 + 2 * number : 24 + 2 * number] = (220, 30, 40)
    write_video(folder / "red.mp4", iter(frames), Fraction(25))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture
def config(tmp_path, clips, base):
    """Return a function that configures a job over the clips with a tiny base; words are settings."""

    def configured(*words):
        given = ("--dataset.uri", str(clips), "--depth.source", "auto", "--fill.method", "base")
        few = ("--fill.base", str(base), "--fill.steps", "1")
        return configure(tmp_path, *given, *few, "--ingest.short_side", "32", *words)

    return configured


def captions(config, outcomes):
    store = ArtifactStore(config.store)
    made = {one.item: store.open("caption", one.key) for one in outcomes["caption"] if one.usable}
    return {name: artifact.meta["caption"] for name, artifact in made.items()}


def test_clips_without_a_caption_get_one_that_the_fill_is_given(config, monkeypatch):
    given = {}
    whole = fill.FillStage._fill

    def filled(self, windows, window, caption):
        given.setdefault(caption, 0)
        return whole(self, windows, window, caption)

    monkeypatch.setattr(fill.FillStage, "_fill", filled)
    settings = config("--caption.model", "embedded")
    outcomes = run_bare(settings)
    found = captions(settings, outcomes)
    assert found.keys() == {"red", "still"}  # `told` has one
    assert found["still"] == "" and found["red"].startswith("a red ")
    assert set(given) == {found["red"], "", "a green box turning"}
    (still,) = (one for one in outcomes["caption"] if one.item == "still")
    assert caption_warnings(still) == ["still: the captioner said nothing, so it has no caption"]
    store = ArtifactStore(settings.store)
    said = {one.clip_id: store.open("deliver", one.key).meta["caption"] for one in outcomes["deliver"]}
    assert said == {
        "red": {"text": found["red"], "origin": "written", "by": "embedded"},
        "still": {"text": "", "origin": "none", "by": None},
        "told": {"text": "a green box turning", "origin": "given", "by": None},
    }
    again = run_bare(settings)
    assert counts(again)["caption"] == {"reused": 2} and counts(again)["deliver"] == {"reused": 3}


@pytest.mark.full
def test_a_clip_of_which_nothing_is_said_can_be_an_error_that_stops_no_other(config):
    outcomes = run_bare(config("--caption.model", "embedded", "--caption.empty", "error"))
    failed = [one for one in outcomes["caption"] if not one.usable]
    assert [one.item for one in failed] == ["still"]
    assert "clip 'still': nothing was said of it" in failed[0].error and "caption.empty" in failed[0].error
    ready = {one.clip_id for one in outcomes["deliver"] if one.usable}
    assert ready == {"red", "told"}


def test_captions_are_off_by_default_and_a_clip_with_one_keeps_its_keys(config):
    off, on = (plans.planned(config(*words)) for words in ((), ("--caption.model", "embedded")))
    assert "caption" not in off.stages and len(on.items("caption")) == 2
    before, after = off.keys("fill"), on.keys("fill")
    changed = {name for name in before if before[name] != after[name]}
    assert {name.partition("@")[0] for name in changed} == {"red", "still"}
    several = plans.planned(config("--caption.model", "embedded", "--seeds", "2")).items("seeds")
    assert {item.clip_id for item in several if "caption" in item.inputs} == {"red", "still"}


@pytest.mark.parametrize(
    "words", [("--fill.method", "classical"), ("--mask.prompt", ""), ("--mask.prompt", "a blue box")]
)
def test_nothing_is_captioned_that_nothing_reads_or_that_has_a_prompt(config, words):
    assert "caption" not in plans.planned(config("--caption.model", "embedded", *words)).stages


def test_a_model_is_shown_frames_spread_over_the_clip_and_its_answer_is_made_safe(
    config, tmp_path, monkeypatch
):
    model = tiny_captioners.save(tmp_path / "smolvlm", "smolvlm")
    shown = []

    def describe(self, frames, prompt=None):
        shown.append((len(frames), frames[0].shape, prompt))
        return "../../x\x00\n<b>a cat</b>\u202e"

    monkeypatch.setattr(Captioner, "describe", describe)
    words = ("--caption.frames", "3", "--caption.prompt", "What?", "--caption.template", "A film: {caption}")
    settings = config("--caption.model", model, "--dataset.where", "red", *words)
    outcomes = run_bare(settings)
    assert shown == [(3, (32, 48, 3), "What?")]
    assert captions(settings, outcomes) == {"red": "A film: ../../x <b>a cat</b>"}
    assert counts(outcomes)["deliver"] == {"ok": 1}
    assert not list(tmp_path.rglob("x"))


def test_a_model_that_cannot_be_used_is_one_error_before_anything_is_made(config, tmp_path):
    folder = tmp_path / "florence"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "florence2", "auto_map": {"AutoConfig": "c.C"}}')
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"caption.model: .* code of its own .* florence-community"):
        plans.planned(config("--caption.model", str(folder)))
    with pytest.raises(UserError, match=r"caption.model: .*nowhere"):
        plans.planned(config("--caption.model", str(tmp_path / "nowhere")))


def test_a_template_without_a_place_for_the_answer_is_refused():
    with pytest.raises(UserError, match=r"caption.template.*no {caption}"):
        load_config(arguments=["--caption.template", "a film"])
