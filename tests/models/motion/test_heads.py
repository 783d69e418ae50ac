"""Shares of attention against the dense attention that the model itself computes."""

from dataclasses import fields, replace
from types import SimpleNamespace

import diffusers.models.transformers.transformer_wan as transformer_wan
import pytest
import torch
from support.tiny_base import tiny_transformer

from recapture.models.motion.heads import BAND, HeadShares, head_shares, heads_by_share
from recapture.models.tuning.examples import Example, stack
from recapture.models.tuning.step import Drawn, predicted

FRAMES, TOKENS = 5, 6  # latent frames of 17, and 2 x 3 tokens in each


def dense(base, example, sigma, noise, monkeypatch):
    """Return what `head_shares` measures, from whole attention maps, token by token."""
    maps = []
    attend = transformer_wan.dispatch_attention_fn

    def watched(query, key, value, **given):
        if query.shape == key.shape:
            maps.append((torch.einsum("bqhd,bkhd->hqk", query, key) / query.shape[-1] ** 0.5).softmax(-1))
        return attend(query, key, value, **given)

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(transformer_wan, "dispatch_attention_fn", watched)
        predicted(base, Drawn(stack([example], base.device), torch.full((1,), sigma), noise))
    return torch.stack([torch.stack([measures(head) for head in layer], 1) for layer in maps])


def measures(attention):
    count = FRAMES * TOKENS
    found = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        rest = float(sum(attention[i, j] for j in others))
        same = [j for j in others if j // TOKENS == i // TOKENS]
        place = [j for j in others if j % TOKENS == i % TOKENS]
        away = [j for j in others if j // TOKENS != i // TOKENS]
        band = [j for j in away if abs(j % TOKENS - i % TOKENS) <= max(1, round(BAND * TOKENS / 2))]
        frame = [*same, i]

        def share(which, row=attention[i]):
            return float(sum(row[j] for j in which))

        row = [share(away) / rest]
        row += [share(which) / rest / (len(which) / len(others)) for which in (same, place)]
        size = float(attention[i].norm())
        row += [share(which) / size / len(which) ** 0.5 for which in (frame, band)]
        row += [share(which) for which in (frame, band)]
        found.append(row)
    return torch.tensor(found).mean(0)


def test_shares_equal_those_of_the_whole_attention_map(base, examples, monkeypatch):
    example = examples.training[0]
    random = torch.Generator().manual_seed(5)
    found = head_shares(base, [example], sigmas=(0.3, 0.6), rows=1000, random=random)
    random = torch.Generator().manual_seed(5)
    expected = []
    for sigma in (0.3, 0.6):
        torch.randperm(FRAMES * TOKENS, generator=random)
        noise = torch.randn(1, *example.clean.shape, generator=random)
        expected.append(dense(base, example, sigma, noise, monkeypatch))
    expected = torch.stack(expected).mean(0)
    for number, field in enumerate(fields(HeadShares)[:7]):
        torch.testing.assert_close(getattr(found, field.name), expected[:, number], rtol=1e-4, atol=1e-5)
    assert found.chance == (FRAMES - 1) * TOKENS / (FRAMES * TOKENS - 1)
    assert found.other_frames.shape == (2, 2) and found.other_frames.std() > 1e-4


def test_sampled_rows_estimate_all_of_them_and_leave_no_hook(base, examples):
    every, some = (
        head_shares(base, examples.training, sigmas=(0.5,), rows=n, random=torch.Generator().manual_seed(2))
        for n in (1000, 10)
    )
    assert 0 < (every.other_frames - some.other_frames).abs().max() < 0.1
    assert not any(module._forward_hooks for module in base.transformer.modules())


def test_uniform_attention_has_the_share_of_chance_and_lifts_of_one(base, examples):
    for block in base.transformer.blocks:
        torch.nn.init.zeros_(block.attn1.norm_q.weight)
    found = head_shares(base, examples.training[:1], sigmas=(0.5,), rows=7, random=torch.Generator())
    for measured, expected in (
        (found.other_frames, found.chance),
        (found.same_frame, 1.0),
        (found.same_position, 1.0),
        (found.space_mass, 1 / FRAMES),
    ):
        torch.testing.assert_close(measured, torch.full((2, 2), expected), rtol=1e-5, atol=1e-6)


def test_a_window_of_one_latent_frame_is_refused(base, examples):
    one = examples.training[0]
    still = replace(one, clean=one.clean[:, :1], channels=one.channels[:, :1])
    with pytest.raises(ValueError, match="no other frames"):
        head_shares(base, [still], sigmas=(0.5,), rows=7, random=torch.Generator())


@pytest.mark.full
def test_a_real_window_of_32760_tokens_is_measured_without_a_map():
    model = tiny_transformer("inpaint", num_layers=1, rope_max_seq_len=64)
    vae = SimpleNamespace(config=SimpleNamespace(scale_factor_temporal=4))
    base = SimpleNamespace(transformer=model, vae=vae, device=torch.device("cpu"), dtype=torch.float32)
    example = Example(torch.randn(16, 21, 60, 104), torch.ones(20, 21, 60, 104), torch.randn(16, 32))
    found = head_shares(base, [example], sigmas=(0.5,), rows=64, random=torch.Generator())
    assert found.chance == pytest.approx(20 / 21, abs=1e-4) and found.other_frames.isfinite().all()


def made(**changes):
    """Shares of two blocks of five heads, drawn at random, with what a test states."""
    random = torch.Generator().manual_seed(3)
    drawn = {field.name: torch.rand(2, 5, generator=random) for field in fields(HeadShares)[:7]}
    return HeadShares(**drawn | {"chance": 0.6} | changes)


def test_half_of_each_block_is_temporal_the_inverse_is_the_rest_and_random_is_a_half_too():
    share = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3], [0.9, 0.9, 0.9, 0.2, 0.1]])
    shares = made(other_frames=share)
    upper = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 0, 0]], dtype=torch.bool)
    assert torch.equal(heads_by_share(shares, "half"), upper)
    assert torch.equal(heads_by_share(shares, "inverted"), ~upper)
    assert heads_by_share(shares, "all").all()
    drawn = [heads_by_share(shares, "random", torch.Generator().manual_seed(n)) for n in range(4)]
    assert all((one.sum(1) == 3).all() for one in drawn)
    assert len({tuple(one.flatten().tolist()) for one in drawn}) > 1
    with pytest.raises(ValueError, match="needs a generator"):
        heads_by_share(shares, "random")


def test_the_other_rules_are_their_inequalities_and_may_leave_a_group_empty():
    share = torch.tensor([[0.5, 0.59, 0.6, 0.61, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5]])
    chance = heads_by_share(made(other_frames=share), "chance")
    assert torch.equal(chance, torch.tensor([[0, 0, 0, 1, 1], [0] * 5], dtype=torch.bool))
    time = torch.full((2, 5), 0.4)
    space = torch.tensor([0.3, 0.49, 0.5, 0.51, 0.9]).expand(2, 5)  # 1.25 x 0.4 = 0.5
    assert heads_by_share(made(space_cosine=space, time_cosine=time), "paper")[0].tolist() == [1, 1, 0, 0, 0]
    mass = torch.tensor([0.2, 0.30, 0.31, 0.5, 0.9]).expand(2, 5)  # 0.4 / 1.3 = 0.307
    assert heads_by_share(made(space_mass=mass, time_mass=time), "released")[0].tolist() == [1, 1, 0, 0, 0]
