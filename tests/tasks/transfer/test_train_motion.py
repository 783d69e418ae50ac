"""A tuning that is killed goes on from its checkpoint to the same adapter, bit for bit."""

import pytest
import torch
from support.tiny_base import write_tiny_base

from recapture.conf.transfer import MotionTrainingConfig, TransferConfig
from recapture.models.motion.examples import MotionExamples
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.motion.tune import MotionSettings
from recapture.models.tuning.examples import Example
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import remove_lora
from recapture.tasks.transfer.train_motion import Part, train_motion
from recapture.tasks.transfer.tune_stage import settings_of
from recapture.tasks.tune.checkpoint import Checkpoint

STEPS = 4


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return load_base(folder)


def part():
    random = torch.Generator().manual_seed(0)
    channels = torch.randn(20, 3, 4, 4, generator=random)
    channels[:4], channels[:4, 0] = 0.0, 1.0
    text = torch.randn(16, 32, generator=random)
    each = [Example(torch.randn(16, 3, 4, 4, generator=random), channels, text) for _ in range(3)]
    training = MotionTrainingConfig(rank=2, log_every=1, validate_every=2)
    settings = MotionSettings(
        settings_of(TransferConfig(training=training), STEPS, 5),
        2,
        "q,k",
        MotionTerm("signed", 0.5),
        Sparse("mixed", 9, 5, "native"),
    )
    return Part("temporal", MotionExamples(tuple(each[:2]), (each[2],)), settings, None, {}, {"scale": "1"})


def trained(base, checkpoint, kill_at=None):
    def on_point(step, values):
        if step == kill_at and "loss" in values:
            raise Killed

    try:
        return train_motion(base, part(), torch.zeros(16, 32), checkpoint, 0.0, on_point)
    finally:
        remove_lora(base.transformer)


def test_a_killed_tuning_goes_on_to_the_same_adapter_and_curve(base, tmp_path):
    whole = trained(base, Checkpoint(str(tmp_path / "whole"), "motion_tune", "a" * 32))
    checkpoint = Checkpoint(str(tmp_path / "killed"), "motion_tune", "a" * 32)
    with pytest.raises(Killed):
        trained(base, checkpoint, kill_at=3)
    state, curve = checkpoint.load()
    assert state and max(step for step, _ in curve) == 2
    resumed = trained(base, checkpoint)
    assert resumed.adapter == whole.adapter and resumed.steps == STEPS
    assert [point[0] for point in resumed.curve] == [point[0] for point in whole.curve]
    for (_, values), (_, again) in zip(whole.curve, resumed.curve):
        assert values == again
