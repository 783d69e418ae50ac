"""The decoder's adversary: its gradients by finite differences, its state, what sharpening leaves."""

import pytest
import torch

from recapture.models.pretraining.adversary import Adversary
from recapture.models.pretraining.sharpen import ADVERSE, SharpenLearner
from recapture.models.pretraining.vae import Stage, build_vae, reconstruction_quality
from recapture.models.training.seeds import generator
from recapture.models.wan.parallel_vae import encode_moments

CPU = torch.device("cpu")
WIDTHS = (8, 8, 8, 8)


def video(seed, batch=2, side=32):
    return torch.rand(batch, 3, 5, side, side, generator=generator(seed, 0, "cpu")) * 2 - 1


def adversary(seed=0):
    return Adversary(seed, CPU, 1e-3, widths=WIDTHS)


def test_the_gradient_is_that_of_both_losses_each_of_length_one():
    judge, true, guess = adversary(), video(1).double(), video(2).double()
    judge.model.double()
    gradient, said = judge.gradient(guess, true)
    direction = torch.randn(guess.shape, generator=generator(5, 0, "cpu"), dtype=torch.float64)
    step = 1e-6

    def losses(moved):
        with torch.no_grad():
            verdict, features = judge.model(moved)
            _, wanted = judge.model(true)
        distances = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(features, wanted)]
        return -verdict.mean().double(), torch.stack(distances).mean().double()

    parts = []
    for index in range(2):
        slope = (losses(guess + step * direction)[index] - losses(guess - step * direction)[index]) / (
            2 * step
        )
        leaf = guess.clone().requires_grad_(True)
        verdict, features = judge.model(leaf)
        wanted = [f.detach() for f in judge.model(true)[1]]
        loss = (
            -verdict.mean()
            if index == 0
            else torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in zip(features, wanted)]).mean()
        )
        (exact,) = torch.autograd.grad(loss, leaf)
        assert float((exact * direction).sum()) == pytest.approx(float(slope), rel=1e-3)
        parts.append(exact / exact.norm())
    torch.testing.assert_close(gradient, parts[0] + parts[1], rtol=1e-3, atol=1e-6)
    assert float(said["fooled"]) == pytest.approx(float(losses(guess)[0]), abs=1e-5)


def test_it_learns_to_tell_noise_from_clips_and_goes_on_from_its_state():
    judge = adversary()
    flat = torch.full((4, 3, 5, 32, 32), 0.3)
    noisy = flat + video(3, batch=4)
    first = float(judge.learn(noisy, flat)["adversary"])
    for _ in range(25):
        last = float(judge.learn(noisy, flat)["adversary"])
    assert last < 0.6 * first
    other = adversary(seed=1)
    other.load_state({name: value.clone() for name, value in judge.state().items()})
    assert float(other.learn(noisy, flat)["adversary"]) == float(judge.learn(noisy, flat)["adversary"])
    for mine, theirs in zip(judge.state().values(), other.state().values()):
        assert torch.equal(mine, theirs)


@pytest.fixture(scope="module")
def learner():
    vae = build_vae(0, "cpu", base_dim=8, decoder_base_dim=8)
    stage = Stage(5, 32, 2, 1.0)
    return SharpenLearner(vae, lambda step, stage: video(step), 10, 0, adversary(), (stage,))


def test_the_encoder_and_its_latents_stay(learner):
    before = encode_moments(learner.module, video(9))[0].detach()
    loss, _ = learner.loss(0)
    loss.backward()
    moved = {name for name, p in learner.module.named_parameters() if p.grad is not None}
    assert moved and all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)
    assert torch.equal(encode_moments(learner.module, video(9))[0], before)


def test_the_adversary_pulls_with_a_fixed_share_of_the_reconstruction(learner):
    result = video(4).requires_grad_(True)
    plain = (result - video(5)).abs().mean()
    (pull,) = torch.autograd.grad(plain, result)
    adverse, _ = learner.companion.gradient(result, video(5))
    both = ADVERSE * pull.norm() * adverse
    assert float(both.norm()) <= 2 * ADVERSE * float(pull.norm()) * 1.001
    early, late = learner.loss(0)[1], learner.loss(5)[1]
    assert "fooled" not in early and {"fooled", "feature_distance", "adversary"} <= set(late)


def test_sharpness_is_lost_by_a_blur_and_kept_by_an_offset():
    clip = video(6, batch=1)
    blurred = torch.nn.functional.avg_pool3d(clip, (1, 3, 3), 1, (0, 1, 1))
    assert float(reconstruction_quality(clip + 0.1, clip)["sharpness"]) == pytest.approx(1, abs=1e-4)
    assert float(reconstruction_quality(clip * 0.5, clip)["sharpness"]) == pytest.approx(0.25, abs=1e-4)
    assert float(reconstruction_quality(blurred, clip)["sharpness"]) < 0.3
