"""Frames from another camera beside training examples: chosen, encoded, drawn, and left out of the loss."""

from dataclasses import replace

import pytest
import torch
from support.surface import SURFACE, render
from support.tune_settings import settings

from recapture.models.fill.packed import Packing, packing_candidates
from recapture.models.fill.view import RenderedView
from recapture.models.tuning.examples import encode_pair, packable, stack
from recapture.models.tuning.objective import flow_matching_loss, latent_holes, velocity_of
from recapture.models.tuning.other_view import frames_beside, other_view
from recapture.models.tuning.pairs import Move, move_path, source_pairs
from recapture.models.tuning.step import draw_step, gradients, losses
from recapture.models.wan.conditioning import Conditioning
from recapture.models.wan.load import load_base
from recapture.models.wan.packing import pack
from recapture.models.wan.sampling import Step, predict_velocity
from recapture.models.wan.text import encode_text

PIVOT = 3.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture
def packed(base, source):
    """Three examples: with two packed frames, with three, and with none."""
    pair = next(source_pairs(source, PIVOT, [Move(20.0, 0.0, 0.0)], SURFACE))
    text = encode_text(base, "a box").prompt
    frames = torch.rand(3, 3, 32, 32, generator=generator()) * 2 - 1
    return [
        encode_pair(base, pair, pair.visible[None], text, packed=given)[0]
        for given in (frames[:2], frames, None)
    ]


def shown(base, example, frames, times):
    """What sampling gives the model when it fills the example's clip with the frames packed beside it."""
    given = Conditioning(tuple(example.clean.shape), channels=example.channels[None])
    return pack(base, given, frames, times, generator=generator(5))


def test_frames_are_encoded_as_they_are_packed_when_a_clip_is_filled(base, packed):
    frames = torch.rand(3, 3, 32, 32, generator=generator()) * 2 - 1
    assert torch.equal(packed[1].packed, shown(base, packed[1], frames, [0, 2, 4]).packed.latents[0])
    assert torch.equal(packed[0].packed, packed[1].packed[:, :2]) and packed[2].packed is None
    assert torch.equal(packed[0].clean, packed[2].clean)
    assert [packable(some) for some in (packed, packed[:2], packed[1:2])] == [0, 2, 3]


def test_the_velocity_is_the_one_that_sampling_sees_with_the_same_frames_packed(base, packed):
    example = packed[1]
    frames = torch.rand(3, 3, 32, 32, generator=generator()) * 2 - 1
    given = shown(base, example, frames, [0, 2, 4])
    latents = torch.randn(1, *example.clean.shape, generator=generator(1))
    step = Step(0, 1, 0.4, 0.0)
    theirs = predict_velocity(
        base, base.transformer, latents, torch.tensor(400.0), given, example.text[None], step
    )
    sigma, channels = torch.tensor([0.4]), example.channels[None]
    ours = velocity_of(
        base,
        latents,
        sigma,
        channels,
        example.text[None],
        packed=example.packed[None],
        packed_noise=given.packed.noise,
    ).detach()
    assert ours.shape == latents.shape
    torch.testing.assert_close(ours, theirs)
    alone = velocity_of(base, latents, sigma, channels, example.text[None]).detach()
    assert (ours - alone).abs().max() > 1e-3


def test_only_the_clips_own_latents_are_learned(base, packed):
    given = settings(batch=2, packed_share=1.0)
    drawn = draw_step(packed[:2], given, 0, packed[0].text)
    assert (
        drawn.batch.packed.shape[2]
        == drawn.packed_noise.shape[2]
        == 2 + int(torch.equal(drawn.batch.packed[0][:, -1], packed[1].packed[:, -1]))
    )
    found = losses(base, drawn, 1.0)
    batch = drawn.batch
    for row in range(2):
        one = slice(row, row + 1)
        level = drawn.sigma[one].view(-1, 1, 1, 1, 1)
        noised = (1 - level) * batch.clean[one] + level * drawn.noise[one]
        velocity = velocity_of(
            base,
            noised,
            drawn.sigma[one],
            batch.channels[one],
            batch.text[one],
            packed=batch.packed[one],
            packed_noise=drawn.packed_noise[one],
        )
        hole = latent_holes(batch.channels[one], 4)
        expected = flow_matching_loss(velocity, batch.clean[one], drawn.noise[one], hole, 1.0)
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours[one], theirs)
    more = replace(drawn, batch=replace(batch, packed=batch.packed + 0.5))
    assert not torch.allclose(losses(base, more, 1.0)[0], found[0])


