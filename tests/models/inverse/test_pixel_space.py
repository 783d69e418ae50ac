from copy import deepcopy

import pytest
import torch

from recapture.models.inverse import pixel_space
from recapture.models.inverse.consistency import prior_variance
from recapture.models.inverse.pixel_space import KnownPixels, pixel_gradient, pixel_replacement
from recapture.models.wan.sampling import Step
from recapture.models.wan.vae import decode_latents, encode_video

STEP = Step(1, 5, 0.6, 0.4)


@pytest.fixture()
def clean():
    return torch.randn(1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("rule", [pixel_replacement, pixel_gradient])
def test_with_no_pixel_known_nothing_moves(vae, clip, clean, rule):
    pixels = KnownPixels(vae, clip[0], torch.zeros_like(clip[1]))
    assert not rule(clean, pixels, STEP).any()


def test_replacement_goes_through_the_pixels_and_what_stands_in_holes_is_not_used(vae, clip, clean):
    video, visible = clip
    spoilt = torch.where(visible[:, None], video, float("nan"))
    found = pixel_replacement(clean, KnownPixels(vae, spoilt, visible), STEP, lowpass=0.0)
    with torch.no_grad():
        pasted = decode_latents(vae, clean)[0]
        for t in range(9):
            for c in range(3):
                pasted[t, c][visible[t]] = video[t, c][visible[t]]
        expected = encode_video(vae, pasted)[None]
    assert torch.allclose(clean + found, expected, atol=1e-5)
    everything = KnownPixels(vae, video, torch.ones_like(visible))
    whole = pixel_replacement(clean, everything, STEP, lowpass=0.0)
    assert torch.allclose(clean + whole, encode_video(vae, video).detach()[None], atol=1e-5)


def test_the_low_pass_is_a_gaussian_whose_variance_falls_with_sigma(monkeypatch):
    dot = torch.zeros(5, 3, 48, 48)
    dot[:, :, 24, 24] = 1.0
    monkeypatch.setattr(pixel_space, "decode_latents", lambda vae, latents: latents)
    monkeypatch.setattr(pixel_space, "encode_video", lambda vae, video: video)
    pixels = KnownPixels(None, dot, torch.ones(5, 48, 48, dtype=torch.bool))
    for sigma in (1.0, 0.5, 0.3):
        found = pixel_replacement(torch.zeros(1, *dot.shape), pixels, Step(1, 5, sigma, 0.1), lowpass=8.0)
        spread = found[0, 2, 1]
        offsets = torch.arange(48) - 24.0
        assert abs(float(spread.sum()) - 1) < 1e-4
        for side in (0, 1):
            assert abs(float((spread.sum(side) * offsets**2).sum()) - 8 * prior_variance(sigma)) < 0.2


def test_the_gradient_is_the_slope_of_its_loss(vae, clip, clean):
    video, visible = clip
    omega, gamma = 0.3, 0.2
    fine = deepcopy(vae).double()
    mean, std = (
        torch.tensor(vae.config[name], dtype=torch.float64).view(1, 16, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    known, seen = video.double().transpose(0, 1)[None], visible[None, None]

    @torch.no_grad()
    def loss(latents):
        generated = fine.decode(latents * std + mean).sample
        unlike = ((generated - known) * seen).square().sum().sqrt()
        encoded = fine.encode(torch.where(seen, known, generated)).latent_dist.mode()
        return float(omega * unlike + gamma * ((encoded - mean) / std - latents).square().sum().sqrt())

    found = pixel_gradient(clean, KnownPixels(vae, video, visible), STEP, omega=omega, gamma=gamma)
    slope = -found.double()
    towards = slope / slope.norm()
    difference = loss(clean.double() + 1e-4 * towards) - loss(clean.double() - 1e-4 * towards)
    assert slope.norm() > 0 and abs(difference / 2e-4 / float(slope.norm()) - 1) < 0.01
    assert not found.requires_grad
