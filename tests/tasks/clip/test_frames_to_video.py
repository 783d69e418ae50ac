"""Devices of stages."""

import logging

import torch

from recapture.tasks.clip import frames_to_video
from recapture.tasks.clip.frames_to_video import stage_device


def test_a_gpu_that_torch_does_not_find_is_replaced_with_a_warning_once(monkeypatch, caplog):
    frames_to_video._warn_of_cpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert [stage_device(gpus) for gpus in (1.0, 1.0, 0.0)] == [torch.device("cpu")] * 3
    assert caplog.text.count("was given 1 GPUs and torch finds none") == 1


def test_a_stage_without_a_gpu_uses_the_cpu_without_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert stage_device(0.0) == torch.device("cpu")
    assert stage_device(0.5) == torch.device("cuda")
    assert not caplog.text
