"""Sizes that a base does not take are padded by the filler, and cut again.

Wan2.2 TI2V-5B takes multiples of 32, ingest makes multiples of 16: 26 of the 42 ordinary combinations below,
720p among them, were refused after ingest, depth and render.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLWan
from support import tiny_base as tiny
from support.filler import wan_filler

from recapture.models.fill.edited import fill_edited
from recapture.models.fill.packed import FinishedView, Packing
from recapture.models.fill.view import RenderedView
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.pairs import Pair
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.padding import padded
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import encode_video
from recapture.tasks.clip.working_size import working_size

CLIPS = [(720, 1280), (1080, 1920), (480, 640), (2160, 3840), (1920, 1080), (240, 320), (180, 320)]
SHORT_SIDES = [128, 240, 360, 480, 540, 720]
# of Wan2.2 TI2V-5B: 16 pixels per latent, 48 channels
VAE = {
    "base_dim": 3,
    "z_dim": 48,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


@pytest.fixture(scope="module")
def ti2v(tmp_path_factory):
    """A tiny base of the shape of Wan2.2 TI2V-5B."""
    folder = tmp_path_factory.mktemp("base") / "ti2v"
    tiny.write_tiny_base(folder, "t2v", in_channels=48, out_channels=48)
    torch.manual_seed(1)
    AutoencoderKLWan(**VAE).save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"expand_timesteps": True}))
    return load_base(folder)


@pytest.fixture(scope="module", params=["inpaint", "vace", "t2v"])
def base(request, tmp_path_factory):
    """A tiny base whose patches are 4x4 latents, so that sides must be multiples of 32."""
    folder = tmp_path_factory.mktemp("base") / request.param
    return load_base(tiny.write_tiny_base(folder, request.param, patch_size=(1, 4, 4)))


def view_of(height, width, frames=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(frames, 3, height, width, generator=generator) * 2 - 1
    visible = torch.ones(frames, height, width, dtype=torch.bool)
    visible[:, 8:20, width // 2 :] = False
    eye3, eye4 = torch.eye(3).expand(frames, 3, 3), torch.eye(4).expand(frames, 4, 4)
    ones = torch.ones(frames, height, width)
    return RenderedView(torch.where(visible[:, None], video, 0.0), visible, ones, ones, eye3, eye4)


def filler_of(base, **changes):
    solver = inverse_solver(kind="area", seed=0, solver="replacement", channel_mean=True)
    if base.layout == "t2v":
        changes = {"make_solver": solver} | changes
    return wan_filler(base, steps=2, **changes)


def check(filled, view):
    assert filled.video.shape == filled.unpasted.shape == view.video.shape
    assert filled.video.isfinite().all()
    hole = (~view.visible)[:, None].expand_as(filled.video)
    assert filled.video[hole].std() > 0
    far = (slice(None), slice(None), slice(26, None), slice(None))  # pixels that no feather reaches
    assert torch.equal(filled.video[far], view.video[far])


def test_all_ordinary_sizes_are_taken_by_a_base_that_takes_multiples_of_32(ti2v):
    assert ti2v.side_multiple == 32
    refused = 0
    for height, width in CLIPS:
        for short_side in SHORT_SIDES:
            size = working_size(height, width, short_side)
            frames = torch.arange(size.height * size.width).reshape(1, 1, size.height, size.width)
            wide = padded(ti2v, frames)
            assert wide.shape[2] % 32 == wide.shape[3] % 32 == 0
            assert 0 <= wide.shape[2] - size.height < 32 and 0 <= wide.shape[3] - size.width < 32
            assert torch.equal(wide[..., : size.height, : size.width], frames)
            assert (wide[..., size.height :, : size.width] == frames[..., -1:, :]).all()
            assert (wide[..., : size.height, size.width :] == frames[..., -1:]).all()
            refused += size.height % 32 != 0 or size.width % 32 != 0
    assert refused == 26


@pytest.mark.parametrize("height, width", [(128, 240), (240, 128), (48, 80)])
def test_a_base_of_wan_2_2_ti2v_shape_fills_what_it_refused(ti2v, height, width):
    view = view_of(height, width)
    check(filler_of(ti2v).fill_both(view, caption="a red ball", seed=0), view)


def test_the_fill_of_a_padded_clip_is_that_of_the_clip_with_its_edges_repeated(base):
    view = view_of(48, 80)
    filled = filler_of(base).fill_both(view, caption="a red ball", seed=0)
    check(filled, view)
    wide = view_of(64, 96)
    video = torch.nn.functional.pad(view.video, (0, 16, 0, 16), mode="replicate")
    visible = torch.nn.functional.pad(view.visible[:, None].float(), (0, 16, 0, 16), mode="replicate")
    visible = visible[:, 0] > 0
    assert not visible[:, 8:20, 80:].any() and visible[:, 48:].all()
    by_hand = filler_of(base).fill_both(
        replace(wide, video=video, visible=visible), caption="a red ball", seed=0
    )
    assert torch.equal(filled.unpasted, by_hand.unpasted[..., :48, :80])


def test_a_size_that_fits_is_not_padded(base):
    video = torch.rand(5, 3, 64, 96)
    assert padded(base, video) is video


def test_packed_frames_are_padded_like_the_clip(base):
    view, other = view_of(48, 80), view_of(48, 80, seed=1)
    finished = FinishedView(other.video, other.visible, torch.arange(5))
    filler = filler_of(base, packing=Packing(2, spacing=1))
    filled = filler.fill_both(view, caption="a red ball", seed=0, packed=[finished])
    assert len(filled.packed[0]) == 2
    check(filled, view)


def test_an_edit_is_filled_at_any_size(base):
    view = view_of(48, 80)
    edit = torch.zeros_like(view.visible)
    edit[:, 30:40, 4:20] = True
    filled = fill_edited(filler_of(base), view, edit, caption="a red ball", seed=0)
    assert filled.video.shape == view.video.shape and filled.video.isfinite().all()


@pytest.mark.parametrize("solver", ["renoised", "vision_xl", "psld"])
def test_solvers_of_latents_and_of_pixels_take_padded_windows(base, solver):
    view = view_of(48, 80)
    make = inverse_solver(kind="area", seed=0, solver=solver, channel_mean=True)
    filler = wan_filler(base, steps=2, make_solver=make, scheduler="euler")
    check(filler.fill_both(view, caption="a red ball", seed=0), view)


def test_training_pairs_are_padded_as_fills_are(tmp_path):
    base = load_base(tiny.write_tiny_base(tmp_path, "inpaint", patch_size=(1, 4, 4)))
    view = view_of(48, 80)
    target = torch.rand(5, 3, 48, 80) * 2 - 1
    pair = Pair(view.video, view.visible, target, "source", 5.0)
    text = encode_text(base, "", None).prompt
    (example,) = encode_pair(base, pair, view.visible[None], text, packed=target[:2])
    wide = SimpleNamespace(target=padded(base, target), visible=padded(base, view.visible))
    assert wide.target.shape[2:] == (64, 96)
    assert torch.equal(example.clean, encode_video(base.vae, wide.target))
    given = condition(base, padded(base, view.video), wide.visible)
    assert torch.equal(example.channels, given.channels[0])
    assert example.packed.shape[1:] == (2, *example.clean.shape[2:])
