import pytest
import torch

from recapture.models.motion.objective import MotionTerm, absolute_velocity_term, signed_term
from recapture.models.tuning.examples import Batch
from recapture.models.tuning.step import Drawn

SHAPE = (2, 3, 4, 2, 3)  # B, z, t, h, w


def drawn(seed=0):
    random = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, *SHAPE, generator=random)
    channels = torch.cat([(torch.rand(2, 4, 4, 2, 3, generator=random) < 0.8).float(), clean], 1)
    channels[:, :4, 0] = 1.0  # the first latent frame is known
    return Drawn(Batch(clean, channels, torch.zeros(2, 1, 1), None), torch.tensor([0.4, 0.9]), noise)


def slow(estimate, clean, hole):
    """The signed term, pair by pair, of one sample."""
    found = []
    for t in range(1, clean.shape[1]):
        made, true = [], []
        for y in range(clean.shape[2]):
            for x in range(clean.shape[3]):
                if not (hole[t, y, x] or hole[t - 1, y, x]):
                    continue
                now, before = (estimate if hole[s, y, x] else clean for s in (t, t - 1))
                made.append(now[:, t, y, x] - before[:, t - 1, y, x])
                true.append(clean[:, t, y, x] - clean[:, t - 1, y, x])
        if made:
            a, b = torch.cat(made), torch.cat(true)
            found.append(1 - a @ b / a.norm() / b.norm())
    return torch.stack(found).mean()


def test_the_signed_term_equals_its_slow_twin():
    given = drawn()
    random = torch.Generator().manual_seed(1)
    velocity = torch.randn(SHAPE, generator=random)
    level = given.sigma.view(-1, 1, 1, 1, 1)
    clean = given.batch.clean
    estimate = (1 - level) * clean + level * given.noise - level * velocity
    expected = torch.stack([slow(estimate[b], clean[b], given.hole[b]) for b in range(2)])
    torch.testing.assert_close(MotionTerm("signed", 0.5)(given, velocity), 0.5 * expected)


def test_the_true_velocity_costs_nothing_and_reversed_motion_two():
    given = drawn()
    clean, unknown = given.batch.clean, torch.ones_like(given.hole)
    for kind in ("signed", "released"):
        assert MotionTerm(kind, 1.0)(given, given.noise - clean).abs().max() < 1e-4
    reversed_ = 5 - 3 * clean  # of any size, on any ground
    torch.testing.assert_close(signed_term(reversed_, clean, unknown), torch.full((2,), 2.0))
    still = clean[:, :, :1].expand(SHAPE)
    torch.testing.assert_close(signed_term(still, clean, unknown), torch.full((2,), 1.0))


def test_the_released_term_cannot_tell_left_from_right_and_the_signed_one_can():
    velocity = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    assert absolute_velocity_term(-velocity, velocity).abs().max() < 1e-6
    assert signed_term(-velocity, velocity, torch.ones(2, 4, 2, 3, dtype=torch.bool)).min() > 1.9


def test_no_gradient_goes_into_what_is_known():
    given = drawn()
    velocity = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    MotionTerm("signed", 1.0)(given, velocity).sum().backward()
    moved = velocity.grad.abs().amax(1) > 0
    assert not moved[~given.hole].any() and moved[given.hole].all()


def test_without_unknown_latents_or_pairs_or_a_kind_there_is_no_term():
    given = drawn()
    velocity = torch.randn(SHAPE)
    everything = torch.zeros_like(given.hole)
    assert torch.equal(signed_term(velocity, given.batch.clean, everything), torch.zeros(2))
    assert torch.equal(MotionTerm("none", 1.0)(given, velocity), torch.zeros(2))


@pytest.mark.parametrize("kind", ["signed", "released"])
def test_the_weight_multiplies(kind):
    given, velocity = drawn(), torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    one, third = (MotionTerm(kind, weight)(given, velocity) for weight in (1.0, 0.3))
    torch.testing.assert_close(third, 0.3 * one)
