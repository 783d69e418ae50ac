"""Degradations with a dose: nothing at 0, more at more, and what each leaves alone."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from recapture.models.training.degradations import OF_MOTION, OF_PICTURES, SEVERITY, blurred, degrade
from recapture.models.training.seeds import generator

ALL = OF_PICTURES | OF_MOTION


@pytest.fixture(scope="module")
def clip():
    """A clip in which every frame differs, [1, 8, 3, 32, 40]."""
    coarse = torch.randn((3, 3, 6, 8), generator=generator(1, 0, "cpu"))
    smooth = torch.nn.functional.interpolate(coarse, (32, 56), mode="bicubic").mean(0).clamp(-0.9, 0.9)
    return torch.stack([smooth[..., 2 * t : 2 * t + 40] for t in range(8)])[None]


def changed(clip, name, dose):
    return ALL[name](clip.clone(), torch.tensor([dose]), generator(5, 0, "cpu"))


@pytest.mark.parametrize("name", ALL)
def test_no_dose_changes_nothing_and_more_changes_more(clip, name):
    assert torch.allclose(changed(clip, name, 0.0), clip, atol=2e-5)
    error = [float((changed(clip, name, dose) - clip).square().mean()) for dose in (0.3, 1.0)]
    assert 0 < error[0] < error[1]
    assert changed(clip, name, 1.0).abs().max() <= 1


def test_the_blur_is_the_gaussian_of_its_deviation(clip):
    ours = blurred(clip, torch.tensor([6.0]))[0, 0, 0]  # at a side of 32: 1.5 pixels
    theirs = gaussian_filter(clip[0, 0, 0].numpy(), 1.5, mode="nearest", truncate=4)
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=2e-3)


@pytest.mark.parametrize("name", ["freeze", "shuffle"])
def test_held_and_shuffled_clips_hold_frames_of_the_clip(clip, name):
    shown = changed(clip, name, 1.0)[0]
    nearest = (shown[:, None] - clip[0][None]).abs().amax((2, 3, 4)).min(1)
    assert (nearest.values == 0).all()
    expected = [0] * 8 if name == "freeze" else list(range(8))
    assert sorted(nearest.indices.tolist()) == expected


@pytest.mark.parametrize("name", ["warp", "colour", "double"])
def test_pictures_are_degraded_alike_in_every_frame(clip, name):
    still = clip[:, :1].expand(-1, 3, -1, -1, -1)
    shown = changed(still, name, 0.7)[0]
    assert torch.allclose(shown, shown[:1].expand_as(shown), atol=1e-6)


def test_every_clip_of_a_batch_gets_its_own_kind_and_dose(clip):
    batch = clip.repeat(3, 1, 1, 1, 1)
    kinds = list(OF_PICTURES)
    kind = torch.tensor([kinds.index("gain"), len(kinds), kinds.index("block")])
    shown = degrade(batch, kind, torch.tensor([1.0, 1.0, 0.5]), generator(1, 0, "cpu"), OF_PICTURES)
    ratio = shown[0][clip[0].abs() < 0.6] / clip[0][clip[0].abs() < 0.6]
    assert torch.allclose((ratio - 1).abs(), torch.tensor(0.33), atol=1e-4)
    assert torch.equal(shown[1], clip[0])
    blocks = clip[0].unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))  # 2 pixels at a side of 32
    means = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(shown[2], (clip[0] + means) / 2, atol=1e-5)


def test_every_degradation_of_pictures_has_a_severity():
    assert SEVERITY.keys() == OF_PICTURES.keys() and max(SEVERITY.values()) == 1
