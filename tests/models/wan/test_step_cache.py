"""Sampling with fewer passes: the step cache, and guidance in an interval."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from recapture.models.inverse.solvers import inverse_solver
from recapture.models.wan.conditioning import condition
from recapture.models.wan.lora import add_lora
from recapture.models.wan.packing import pack
from recapture.models.wan.passes import counted_passes
from recapture.models.wan.sampling import Step, predict_velocity, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.step_cache import FIRST, LONGEST, Saving, StepCache
from recapture.models.wan.text import encode_text

STEPS = 20


def sampled(base, clip, saving=None, *, guidance=3.0, name="euler", packed=False, steps=STEPS, kind=None):
    """The sampled latents and the number of passes through the transformers."""
    conditioning = condition(base, *clip)
    if packed:
        generator = torch.Generator().manual_seed(2)
        conditioning = pack(base, conditioning, clip[0][:1], [3], positions="appended", generator=generator)
    solver = None
    if kind is not None:
        solver = inverse_solver(kind="area", solver=kind, channel_mean=True)(base, *clip)
    with counted_passes(base) as passes:
        latents = sample(
            base,
            conditioning,
            encode_text(base, "a red box", ""),
            scheduler=make_scheduler(name, 2.0),
            steps=steps,
            generator=torch.Generator().manual_seed(1),
            guidance_scale=guidance,
            solver=solver,
            **({} if saving is None else {"saving": saving}),
        )
    return latents, passes.count


def steps_of(sigmas):
    count = len(sigmas) - 1
    return [Step(i, count, float(sigmas[i]), float(sigmas[i + 1])) for i in range(count)]


def integrated(field, saving, *, shift=3.0, steps=STEPS):
    """Euler's result for a velocity field (latents, sigma) -> velocity, and the number of its evaluations."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    cache, calls = StepCache(saving), []

    def compute(step, latents):
        calls.append(step.index)
        return field(latents, step.sigma)

    latents = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for step in steps_of(scheduler.sigmas):
        velocity = cache.velocity(latents, step, None, partial(compute, step))
        latents = latents + (step.next_sigma - step.sigma) * velocity
    return latents, calls


def test_a_velocity_linear_in_sigma_is_extrapolated_exactly():
    random = torch.Generator().manual_seed(5)
    constant, slope = torch.randn(2, 1, 2, 3, 4, 4, generator=random)

    def field(latents, sigma):
        return constant + sigma * slope

    exact, calls = integrated(field, Saving())
    saved, fewer = integrated(field, Saving(budget=0.5))
    assert len(calls) == STEPS and len(fewer) < STEPS / 2
    assert torch.allclose(saved, exact, atol=1e-5)


def test_the_first_share_and_the_last_step_are_computed_and_gaps_are_bounded():
    _, calls = integrated(lambda latents, sigma: torch.ones_like(latents), Saving(budget=1.0))
    assert calls[: int(FIRST * STEPS)] == list(range(int(FIRST * STEPS)))
    assert calls[-1] == STEPS - 1
    assert max(later - one for one, later in pairwise(calls)) == LONGEST + 1


def test_a_larger_budget_computes_fewer_steps_and_is_further_from_the_exact_result():
    def field(latents, sigma):
        return 1.5 + 0.3 * latents + 0.5 * torch.cos(latents + 4 * sigma)

    exact, _ = integrated(field, Saving(), steps=60)
    found = [integrated(field, Saving(budget=budget), steps=60) for budget in (0.02, 0.1, 0.4)]
    counts = [len(calls) for _, calls in found]
    errors = [float((latents - exact).norm()) for latents, _ in found]
    assert 60 > counts[0] > counts[1] > counts[2]
    assert errors[0] < errors[1] < errors[2]


def test_a_faster_velocity_is_computed_more_often():
    counts = []
    for pace in (1.0, 4.0, 16.0):

        def field(latents, sigma, pace=pace):
            return torch.full_like(latents, 1 + 0.3 * math.sin(pace * sigma))

        counts.append(len(integrated(field, Saving(budget=0.1))[1]))
    assert counts[0] < counts[1] < counts[2]


def test_fresh_noise_leaves_the_clean_estimate_where_it_was():
    """The velocity follows the noise: with a clean estimate that stands still, the extrapolation is exact."""
    random = torch.Generator().manual_seed(3)
    clean = torch.randn(1, 2, 3, 4, 4, generator=random)
    cache, wrong = StepCache(Saving(budget=1.0), fresh=True), []
    for step in steps_of(torch.linspace(1, 0, STEPS + 1)):
        latents = (1 - step.sigma) * clean + step.sigma * torch.randn(clean.shape, generator=random)
        exact = (latents - clean) / step.sigma
        found = cache.velocity(latents, step, None, lambda _, exact=exact: exact)
        wrong.append(float((found - exact).abs().max()))
    assert max(wrong) < 1e-4


