from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed

from recapture.models.wan.conditioning import condition
from recapture.models.wan.packing import latent_index, pack, rotary_positions
from recapture.models.wan.sampling import Step, predict_velocity, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import encode_video

LAYOUTS = ["inpaint", "vace", "t2v"]
STEP = Step(1, 4, 0.6, 0.3)


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def noise_like(*shape, seed=8):
    return torch.randn(*shape, generator=generator(seed))


def some_frames(count, seed=21):
    return torch.rand(count, 3, 32, 48, generator=generator(seed)) * 2 - 1


def packed_conditioning(base, clip, times=(2, 7), positions="appended", frames=None):
    frames = some_frames(len(times)) if frames is None else frames
    return pack(base, condition(base, *clip), frames, times, positions=positions, generator=generator())


def velocity(base, conditioning, latents=None, step=STEP):
    latents = noise_like(1, *conditioning.latent_shape) if latents is None else latents
    text = encode_text(base, "a red ball", None)
    time = torch.tensor(1000 * step.sigma)
    return predict_velocity(base, base.transformer, latents, time, conditioning, text.prompt, step)


def run(base, conditioning, name="euler", steps=4, guidance=3.0, **more):
    return sample(
        base,
        conditioning,
        encode_text(base, "a red ball", ""),
        scheduler=make_scheduler(name, 3.0),
        steps=steps,
        generator=generator(9),
        guidance_scale=guidance,
        **more,
    )


