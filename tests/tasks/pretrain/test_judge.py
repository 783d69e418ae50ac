"""The judge against fillers whose scores are known beforehand."""

import math

import pytest
import torch

from recapture.datasets.scenes.stream import SceneStream
from recapture.tasks.pretrain import judge as pretrain_judge
from recapture.tasks.pretrain.judge import ASKED, hole_psnr, judge_colours, judge_holes, recoloured_caption


@pytest.fixture(scope="module")
def stream():
    return SceneStream(range(6), variety="wide")


def oracle(base, video, visible, caption, seed, guidance, steps=1):
    """Fill holes with the truth."""
    return video


def mean_colour(base, video, visible, caption, seed, guidance, steps=1):
    """Fill everything with the mean colour of what is known."""
    mean = (video * visible[:, None]).sum((0, 2, 3)) / visible.sum()
    return mean[:, None, None].expand_as(video)


def opposite(base, video, visible, caption, seed, guidance, steps=1):
    """Fill holes with what is farthest from the truth."""
    return torch.where(video > 0, -1.0, 1.0)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a sky blue and brown marbled box hopping and a red pole turning, in",
            "a green box hopping and a red pole",
        ),
        ("an orange pole turning, a red box hopping, in", "a green pole turning, a red box hopping"),
        ("a photographed slab moving away, in", "a green slab moving away"),
        ("a red and sky blue striped figure walking closer, in", "a green figure walking closer"),
        ("a pink lamppost standing and a red lamp standing, on", "a green lamppost standing and a red lamp"),
    ],
)
def test_the_first_body_alone_gets_the_colour(caption, expected):
    assert recoloured_caption(caption, "green").startswith(expected)


def test_the_edit_finds_the_first_body_of_every_caption(stream):
    for caption in stream.captions:
        edited = recoloured_caption(caption, "pink")
        assert edited.startswith("a pink ")
        assert edited.split(" ", 3)[3] == caption.split(f" {edited.split()[2]} ", 1)[1]


def test_hole_psnr_counts_holes_alone():
    truth = torch.zeros(2, 3, 4, 4)
    visible = torch.ones(2, 4, 4, dtype=torch.bool)
    visible[0, :2] = False
    result = truth + 1.0
    result[0, :, :2] = 0.5
    assert hole_psnr(result, truth, visible) == pytest.approx(10 * math.log10(4 / 0.25))
    assert hole_psnr(truth, truth, visible) == pytest.approx(10 * math.log10(4 / 1e-10), abs=1e-3)


def test_the_mean_colour_gains_nothing_and_the_truth_everything(stream, monkeypatch):
    clips = stream.draw(1, 3, 5, 32, 32)
    monkeypatch.setattr(pretrain_judge, "generate", mean_colour)
    scores = judge_holes(None, clips)
    assert scores["hole_gain"] == pytest.approx(0, abs=1e-5)
    assert scores["boxes/psnr_hole"] == pytest.approx(scores["boxes/psnr_hole_mean_colour"])
    monkeypatch.setattr(pretrain_judge, "generate", oracle)
    best = judge_holes(None, clips)
    assert best["psnr_hole"] == pytest.approx(10 * math.log10(4 / 1e-10), abs=1e-3)
    assert best["hole_gain"] == pytest.approx(best["psnr_hole"] - scores["psnr_hole"], rel=1e-5)


def test_colours_that_are_asked_for_count_and_others_do_not(stream, monkeypatch):
    heard = []

    def listening(base, video, visible, caption, seed, guidance, steps=1):
        heard.append((caption, guidance))
        return video

    monkeypatch.setattr(pretrain_judge, "generate", listening)
    scores = judge_colours(None, stream, 2, 32)
    assert scores["scenes"] >= 1
    assert (scores["colour_accuracy"], scores["caption_gain"]) == (1, 0)
    right, wrong = heard[0][0], heard[1][0]
    assert right.split()[1] in ASKED and wrong.split()[1] in ASKED and right.split()[1] != wrong.split()[1]
    assert all(guidance == pretrain_judge.GUIDANCE for _, guidance in heard)
    monkeypatch.setattr(pretrain_judge, "generate", opposite)
    assert judge_colours(None, stream, 2, 32)["colour_accuracy"] == 0
