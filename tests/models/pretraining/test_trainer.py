"""A run that is killed and resumed against one that is not; divergence; the average."""

import pytest
import torch
from torch import nn

from recapture.models.pretraining.trainer import OtherSettings, Trainer
from recapture.models.training.schedule import Diverged, Schedule
from recapture.models.training.seeds import generator


class Line:
    """Fits a noisy matrix; noise by step."""

    companion = None

    def __init__(self, poison=None):
        torch.manual_seed(0)
        self.module = nn.Linear(6, 4)
        self._poison = poison

    def is_matrix(self, name, parameter):
        return parameter.ndim == 2

    def loss(self, step):
        x = torch.randn(8, 6, generator=generator(3, step, "cpu"))
        loss = (self.module(x) - x[:, :4] * 2).square().mean()
        if step == self._poison:
            loss = loss * float("nan")
        return loss, {"half": loss.detach() / 2}


def schedule(steps, warm_up=60):
    return Schedule(steps, 0.05, warm_up, decay_from=0.5)


def trainer(folder, **changes):
    return Trainer("line", Line(**changes), schedule(30, warm_up=5), folder, ema=0.9)


def no_log(step, values):
    """Log nothing."""


def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path):
    whole = trainer(tmp_path / "whole")
    assert whole.run(no_log)
    for stop in (7, 19, None):
        part = trainer(tmp_path / "parts")
        finished = part.run(no_log, stop_at=stop)
        assert finished == (stop is None)
    for name, value in whole.learner.module.state_dict().items():
        assert torch.equal(part.learner.module.state_dict()[name], value)
        assert torch.equal(part.averaged[name], whole.averaged[name])
    assert not torch.equal(whole.averaged["weight"], whole.learner.module.weight)
    part.use_average()
    assert torch.equal(part.averaged["weight"], part.learner.module.weight)


def test_training_lowers_the_loss_and_logs_means(tmp_path):
    losses = []
    trainer(tmp_path).run(lambda step, values: losses.append((step, values)), log_every=10)
    assert [step for step, _ in losses] == [10, 20, 30]
    assert losses[-1][1]["loss"] < losses[0][1]["loss"] * 0.75
    assert losses[0][1]["half"] == pytest.approx(losses[0][1]["loss"] / 2, rel=1e-5)


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_checkpoint(tmp_path):
    trainer(tmp_path).run(no_log, stop_at=10)
    kept = (tmp_path / "line.safetensors").read_bytes()
    with pytest.raises(Diverged, match=r"line: the loss is nan by step 20; lower the learning rate \(0.05\)"):
        trainer(tmp_path, poison=12).run(no_log, log_every=10)
    assert (tmp_path / "line.safetensors").read_bytes() == kept


def test_a_loss_that_is_no_number_is_never_saved(tmp_path):
    with pytest.raises(Diverged, match="line: the loss is nan by step 13"):
        trainer(tmp_path, poison=12).run(no_log, save_seconds=0)
    sound = trainer(tmp_path)
    sound.resume()
    assert sound.step == 12
    assert all(torch.isfinite(value).all() for value in sound.averaged.values())


def test_a_checkpoint_is_written_whenever_its_time_has_come_not_only_when_logging(tmp_path):
    seen = []

    class Watched(Line):
        def loss(self, step):
            seen.append((tmp_path / "line.safetensors").exists())
            return super().loss(step)

    Trainer("line", Watched(), schedule(4), tmp_path, ema=0.9).run(no_log, log_every=100, save_seconds=0)
    assert seen == [False, True, True, True]


def test_settings_of_the_learner_belong_to_a_checkpoint(tmp_path):
    def made(batch):
        return Trainer("line", Line(), schedule(30), tmp_path, ema=0.9, made_with={"batch": batch})

    made(8).run(no_log, stop_at=3)
    made(8).run(no_log, stop_at=5)
    with pytest.raises(OtherSettings, match="made with batch=8, not 9; remove it or restore the settings"):
        made(9).run(no_log)


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    trainer(tmp_path).run(no_log, stop_at=3)
    other = Trainer("line", Line(), schedule(31), tmp_path, ema=0.9)
    with pytest.raises(OtherSettings, match=r"made with steps=30, not 31, warm_up=5, not 60; remove"):
        other.run(no_log)


def test_the_rate_rises_stays_and_falls_to_zero():
    ramp = Schedule(100, 1.0, warm_up=10, decay_from=0.5)
    assert [ramp.at(step) for step in (0, 9, 40, 75)] == pytest.approx([0.1, 1, 1, 0.5])
    assert 0 < ramp.at(99) < 0.03