def test_a_micro_batch_brings_its_own_packed_frames(base, packed):
    given = settings(batch=2, packed_share=1.0)
    drawn = draw_step(packed[:2], given, 3, packed[0].text)
    weights = [parameter for parameter in base.transformer.parameters() if parameter.ndim > 1][:4]
    for weight in weights:
        weight.requires_grad_(True)
    whole, values = gradients(base, weights, drawn, given)
    split, again = gradients(base, weights, drawn, replace(given, micro_batch=1))
    torch.testing.assert_close(values, again)
    for one, other in zip(whole, split):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_frames_are_packed_in_their_share_of_the_steps_and_change_no_other_draw(packed):
    both, empty = packed[:2], packed[0].text
    given = settings(batch=2, packed_share=0.3, seed=4)
    steps = [draw_step(both, given, step, empty) for step in range(300)]
    share = sum(drawn.batch.packed is not None for drawn in steps) / len(steps)
    assert 0.2 < share < 0.4
    for step, drawn in enumerate(steps[:20]):
        plain = draw_step(both, replace(given, packed_share=0.0), step, empty)
        assert plain.batch.packed is None and plain.packed_noise is None
        assert torch.equal(plain.noise, drawn.noise) and torch.equal(plain.sigma, drawn.sigma)
        assert torch.equal(plain.batch.channels, drawn.batch.channels)
        assert torch.equal(plain.batch.text, drawn.batch.text)
        assert (drawn.batch.packed is None) == (drawn.packed_noise is None)
    none = draw_step(packed[2:], replace(given, packed_share=1.0), 0, empty)
    assert none.batch.packed is None and none.packed_noise is None


def test_workers_take_the_packed_rows_of_one_batch(packed):
    given = settings(batch=4, packed_share=1.0)
    whole = draw_step(packed[:2], given, 1, packed[0].text)
    for rank in range(2):
        part = draw_step(packed[:2], given, 1, packed[0].text, worker=(rank, 2))
        assert torch.equal(part.packed_noise, whole.packed_noise[rank::2])
        assert torch.equal(part.batch.packed, whole.batch.packed[rank::2])


def test_a_batch_takes_as_many_frames_as_it_is_told(packed):
    assert stack(packed[:2], torch.device("cpu")).packed is None
    assert torch.equal(
        stack(packed[:2], torch.device("cpu"), 2).packed,
        torch.stack([packed[0].packed, packed[1].packed[:, :2]]),
    )


def test_the_other_view_is_what_its_cameras_see_without_holes(source):
    move = Move(-15.0, 5.0, 0.05)
    other = other_view(source, PIVOT, move, SURFACE)
    path = move_path(source, PIVOT, move)
    cameras = source.intrinsics, source.world_to_camera, path.intrinsics.float(), path.world_to_camera.float()
    seen = render(source.video, source.depth, *cameras, known=source.known)
    assert 0.01 < float((~seen.visible).float().mean()) < 0.5
    assert torch.equal(other.visible, seen.visible)
    known = seen.visible[:, None].expand_as(seen.video)
    assert torch.equal(other.video[known], seen.video[known]) and other.quality == 1.0
    assert torch.isfinite(other.geometry.depth).all()


def test_frames_beside_a_pair_show_what_its_holes_hide(source):
    """The pair's move goes right and loses what lies left of the square; a camera on the left sees that."""
    pair = next(source_pairs(source, PIVOT, [Move(25.0, 0.0, 0.0, direct=True)], SURFACE))
    left, same = (
        other_view(source, PIVOT, Move(yaw, 0.0, 0.0, direct=True), SURFACE) for yaw in (-25.0, 25.0)
    )
    packing = Packing(2, 3)
    frames = frames_beside(source, pair, left, packing, SURFACE)
    assert len(frames) == 2
    times = [t for one in frames for t in range(5) if torch.equal(one, left.video[t])]
    assert len(times) == 2 and times[1] - times[0] >= 3
    assert frames_beside(source, pair, left, Packing(0, 3), SURFACE) is None
    # a view whose holes are the pair's own can show little of them
    view = RenderedView(
        pair.degraded,
        pair.visible,
        source.depth,
        torch.ones_like(source.depth),
        source.intrinsics,
        source.world_to_camera,
    )
    areas = [sum(one.area for one in packing_candidates([other], view, SURFACE)) for other in (left, same)]
    assert areas[0] > areas[1]
