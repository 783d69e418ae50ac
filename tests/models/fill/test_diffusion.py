from dataclasses import replace

import pytest
import torch
from support import tiny_base as tiny
from support.filler import wan_filler

from recapture.models.fill.compositing import Compositing
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents

CAPTION = "a red ball moves left"


@pytest.fixture(scope="module", params=["inpaint", "vace"])
def base(request, tmp_path_factory):
    return load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base") / request.param, request.param))


@pytest.fixture(scope="module")
def t2v(tmp_path_factory):
    return load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "t2v", "t2v"))


def make_view(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(frames, 3, 32, 48, generator=generator) * 2 - 1
    visible = torch.ones(frames, 32, 48, dtype=torch.bool)
    visible[:, 8:20, 30:] = False
    visible[frames // 2, :, :5] = False
    eye3, eye4 = torch.eye(3).expand(frames, 3, 3), torch.eye(4).expand(frames, 4, 4)
    ones = torch.ones(frames, 32, 48)
    return RenderedView(
        torch.where(visible[:, None], video, torch.zeros(())), visible, ones, ones, eye3, eye4
    )


def frames_of(view, indices):
    names = [name for name in RenderedView.__dataclass_fields__ if name != "pose_group"]
    return RenderedView(*(getattr(view, name)[indices] for name in names))


def fill(filler, view, caption=CAPTION, seed=3):
    nothing = SourceView(
        view.video,
        view.depth,
        view.visible,
        view.intrinsics,
        view.world_to_camera,
        torch.arange(len(view.video)),
    )
    return filler.fill(view, nothing, caption=caption, seed=seed)


def test_holes_are_filled_and_pixels_far_from_them_returned_bit_for_bit(base):
    view = make_view(9)
    filled = fill(wan_filler(base, steps=3), view)
    assert filled.shape == view.video.shape and filled.isfinite().all() and filled.abs().max() <= 1
    assert torch.equal(filled[:, :, 24:, 10:], view.video[:, :, 24:, 10:])
    hole = (~view.visible)[:, None].expand_as(filled)
    assert filled[hole].std() > 0.01
    everywhere = wan_filler(base, steps=3, compositing=Compositing("feather", 1))
    seen = view.visible[:, None].expand_as(filled)
    assert torch.equal(fill(everywhere, view)[seen], view.video[seen])


def test_a_window_is_conditioned_sampled_and_decoded(base):
    view = make_view(9)
    filler = wan_filler(
        base, steps=4, guidance_scale=3.0, scheduler="dpm++", shift=5.0, negative_prompt="wall"
    )
    latents = sample(
        base,
        condition(base, view.video, view.visible),
        encode_text(base, CAPTION, "wall"),
        scheduler=make_scheduler("dpm++", 5.0),
        steps=4,
        generator=torch.Generator().manual_seed(3),
        guidance_scale=3.0,
    )
    both = filler.fill_both(view, caption=CAPTION, seed=3)
    assert torch.equal(both.unpasted, decode_latents(base.vae, latents)[0])
    assert not torch.equal(both.unpasted, both.video)
    assert torch.equal(both.video, fill(filler, view))


@pytest.mark.parametrize(
    "change",
    ["seed", "caption", "steps", "guidance_scale", "scheduler", "shift", "noise_scale", "negative_prompt"],
)
def test_same_arguments_same_bytes_and_every_argument_counts(base, change):
    view, filler = make_view(5), wan_filler(base, steps=3, guidance_scale=4.0)
    first = fill(filler, view)
    torch.rand(7)
    assert torch.equal(fill(filler, view), first)
    call = {"seed": {"seed": 4}, "caption": {"caption": "a blue wall"}}.get(change, {})
    settings = {
        "steps": 4,
        "guidance_scale": 6.0,
        "scheduler": "euler",
        "shift": 5.0,
        "noise_scale": 0.5,
        "negative_prompt": "box",
    }
    other = replace(filler, **{change: settings[change]}) if change in settings else filler
    assert not torch.equal(fill(other, view, **call), first)


def test_a_long_clip_is_filled_in_overlapping_windows_of_4n_plus_1(base):
    view = make_view(15)
    filler = wan_filler(base, steps=2, window=9, overlap=3)
    found = filler.fill_both(view, caption=CAPTION, seed=1).unpasted
    assert len(found) == 15
    first, last = (
        filler.fill_both(frames_of(view, span), caption=CAPTION, seed=1).unpasted
        for span in (slice(0, 9), slice(6, 15))
    )
    assert torch.equal(found[:6], first[:6]) and torch.equal(found[9:], last[3:])
    for k in range(3):
        share = (k + 1) / 4
        expected = (1 - share) * first[6 + k] + share * last[k]
        assert torch.allclose(found[6 + k], expected, atol=1e-6)


def test_a_clip_of_any_length_is_padded_by_its_last_frame_and_cut_again(base):
    view = make_view(7)
    filler = wan_filler(base, steps=2)
    padded = frames_of(view, [0, 1, 2, 3, 4, 5, 6, 6, 6])
    found = filler.fill_both(view, caption=CAPTION, seed=1).unpasted
    assert torch.equal(found, filler.fill_both(padded, caption=CAPTION, seed=1).unpasted[:7])


def test_what_stands_in_holes_is_not_used(base):
    view = make_view(5)
    spoilt = replace(view, video=torch.where(view.visible[:, None], view.video, torch.tensor(float("nan"))))
    filler = wan_filler(base, steps=2)
    assert torch.equal(fill(filler, spoilt), fill(filler, view))


class Grey:
    """Moves every clean estimate to zero latents."""

    def correct(self, latents, velocity, step):
        return latents / step.sigma


def test_each_window_gets_its_own_solver(t2v):
    view, made = make_view(15), []

    def make_solver(base, video, visible):
        made.append((base, video, visible))
        return Grey()

    filler = wan_filler(t2v, steps=3, window=9, overlap=3, make_solver=make_solver)
    found = filler.fill_both(view, caption=CAPTION, seed=0).unpasted
    grey = decode_latents(t2v.vae, torch.zeros(16, 3, 4, 6))
    assert torch.allclose(found[:6], grey[:6], atol=1e-4)
    assert len(made) == 2
    for (base, video, visible), span in zip(made, (slice(0, 9), slice(6, 15))):
        assert base is t2v
        assert torch.equal(video, view.video[span]) and torch.equal(visible, view.visible[span])


def test_a_text_to_video_base_without_a_solver_is_refused(t2v):
    with pytest.raises(ValueError, match="give it a solver"):
        wan_filler(t2v)


def test_the_preview_is_called_at_every_step(base):
    seen = []
    filler = wan_filler(base, steps=3, on_step=lambda step, clean: seen.append((step.index, clean.shape)))
    fill(filler, make_view(5))
    assert seen == [(i, (1, 16, 2, 4, 6)) for i in range(3)]
