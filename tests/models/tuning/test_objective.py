"""The loss against a loop over latents, noise levels against their distribution, what is shown and hidden."""

from dataclasses import replace

import pytest
import torch
from support.tune_settings import OBJECTIVE, settings

from recapture.models.tuning.objective import (
    add_noise,
    flow_matching_loss,
    latent_holes,
    velocity_of,
)
from recapture.models.tuning.step import draw_step, held_out_loss, losses
from recapture.models.wan.conditioning import Conditioning
from recapture.models.wan.load import load_base
from recapture.models.wan.sampling import Step, predict_velocity


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_loss_equals_a_loop_over_latents():
    random = generator()
    velocity, clean, noise = (torch.randn(3, 16, 2, 3, 4, generator=random) for _ in range(3))
    hole = torch.rand(3, 2, 3, 4, generator=random) < 0.4
    hole[2] = False
    loss, inside = flow_matching_loss(velocity, clean, noise, hole, 1.5)
    for b in range(3):
        total = weights = in_holes = count = 0.0
        for t in range(2):
            for y in range(3):
                for x in range(4):
                    wanted = noise[b, :, t, y, x] - clean[b, :, t, y, x]
                    error = float(((velocity[b, :, t, y, x] - wanted) ** 2).mean())
                    weight = 2.5 if hole[b, t, y, x] else 1.0
                    total, weights = total + weight * error, weights + weight
                    if hole[b, t, y, x]:
                        in_holes, count = in_holes + error, count + 1
        assert float(loss[b]) == pytest.approx(total / weights, rel=1e-5)
        assert float(inside[b]) == pytest.approx(in_holes / max(count, 1), rel=1e-5)


def test_the_right_velocity_costs_nothing_and_leads_back_to_the_clean_latents():
    clean, noise = (torch.randn(2, 16, 1, 2, 2, generator=generator(n)) for n in (1, 2))
    sigma, hole = torch.tensor([0.3, 0.9]), torch.ones(2, 1, 2, 2, dtype=torch.bool)
    loss, _ = flow_matching_loss(noise - clean, clean, noise, hole, 1.0)
    assert not loss.any()
    noised = add_noise(clean, noise, sigma)
    torch.testing.assert_close(noised - sigma.view(-1, 1, 1, 1, 1) * (noise - clean), clean)


def test_the_velocity_is_the_one_that_sampling_sees(folder, encoded):
    base, example = load_base(folder), encoded[0][0]
    latents = torch.randn(1, *example.clean.shape, generator=generator())
    ours = velocity_of(
        base, latents, torch.tensor([0.4]), example.channels[None], example.text[None]
    ).detach()
    given = Conditioning(tuple(example.clean.shape), channels=example.channels[None])
    step = Step(0, 1, 0.4, 0.0)
    theirs = predict_velocity(
        base, base.transformer, latents, torch.tensor(400.0), given, example.text[None], step
    )
    torch.testing.assert_close(ours, theirs)


def test_holes_are_latents_with_a_hole_in_any_of_their_frames():
    channels = torch.ones(1, 20, 2, 2, 2)
    channels[0, 4:] = -1.0
    channels[0, 3, 1, 0, 1] = 0.0
    expected = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    expected[0, 1, 0, 1] = True
    assert torch.equal(latent_holes(channels, 4), expected)


def test_captions_are_dropped_by_their_share(encoded):
    examples, empty = encoded
    objective = replace(OBJECTIVE, caption_dropout=0.3)
    text = draw_step(examples, settings(batch=400, objective=objective), 0, empty).batch.text
    dropped = (text == empty).flatten(1).all(1)
    assert 0.2 < float(dropped.float().mean()) < 0.4
    assert torch.equal(text[~dropped], examples[0].text.expand(int((~dropped).sum()), -1, -1))


def test_a_batch_has_one_size_and_examples_come_by_their_shares(encoded):
    examples, empty = encoded
    lone = [replace(example, share=float(number == 3)) for number, example in enumerate(examples)]
    batch = draw_step(lone, settings(batch=3), 5, empty).batch
    assert torch.equal(batch.channels, examples[3].channels.expand(3, -1, -1, -1, -1))
    shapes = {tuple(draw_step(examples, settings(batch=3), n, empty).noise.shape[2:]) for n in range(20)}
    assert shapes == {(2, 4, 6), (3, 4, 4)}


def test_workers_take_the_rows_of_one_batch(encoded):
    examples, empty = encoded
    of_six = settings(batch=6, seed=4)
    whole = draw_step(examples, of_six, 7, empty)
    parts = [draw_step(examples, of_six, 7, empty, worker=(rank, 3)) for rank in range(3)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.noise, whole.noise[rank::3]) and torch.equal(part.sigma, whole.sigma[rank::3])
        assert torch.equal(part.batch.clean, whole.batch.clean[rank::3])
        assert torch.equal(part.batch.text, whole.batch.text[rank::3])


def test_the_held_out_loss_is_one_number_for_one_adapter(folder, encoded):
    base = load_base(folder)
    first = held_out_loss(base, encoded[0][:3], 5)
    assert first == held_out_loss(base, encoded[0][:3], 5) != held_out_loss(base, encoded[0][:3], 6)
    # nothing else enters a hole's loss than holes
    drawn = draw_step(encoded[0], settings(batch=2), 0, encoded[1])
    _, inside = losses(base, drawn, 0.0)
    _, again = losses(base, drawn, 3.0)
    assert torch.equal(inside, again)


@pytest.mark.parametrize("change", [{"shift": 0.0}, {"hole_weight": -1.0}, {"caption_dropout": 1.5}])
def test_unusable_objectives_are_refused(change):
    with pytest.raises(ValueError, match="unusable"):
        replace(OBJECTIVE, **change)
