"""Recorded steps on a GPU against the same steps one by one."""

import pytest
import torch

from recapture.models.pretraining.captured import CapturedPass
from recapture.models.pretraining.trainer import Trainer, TwoPartLearner
from recapture.models.pretraining.vae import Stage, VaeLearner, build_vae
from recapture.models.training.schedule import Schedule
from recapture.models.training.seeds import generator

STAGES = (Stage(1, 32, 3, 0.5), Stage(5, 32, 2, 0.5))


def learner(device):
    def clips(step, stage):
        random = generator(1, step, "cpu")
        shape = (stage.batch, 3, stage.frames, stage.side, stage.side)
        return (torch.rand(shape, generator=random) * 2 - 1).to(device)

    return VaeLearner(build_vae(0, device, base_dim=8, decoder_base_dim=8), clips, 12, 0, STAGES)


class Whole:
    """The same learner, with its loss in one part."""

    def __init__(self, inner):
        self.module, self.companion = inner.module, None
        self.is_matrix, self.loss = inner.is_matrix, inner.loss


def test_a_loss_in_two_parts_is_the_loss():
    one = learner("cpu")
    assert isinstance(one, TwoPartLearner) and not isinstance(Whole(one), TwoPartLearner)
    for step in (0, 7):
        batch = one.draw(step)
        assert torch.equal(one.forward(batch)[0], one.loss(step)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_recorded_steps_train_as_steps_one_by_one_do(tmp_path):
    trained = {}
    for name in ("recorded", "one_by_one"):
        inner = learner("cuda")
        mine = inner if name == "recorded" else Whole(inner)
        trainer = Trainer(name, mine, Schedule(12, 1e-3, 2, 0.5), tmp_path, 0.9)
        assert isinstance(trainer._captured, CapturedPass) == (name == "recorded")
        losses = []
        trainer.run(lambda step, values, kept=losses: kept.append(values["loss"]), log_every=1)
        trained[name] = losses, dict(inner.module.named_parameters())
    assert trained["recorded"][0] == pytest.approx(trained["one_by_one"][0], rel=0.02)
    for name, value in trained["one_by_one"][1].items():
        torch.testing.assert_close(trained["recorded"][1][name], value, rtol=0.1, atol=2e-3)
