"""Devices of stages, and conversions between frames and videos."""

import logging

import numpy as np
import torch

from recapture.tasks.clip import frames_to_video
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video


def test_a_video_is_its_frames_divided_by_half_their_range_exactly():
    frames = np.arange(256, dtype=np.uint8).repeat(6).reshape(2, 16, 16, 3)
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    assert torch.equal(to_video(frames), expected)
    assert torch.equal(to_video(torch.from_numpy(frames)[:, :, ::2]), expected[..., ::2])
    assert np.array_equal(to_frames(to_video(frames)), frames)


def test_frames_are_rounded_to_the_nearest_of_256_values_and_clamped():
    video = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    expected = ((video.double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert np.array_equal(to_frames(video), expected.numpy())
    assert to_frames(video[:0]).shape == (0, 8, 12, 3)
    assert np.array_equal(to_frames(video.transpose(2, 3)), expected.transpose(1, 2).numpy())


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
