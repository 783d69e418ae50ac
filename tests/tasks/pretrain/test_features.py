"""The data of the feature network, its learner, and its judge."""

import numpy as np
import pytest
import torch

from recapture.datasets.scenes.stream import SceneStream
from recapture.datasets.scenes.words import caption_words
from recapture.models.metrics.feature_net import Seen
from recapture.models.pretraining.features import FeatureLearner, build_feature_task
from recapture.models.training.degradations import OF_MOTION, OF_PICTURES
from recapture.tasks.pretrain.data import SceneMixture
from recapture.tasks.pretrain.feature_data import FRAMES, FeatureClips, caption_table
from recapture.tasks.pretrain.judge_features import DOSES, judge_feature_net, ordered_share


@pytest.fixture(scope="module")
def clips():
    stream = SceneMixture({"wide": SceneStream(range(6))}, {"wide": 1.0})
    return FeatureClips(stream, caption_words(), 0, clips=4, epoch=2, side=32)


def test_a_step_has_its_own_batch_whatever_was_drawn_before(clips):
    batch = clips(3, 8)
    clips(0, 8)
    again = clips(3, 8)
    assert all(torch.equal(one, other) for one, other in zip(batch, again))
    assert batch.video.shape == (8, FRAMES, 3, 32, 32) and batch.other.shape == (8, 3, 32, 32)
    assert batch.labelled.tolist() == [True] * 6 + [False] * 2  # photographs have no words and no depth
    assert (batch.words.sum(1) > 0).tolist() == [True] * 6 + [False] * 2
    assert float(batch.video.diff(dim=1)[6:].abs().mean()) > 0  # the camera moves over them


def test_words_of_a_caption_are_marked_and_others_are_not():
    table = caption_table(["A red box, in a room", "a Blue box"], ["red", "blue", "box", "roo"])
    assert table.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]


def test_a_loss_is_a_function_of_the_step_and_reaches_every_weight(clips):
    task = build_feature_task(0, len(caption_words()), "cpu", features=8, clip_width=4)
    learner = FeatureLearner(task, clips, seed=0, batch=8)
    loss, parts = learner.loss(1)
    assert loss.item() == pytest.approx(sum(float(part) for part in parts.values()), rel=1e-5)
    loss.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()] == []
    learner.loss(0)
    assert learner.loss(1)[0].item() == loss.item()


class Oracle:
    """Stands for a network that measures colours, exactly."""

    def __call__(self, pictures):
        flat = pictures.flatten(1)
        view = torch.nn.functional.normalize(flat + 2, dim=1)
        return Seen([pictures, pictures, pictures], pictures.mean((2, 3)), view)

    def clip_features(self, scale, frame):
        return (scale[:, 1:] - scale[:, :-1]).square().mean((1, 3, 4))

    def distance(self, one, other):
        return (one.scales[0] - other.scales[0]).square().mean((1, 2, 3))


def test_the_judge_gives_a_share_per_degradation_and_their_mean():
    video = torch.rand((3, 8, 3, 32, 32), generator=torch.Generator().manual_seed(0)) - 0.5
    scores = judge_feature_net(Oracle(), video, video.flip(0))
    for metric, kinds in {"distance": OF_PICTURES, "frechet_clip": OF_PICTURES | OF_MOTION}.items():
        each = [scores[f"{metric}/{kind}"] for kind in kinds]
        assert scores[f"{metric}/ordered"] == pytest.approx(np.mean(each))
    assert scores["distance/noise"] == scores["distance/gain"] == 1  # mean squared errors rise with the dose
    assert 0 <= scores["view/found"] <= 1


def test_the_share_in_order_counts_neighbours():
    assert len(DOSES) == 5
    assert ordered_share(np.array([[0, 1, 2, 3, 4], [0, 1, 1, 3, 2]])) == pytest.approx(6 / 8)
