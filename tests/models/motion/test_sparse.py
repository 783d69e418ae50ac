import math

import pytest
import torch

from recapture.models.motion.sparse import (
    Sparse,
    draw_latents,
    fastest_period,
    kept_frames,
    of_latents,
    sparse_frames,
    temporal_positions,
)
from recapture.models.tuning.examples import stack
from recapture.models.tuning.step import Drawn, Extra, losses, predicted


def drawn_of(examples, base):
    batch = stack(examples.training[:2], base.device)
    noise = torch.randn(batch.clean.shape, generator=torch.Generator().manual_seed(4))
    return Drawn(batch, torch.tensor([0.3, 0.8]), noise)


def test_81_frames_thinned_to_17_and_their_positions():
    assert sparse_frames(81, 17) == list(range(0, 81, 5))
    assert temporal_positions(81, 17, "native") == (0, 1, 2, 3, 4)
    assert temporal_positions(81, 17, "aligned") == (0, 5, 10, 15, 20)
    assert temporal_positions(81, 17, "paper") == pytest.approx((0, 4.2, 8.4, 12.6, 16.8))
    # the published formula: f(F/2 + F/F_s (i - F_s/2)), over 21 and 5 latent frames
    assert temporal_positions(81, 17, "paper") == pytest.approx(
        [21 / 2 + 21 / 5 * (i - 5 / 2) for i in range(5)]
    )


@pytest.mark.parametrize(("frames", "kept"), [(33, 17), (49, 17), (49, 13), (33, 29), (81, 21), (5, 5)])
def test_first_and_last_are_kept_and_aligned_positions_are_the_moments_of_the_frames(frames, kept):
    chosen = sparse_frames(frames, kept)
    assert len(set(chosen)) == kept and (chosen[0], chosen[-1]) == (0, frames - 1)
    aligned = temporal_positions(frames, kept, "aligned")
    assert (aligned[0], aligned[-1]) == (0, (frames - 1) // 4)
    assert all(abs(chosen[4 * i] / 4 - at) <= 0.125 for i, at in enumerate(aligned))


@pytest.mark.parametrize(("frames", "kept"), [(33, 16), (32, 17), (17, 33), (33, 1)])
def test_other_counts_are_refused(frames, kept):
    with pytest.raises(ValueError, match="both must be 4n"):
        sparse_frames(frames, kept)
    with pytest.raises(ValueError, match="both must be 4n"):
        Sparse("mixed", frames, kept, "aligned")


def test_mixed_subsets_hold_the_first_latent_and_in_time_every_other_one():
    random = torch.Generator().manual_seed(0)
    seen = [draw_latents(13, 5, random) for _ in range(400)]
    steps = {one[2] - one[1] for one in seen}
    assert steps == {1, 3}
    for one in seen:
        assert len(one) == 5 and one[0] == 0 and one[-1] <= 12
        assert len(set(torch.tensor(one[1:]).diff().tolist())) == 1
    strided = [one for one in seen if one[2] - one[1] == 3]
    assert 0.4 < len(strided) / len(seen) < 0.6
    assert {i for one in strided for i in one} == set(range(13))
    assert {i for one in seen if one not in strided for i in one} == set(range(13))


def test_latents_are_those_of_the_whole_window_at_their_own_positions(base, examples):
    drawn = drawn_of(examples, base)
    chosen = [0, 2, 4]
    few = Sparse("latents", 17, 9, "aligned").narrowed(drawn, torch.Generator())
    assert few.positions == (0, 2, 4)
    for made, whole in (
        (few.batch.clean, drawn.batch.clean),
        (few.batch.channels, drawn.batch.channels),
        (few.noise, drawn.noise),
    ):
        assert torch.equal(made, whole[:, :, chosen])
    assert torch.equal(few.hole, drawn.hole[:, chosen]) and not few.hole[:, 0].any() and few.hole[:, 1:].all()


def test_what_keeps_everything_is_the_plain_step(base, examples):
    drawn = drawn_of(examples, base)
    for sparse in (Sparse("full", 17, 9, "aligned"), Sparse("mixed", 17, 17, "aligned")):
        assert sparse.narrowed(drawn, torch.Generator()) is drawn


def test_a_sparse_step_sees_what_its_frames_and_positions_say(base, examples):
    """Latent frames in another order under their own positions give the same, so rows go with frames."""
    drawn = drawn_of(examples, base)
    few = Sparse("latents", 17, 9, "aligned").narrowed(drawn, torch.Generator())
    turned = of_latents(drawn, [4, 0, 2])
    with torch.no_grad():
        plain, other = predicted(base, few), predicted(base, turned)
        native = predicted(base, Drawn(few.batch, few.sigma, few.noise))
    torch.testing.assert_close(other, plain[:, :, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    assert (native - plain).abs().max() > 1e-4
    assert torch.equal(losses(base, few, 0.0, Extra())[0], losses(base, few, 0.0)[0])


def test_frames_are_at_the_positions_that_are_asked_for(base, examples):
    drawn = drawn_of(examples, base)
    sparse = Sparse("frames", 33, 17, "paper")
    assert sparse.narrowed(drawn, torch.Generator()).positions == pytest.approx((0, 1.8, 3.6, 5.4, 7.2))
    assert sparse.frames() == list(range(0, 33, 2))
    assert Sparse("mixed", 33, 17, "paper").frames() == list(range(33))


def waves(period, frames=81, drift=0.7, size=8.0):
    at = torch.arange(frames).double()
    across = drift * at + size * (2 * math.pi * at / period).sin()
    return torch.stack([across, 20 + 0 * at], 1)[None]


def test_the_period_of_a_wave_on_a_drift_is_found_and_sets_the_stride():
    for period in (81 / 3, 81 / 5, 81 / 9):
        assert fastest_period(waves(period)) == pytest.approx(period)
    assert kept_frames(waves(81 / 3), 5) == 4 * math.ceil(4 * 80 / 27) + 1 == 49
    assert kept_frames(waves(81 / 9), 5) == 81  # too fast to leave anything out
    assert kept_frames(waves(81 / 3), 65) == 65


def test_a_straight_way_and_rest_have_no_period():
    assert fastest_period(waves(10, size=0.0)) == math.inf
    assert kept_frames(waves(10, size=0.0, drift=0.0), 17) == 17
