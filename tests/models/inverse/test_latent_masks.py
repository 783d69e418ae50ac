from functools import partial
from itertools import pairwise
from typing import get_args

import pytest
import torch

from recapture.models.inverse import latent_masks, measurement
from recapture.models.inverse.measurement import EncoderMask, MaskKind, PixelMask

build_measurement = partial(measurement.build_measurement, channel_mean=False)

KINDS, PIXEL_KINDS, ENCODER_KINDS = get_args(MaskKind), get_args(PixelMask), get_args(EncoderMask)


def mask_of(vae, video, visible, kind, **more):
    # tau: the latents of a random VAE hardly move
    return build_measurement(vae, video, visible, kind=kind, source=video.flip(3), tau=1e-3, **more).mask


@pytest.mark.parametrize("kind", KINDS)
def test_all_known_is_exactly_1_and_all_hole_exactly_0(vae, clip, kind):
    video, _ = clip
    known = torch.ones(9, 32, 48, dtype=torch.bool)
    for channel_mean in (False, True):
        one = mask_of(vae, video, known, kind, channel_mean=channel_mean)
        zero = mask_of(vae, video, ~known, kind, channel_mean=channel_mean)
        assert one.shape == zero.shape == (1, 16, 3, 4, 6) and one.dtype == zero.dtype == torch.float32
        assert torch.equal(one, torch.ones_like(one)) and torch.equal(zero, torch.zeros_like(zero))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_before_anything_is_known_weigh_0_and_those_before_any_hole_1(vae, clip, kind):
    video, _ = clip
    late = torch.zeros(9, 32, 48, dtype=torch.bool)
    late[5:] = True
    weights = mask_of(vae, video, late, kind)
    assert not weights[:, :, :2].any() and weights[:, :, 2].mean() > 0
    weights = mask_of(vae, video, ~late, kind)
    assert (weights[:, :, :2] == 1).all() and weights[:, :, 2].mean() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_lie_in_0_to_1_and_fall_on_average_when_the_hole_grows(vae, clip, kind):
    video, _ = clip
    means = []
    for width in (0, 6, 12, 20, 32, 48):
        visible = torch.ones(9, 32, 48, dtype=torch.bool)
        visible[:, :, :width] = False
        weights = mask_of(vae, video, visible, kind)
        assert weights.min() >= 0 and weights.max() <= 1
        means.append(float(weights.mean()))
    assert means[0] == 1 and means[-1] == 0
    assert all(later <= before + 0.02 for before, later in pairwise(means)), means


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_masks_of_pixels_never_rise_when_the_hole_grows(vae, clip, kind):
    video, visible = clip
    smaller = visible & (torch.rand(visible.shape, generator=torch.Generator().manual_seed(0)) < 0.9)
    before, after = mask_of(vae, video, visible, kind), mask_of(vae, video, smaller, kind)
    assert (after <= before).all() and (after < before).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", [1, 4, 5, 8])
def test_visibility_changes_no_latent_before_its_own(vae, clip, kind, frame):
    video, visible = clip
    changed = visible.clone()
    changed[frame] = False
    own = 1 + (frame - 1) // 4
    before, after = (mask_of(vae, video, known, kind) for known in (visible, changed))
    assert torch.equal(before[:, :, :own], after[:, :, :own])
    if kind not in ("trilinear", "binary") or (frame - 1) % 4 in (1, 2):  # those look at 2 frames of 4
        assert not torch.equal(before[:, :, own], after[:, :, own])


def test_same_seed_same_bytes_and_another_seed_other_probes(vae, clip):
    for kind in ("leak_ratio", "fill_variance"):
        first = build_measurement(vae, *clip, kind=kind, tau=1e-3, seed=5)
        torch.rand(3)
        again = build_measurement(vae, *clip, kind=kind, tau=1e-3, seed=5)
        other = build_measurement(vae, *clip, kind=kind, tau=1e-3, seed=6)
        assert torch.equal(first.mask, again.mask) and torch.equal(first.latents, again.latents)
        assert not torch.equal(first.mask, other.mask)


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_masks_of_the_encoder_differ_by_channel_and_the_mean_over_channels_is_an_option(vae, clip, kind):
    weights = mask_of(vae, *clip, kind)
    assert weights.std(1).max() > 1e-3
    mean = mask_of(vae, *clip, kind, channel_mean=True)
    assert torch.equal(mean, weights.mean(1, keepdim=True).expand_as(mean))