@pytest.mark.parametrize("kind", ["t2v", "inpaint", "i2v", "vace", "wan22"])
def test_without_budget_and_with_all_guidance_every_layout_is_sampled_bit_for_bit(bases, clip, kind):
    exact, passes = sampled(bases[kind], clip, steps=6)
    same, as_many = sampled(bases[kind], clip, Saving(0.0, (0.0, 1.0)), steps=6)
    assert torch.equal(exact, same) and passes == as_many == 12


@pytest.mark.parametrize("kind", ["t2v", "inpaint", "i2v", "vace", "wan22"])
def test_a_budget_saves_whole_steps_of_guidance_in_every_layout(bases, clip, kind):
    exact, _ = sampled(bases[kind], clip)
    saved, passes = sampled(bases[kind], clip, Saving(budget=0.5))
    assert passes % 2 == 0 and passes < 2 * STEPS
    error = float((saved - exact).norm() / exact.norm())
    assert 0 < error < 0.1


@pytest.mark.parametrize("name", ["euler", "unipc", "dpm++"])
def test_a_second_clip_is_sampled_as_if_it_were_the_first(bases, clip, name):
    """Nothing of a sampling is left over for the next one."""
    base, saving = bases["inpaint"], Saving(0.3, (0.0, 0.5))
    alone, _ = sampled(base, clip, saving, name=name)
    sampled(base, (clip[0].flip(0), clip[1].flip(0)), saving, name=name)
    again, _ = sampled(base, clip, saving, name=name)
    assert torch.equal(alone, again)


def test_packed_frames_and_an_adapter_are_sampled_with_a_cache_as_without(folders, clip):
    from recapture.models.wan.load import load_base

    base = load_base(folders["inpaint"])
    add_lora(base.transformer, rank=2)
    for name, parameter in base.transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(4))
    exact, _ = sampled(base, clip, packed=True)
    saved, passes = sampled(base, clip, Saving(budget=0.5), packed=True)
    assert saved.shape == exact.shape and passes < 2 * STEPS
    assert float((saved - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("kind", ["replacement", "renoised", "cg", "ddnm"])
def test_a_solver_is_held_to_what_is_known_in_extrapolated_steps_too(bases, clip, kind):
    exact, _ = sampled(bases["inpaint"], clip, kind=kind)
    saved, passes = sampled(bases["inpaint"], clip, Saving(budget=10.0), kind=kind)
    assert passes < 2 * STEPS
    assert clip[1][0].all()
    assert float((saved - exact)[:, :, 0].abs().max()) < 0.05


def test_a_solver_that_repeats_steps_refuses_a_cache(bases, clip):
    with pytest.raises(ValueError, match="repeats steps"):
        sampled(bases["inpaint"], clip, Saving(budget=0.5), kind="repaint")
    sampled(bases["inpaint"], clip, Saving(guided=(0.0, 0.5)), kind="repaint", steps=4)


def test_a_second_transformer_starts_with_an_empty_cache():
    """Velocities of one transformer do not tell of another's."""
    cache, calls = StepCache(Saving(budget=1.0)), []
    for step in steps_of(torch.linspace(1, 0, STEPS + 1)):
        model = "high" if step.index < 10 else "low"
        cache.velocity(torch.ones(1), step, model, lambda latents, at=step.index: calls.append(at) or latents)
    assert {10, 11} <= set(calls)


def test_guidance_in_an_interval_makes_its_second_pass_there_alone(bases, clip):
    _, passes = sampled(bases["inpaint"], clip, Saving(guided=(0.25, 0.75)))
    assert passes == STEPS + STEPS // 2


def test_guidance_that_ends_leaves_the_sampling_of_the_prompt_alone(bases, clip):
    """The same steps by hand: guided ones first, then plain ones from where these left off."""
    base, conditioning = bases["inpaint"], condition(bases["inpaint"], *clip)
    text = encode_text(base, "a red box", "")
    scheduler = make_scheduler("euler", 2.0)
    scheduler.set_timesteps(8)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, *conditioning.latent_shape, generator=generator)
    for step, timestep in zip(steps_of(scheduler.sigmas), scheduler.timesteps):
        given = (base, base.transformer, latents, timestep, conditioning)
        velocity = predict_velocity(*given, text.prompt, step)
        if 2 <= step.index < 5:
            without = predict_velocity(*given, text.negative, step)
            velocity = without + 3.0 * (velocity - without)
        latents = latents + (step.next_sigma - step.sigma) * velocity
    found, _ = sampled(base, clip, Saving(guided=(0.25, 0.625)), steps=8)
    assert torch.allclose(found, latents, atol=1e-5)


def test_velocities_with_and_without_guidance_are_not_mixed(bases, clip):
    """Two steps at least are computed after the guidance ends, as after the switch of transformers."""
    _, passes = sampled(bases["inpaint"], clip, Saving(1e9, (0.0, 0.5)))
    guided, plain = 5, 4  # 0 to 3, and every fifth after them; 10 and 11, 16, and the last
    assert passes == 2 * guided + plain


@pytest.mark.parametrize("given", [(-0.1, (0, 1)), (0.1, (0.5, 0.5)), (0.1, (0, 1.2)), (0.1, (-0.1, 1))])
def test_values_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match="use a budget from 0"):
        Saving(*given)