def natural_call(base, clip, frames, noise, sigma):
    """The plain transformer, called by hand on T' + K latent frames at sigma."""
    given = condition(base, *clip)
    clean = torch.stack([encode_video(base.vae, frame[None])[:, 0] for frame in frames], 1)[None]
    own = noise_like(1, *given.latent_shape)
    hidden = torch.cat([own, (1 - sigma) * clean + sigma * noise], 2)
    more = {}
    if base.layout == "inpaint":
        known = torch.cat([torch.ones(1, 4, len(frames), 4, 6), clean], 1)
        hidden = torch.cat([hidden, torch.cat([given.channels, known], 2)], 1)
    if base.layout == "vace":
        known = torch.cat([clean, torch.zeros(1, 16 + 64, len(frames), 4, 6)], 1)
        more["control_hidden_states"] = torch.cat([given.control, known], 2)
    with torch.no_grad():
        return base.transformer(
            hidden_states=hidden,
            timestep=torch.tensor([1000 * sigma]),
            encoder_hidden_states=encode_text(base, "a red ball", None).prompt,
            return_dict=False,
            **more,
        )[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_appended_frames_equal_the_plain_transformer_on_a_longer_clip(bases, clip, name):
    base, frames = bases[name], some_frames(2)
    given = packed_conditioning(base, clip)
    expected = natural_call(base, clip, frames, given.packed.noise, STEP.sigma)
    found = velocity(base, given)
    assert found.shape == (1, *given.latent_shape)
    assert torch.allclose(found, expected[:, :, :3], atol=1e-5)
    assert (found - velocity(base, condition(base, *clip))).abs().max() > 1e-3


def rotary_by_hand(rope, times, height, width):
    """Cosines and sines [1, tokens, 1, D] of latent frames at `times`, token by token."""
    parts = [
        get_1d_rotary_pos_embed(
            dim, torch.tensor(at), use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float64
        )
        for dim, at in (
            (rope.t_dim, times),
            (rope.h_dim, list(range(height))),
            (rope.w_dim, list(range(width))),
        )
    ]
    return tuple(
        torch.stack(
            [
                torch.cat([parts[0][n][t], parts[1][n][y], parts[2][n][x]])
                for t in range(len(times))
                for y in range(height)
                for x in range(width)
            ]
        )[None, :, None]
        for n in (0, 1)
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_time_aligned_frames_equal_a_rotary_embedding_made_by_hand(bases, clip, name, monkeypatch):
    base, frames = bases[name], some_frames(3)
    given = packed_conditioning(base, clip, times=(0, 4, 5), positions="time_aligned")
    found = velocity(base, given)
    rotary = rotary_by_hand(base.transformer.rope, [0, 1, 2, 0, 1, 2], 2, 3)
    monkeypatch.setattr(base.transformer.rope, "forward", lambda hidden: rotary)
    expected = natural_call(base, clip, frames, given.packed.noise, STEP.sigma)
    assert torch.allclose(found, expected[:, :, :3], atol=1e-5)
    monkeypatch.undo()
    appended = packed_conditioning(base, clip, times=(0, 4, 5))
    assert (found - velocity(base, appended)).abs().max() > 1e-4


def test_a_time_aligned_position_is_that_of_the_latent_which_holds_the_frame():
    latents = [0] + [1 + (frame - 1) // 4 for frame in range(1, 17)]
    assert [latent_index(frame) for frame in range(17)] == latents


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("positions", ["appended", "time_aligned"])
def test_the_rotary_tables_are_put_back_whatever_happens(bases, clip, name, positions):
    base = bases[name]
    rope = base.transformer.rope
    tables = rope.freqs_cos, rope.freqs_sin
    copies = [table.clone() for table in tables]
    given = packed_conditioning(base, clip, positions=positions)
    velocity(base, given)
    with pytest.raises(KeyError), rotary_positions(base.transformer, 3, given.packed):
        raise KeyError
    assert rope.freqs_cos is tables[0] and rope.freqs_sin is tables[1]
    assert all(torch.equal(table, copy) for table, copy in zip(tables, copies))
    assert "freqs_cos" in dict(rope.named_buffers())


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_frames_change_no_bit(bases, clip, name):
    base = bases[name]
    plain = condition(base, *clip)
    given = packed_conditioning(base, clip, times=(), frames=torch.zeros(0, 3, 32, 48))
    assert given.packed is None
    assert torch.equal(run(base, given, "unipc"), run(base, plain, "unipc"))


@pytest.mark.parametrize("positions", ["appended", "time_aligned"])
@pytest.mark.parametrize("scheduler", ["euler", "unipc", "dpm++"])
def test_sampling_renews_the_packed_frames_at_each_step(bases, clip, scheduler, positions):
    base, frames = bases["inpaint"], some_frames(2)
    given = packed_conditioning(base, clip, positions=positions)
    clean = torch.stack([encode_video(base.vae, frame[None])[:, 0] for frame in frames], 1)[None]
    seen = []
    hook = base.transformer.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs["hidden_states"].clone()), with_kwargs=True
    )
    steps = []
    try:
        found = run(base, given, scheduler, on_step=lambda step, estimate: steps.append((step, estimate)))
    finally:
        hook.remove()
    assert found.shape == (1, *given.latent_shape) and len(seen) == 8
    assert all(estimate.shape == found.shape for _, estimate in steps)
    for n, hidden in enumerate(seen):  # with and without the prompt at each step
        sigma = steps[n // 2][0].sigma
        assert torch.allclose(hidden[:, :16, 3:], (1 - sigma) * clean + sigma * given.packed.noise, atol=1e-6)
        assert (hidden[:, 16:20, 3:] == 1).all() and torch.allclose(hidden[:, 20:, 3:], clean, atol=1e-6)
        assert torch.equal(hidden[:, 16:, :3], condition(base, *clip).channels)


def test_solvers_meet_the_clips_own_latents_alone(bases, clip):
    class Measured:
        def __init__(self):
            self.shapes = set()

        def correct(self, latents, velocity, step):
            self.shapes |= {latents.shape, velocity.shape}
            return (latents - target) / step.sigma

    base, solver = bases["inpaint"], Measured()
    target = noise_like(1, 16, 3, 4, 6, seed=30)
    found = run(base, packed_conditioning(base, clip), solver=solver)
    assert solver.shapes == {(1, 16, 3, 4, 6)}
    assert torch.allclose(found, target, atol=1e-5)


@pytest.mark.parametrize("positions", ["appended", "time_aligned"])
def test_one_timestep_a_token_gets_clean_frames_at_timestep_zero(bases, clip, positions):
    base = replace(bases["t2v"], expand_timesteps=True)
    given = packed_conditioning(base, clip, positions=positions)
    seen = []
    hook = base.transformer.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append((kwargs["hidden_states"], kwargs["timestep"])),
        with_kwargs=True,
    )
    try:
        velocity(base, given)
    finally:
        hook.remove()
    ((hidden, times),) = seen
    assert torch.equal(hidden[:, :, 3:], given.packed.latents)
    # the clip's own first frame is known, and given clean as well
    assert torch.equal(times, torch.tensor([[0.0] * 6 + [600.0] * 12 + [0.0] * 12]))


def test_two_transformers_take_packed_frames(bases, clip):
    base = bases["wan22"]
    given = packed_conditioning(base, clip, positions="time_aligned")
    one = replace(base, transformer_2=None, boundary_ratio=None)
    assert (run(base, given) - run(one, given)).abs().max() > 1e-3
    assert (run(base, given) - run(base, condition(base, *clip))).abs().max() > 1e-3


def test_frames_that_do_not_fit_are_refused(bases, clip):
    base = bases["inpaint"]
    with pytest.raises(ValueError, match="32x48"):
        packed_conditioning(base, clip, frames=torch.zeros(2, 3, 48, 32))
    for times in ((0, 9), (-1, 3), (1,)):
        with pytest.raises(ValueError, match=r"frames 0\.\.\.8"):
            packed_conditioning(base, clip, times=times, frames=some_frames(2))


def test_more_frames_than_positions_are_refused(bases, clip):
    base = bases["inpaint"]
    given = packed_conditioning(base, clip)
    with (
        pytest.raises(ValueError, match="1024 positions"),
        rotary_positions(base.transformer, 1023, given.packed),
    ):
        pass
