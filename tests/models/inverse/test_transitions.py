import math
from functools import partial

import pytest
import torch

from recapture.models.inverse.transitions import (
    blended,
    ddim,
    direct,
    euler,
    flow_posterior_sampling,
    jump_back,
)
from recapture.models.wan.sampling import Step
from recapture.models.wan.schedulers import make_scheduler

SHAPE = (1, 16, 3, 4, 6)


def draw(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def seeded():
    return torch.Generator().manual_seed(4)


def test_euler_is_the_schedulers_step_bit_for_bit():
    scheduler = make_scheduler("euler", 3.0)
    scheduler.set_timesteps(13)
    latents, velocity = draw(2)
    for i, timestep in enumerate(scheduler.timesteps):
        step = Step(i, 13, float(scheduler.sigmas[i]), float(scheduler.sigmas[i + 1]))
        expected = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        assert torch.equal(euler(latents, velocity, step), expected)
        latents = expected


@pytest.mark.parametrize("rule", [ddim, direct], ids=["ddim", "direct"])
def test_without_move_or_noise_it_is_eulers_step_and_draws_nothing(rule):
    latents, velocity = draw(2)
    step, generator = Step(3, 9, 0.7, 0.55), seeded()
    found = rule(latents, velocity, torch.zeros(SHAPE), step, generator)
    assert torch.equal(found, euler(latents, velocity, step))
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize(
    ("rule", "kept", "fresh"),
    [
        (ddim, 1.0, 0.0),
        (partial(ddim, eta=0.6), 0.8, 0.6),
        (partial(ddim, eta=1.0), 0.0, 1.0),
        (flow_posterior_sampling, math.sqrt(0.55), math.sqrt(0.45)),
    ],
    ids=["eta 0", "eta .6", "eta 1", "flowdps"],
)
def test_clean_and_noise_are_split_and_mixed_anew(rule, kept, fresh):
    latents, velocity, delta = draw(3)
    sigma, after = 0.7, 0.55
    clean, seen = latents - sigma * velocity, latents + (1 - sigma) * velocity
    xi = torch.randn(SHAPE, generator=seeded())
    expected = (1 - after) * (clean + delta) + after * (kept * seen + fresh * xi)
    found = rule(latents, velocity, delta, Step(3, 9, sigma, after), seeded())
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "rule", [ddim, partial(ddim, eta=1.0), flow_posterior_sampling, direct], ids=["0", "1", "dps", "direct"]
)
def test_the_last_step_is_the_corrected_clean_estimate(rule):
    latents, velocity, delta = draw(3)
    found = rule(latents, velocity, delta, Step(8, 9, 0.2, 0.0), seeded())
    assert torch.allclose(found, latents - 0.2 * velocity + delta, atol=1e-5)


def test_blending_noises_the_measurement_to_the_next_level_where_known(measure):
    latents, velocity = draw(2)
    measurement, step = measure("soft"), Step(3, 9, 0.7, 0.55)
    found = blended(latents, velocity, torch.zeros(SHAPE), step, seeded(), measurement=measurement)
    noised = 0.45 * measurement.latents + 0.55 * torch.randn(SHAPE, generator=seeded())
    inside = measurement.mask > 0.5
    assert torch.allclose(found[inside], noised[inside], atol=1e-6)
    assert torch.equal(found[~inside], euler(latents, velocity, step)[~inside])


@pytest.mark.parametrize(("sigma", "after"), [(0.9, 0.6), (0.5, 0.45), (0.3, 0.0), (1.0, 0.8)])
def test_jumping_back_makes_noise_of_the_earlier_level(sigma, after):
    step = Step(1, 5, sigma, after)
    share = (1 - sigma) / (1 - after)
    fresh = jump_back(torch.zeros(1, 1, 1, 400, 500), step, seeded())
    variance = float(fresh.double().var())
    assert abs(share**2 * after**2 + variance - sigma**2) < 0.01 * sigma**2
    still = jump_back(torch.full(SHAPE, 2.0), step, seeded()) - jump_back(torch.zeros(SHAPE), step, seeded())
    assert torch.allclose(still, torch.full(SHAPE, 2.0 * share), atol=1e-6)