def groups(frames):
    return [frames[:1], *(frames[start : start + 4] for start in range(1, len(frames), 4))]


def test_masks_of_pixels_equal_their_loops():
    visible = torch.rand(9, 16, 24, generator=torch.Generator().manual_seed(1)) < 0.7
    visible[:, :8, :8] = True
    for t, group in enumerate(groups(visible)):
        for y in range(2):
            for x in range(3):
                block = group[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                assert latent_masks.min_pool(visible)[t, y, x] == float(block.all())
                assert torch.isclose(latent_masks.area(visible)[t, y, x], block.float().mean())
                assert latent_masks.nearest_and(visible)[t, y, x] == float(block[:, 0, 0].all())
                middle = (block if t == 0 else block[1:3])[:, 3:5, 3:5].float().mean()
                assert torch.isclose(latent_masks.trilinear(visible)[t, y, x], middle)
                assert latent_masks.binary(visible)[t, y, x] == float(middle > 0.5)


def averaging(video):
    """An encoder without leakage: each of 2 channels the mean of its pixels, times 1 and -3."""
    frames = torch.nn.functional.avg_pool2d(video.mean(1, keepdim=True), 8)[:, 0]
    latents = torch.stack([group.mean(0) for group in groups(frames)])
    return torch.stack([latents, -3 * latents])


@pytest.fixture()
def averaged():
    """A clip for `averaging`: video, visible and the share that is known, mean square over 3x3 latents."""
    generator = torch.Generator().manual_seed(2)
    visible = torch.ones(5, 32, 48, dtype=torch.bool)
    visible[:, :20, :28] = False
    return torch.rand(5, 3, 32, 48, generator=generator) * 2 - 1, visible


def test_two_fills_of_an_averaging_encoder_give_the_share_of_the_hole(averaged):
    video, visible = averaged
    hole = 1 - latent_masks.area(visible)
    near = torch.nn.functional.avg_pool2d(hole**2, 3, 1, 1, count_include_pad=False).sqrt()
    found = latent_masks.two_fill(averaging, video, visible)
    assert torch.allclose(found, (1 - near).expand_as(found), atol=1e-5)


def test_a_picture_of_visibility_in_an_averaging_encoder_gives_the_area(averaged):
    _, visible = averaged
    found = latent_masks.mask_encode(averaging, visible)
    assert torch.allclose(found, latent_masks.area(visible).expand_as(found), atol=1e-5)
    blind = latent_masks.mask_encode(lambda video: averaging(video) * 1e-3, visible)
    assert torch.equal(blind, latent_masks.area(visible).expand_as(blind))


def test_the_leak_ratio_of_an_averaging_encoder_is_the_known_share_of_the_neighbourhood(averaged):
    video, visible = averaged
    generator = torch.Generator().manual_seed(0)
    found, latents = latent_masks.leak_ratio(averaging, video, visible, generator, probes=200)
    known = latent_masks.area(visible)[None]
    expected = torch.nn.functional.avg_pool2d(known, 3, 1, 1, count_include_pad=False)[0]
    assert (found - expected).abs().max() < 0.15
    assert (found - expected).abs().mean() < 0.03
    assert torch.equal(latents, averaging(video))


def test_the_variance_over_fills_is_that_of_their_latents(averaged):
    video, visible = averaged
    seen = []

    def encode(clip):
        assert torch.equal(clip.where(visible[:, None], 0), video.where(visible[:, None], 0))
        seen.append(averaging(clip))
        return seen[-1]

    found, mean = latent_masks.fill_variance(encode, video, visible, torch.Generator(), fills=5)
    stack = torch.stack(seen)
    assert len(seen) == 5 and torch.equal(seen[0], averaging(video))
    assert torch.allclose(found, stack.var(0, correction=0), atol=1e-6)
    assert torch.allclose(mean, stack.mean(0), atol=1e-6)
    assert torch.allclose(latent_masks.certainty(found, 0.3), torch.exp(-((found.sqrt() / 0.3) ** 2)))


def test_a_source_probe_compares_with_greying_everything(averaged):
    video, visible = averaged
    found = latent_masks.source_probe(averaging, video, visible)
    greyed = averaging(video) - averaging(video * visible[:, None])

    def near(latents):
        return torch.nn.functional.avg_pool2d(latents**2, 3, 1, 1, count_include_pad=False).sqrt()

    scale = near(averaging(video)).mean((1, 2, 3), keepdim=True)
    assert torch.allclose(found, (1 - near(greyed) / scale).clamp(0), atol=1e-5)
