from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanVACEPipeline
from PIL import Image
from support import tiny_base as tiny

from recapture.models.wan.conditioning import condition, grey_holes, latent_visible, pool_visible
from recapture.models.wan.load import load_base
from recapture.models.wan.vae import decode_latents, encode_video


def parts(base, *names):
    return {"scheduler": None} | {name: getattr(base, name) for name in names}


def i2v_pipeline(base):
    return WanImageToVideoPipeline(
        **parts(base, "tokenizer", "text_encoder", "vae", "transformer", "image_encoder", "image_processor")
    )


def vace_pipeline(base):
    return WanVACEPipeline(**parts(base, "tokenizer", "text_encoder", "vae", "transformer"))


def known_frames(video, frames):
    visible = torch.zeros(len(video), *video.shape[2:], dtype=torch.bool)
    visible[list(frames)] = True
    return visible


@pytest.mark.parametrize("last", [False, True])
def test_inpaint_channels_equal_the_librarys_for_known_end_frames(bases, clip, last):
    video, _ = clip
    _, expected = i2v_pipeline(bases["inpaint"]).prepare_latents(
        video[:1],
        1,
        16,
        32,
        48,
        9,
        torch.float32,
        torch.device("cpu"),
        torch.Generator(),
        last_image=video[-1:] if last else None,
    )
    found = condition(bases["inpaint"], video, known_frames(video, [0, 8] if last else [0])).channels
    assert found.shape == (1, 20, 3, 4, 6)
    assert (found - expected).abs().max() <= 1e-6


def test_inpaint_mask_channel_k_is_its_pixel_frame_min_pooled(bases, clip):
    video, visible = clip
    found = condition(bases["inpaint"], video, visible).channels[0, :4]
    for t in range(3):
        for k in range(4):
            frame = 0 if t == 0 else 4 * (t - 1) + 1 + k
            for y in range(4):
                for x in range(6):
                    block = visible[frame, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                    assert found[k, t, y, x] == float(block.all())
    assert 0 < found.mean() < 1


def test_inpaint_video_channels_are_the_latents_of_the_video_with_grey_holes(bases, clip):
    video, visible = clip
    found = condition(bases["inpaint"], video, visible).channels[0, 4:]
    painted = torch.where(visible[:, None], video, torch.tensor(0.0))
    assert torch.equal(found, encode_video(bases["inpaint"].vae, painted))


def test_nothing_known_is_all_zero_for_inpaint(bases, clip):
    video, visible = clip
    channels = condition(bases["inpaint"], video, torch.zeros_like(visible)).channels
    assert channels.shape == (1, 20, 3, 4, 6) and not channels.any()


@pytest.mark.parametrize("name", ["inpaint", "vace", "i2v"])
def test_what_stands_in_holes_is_not_used(bases, clip, name):
    video, visible = clip
    visible[0, 3:20, 5:9] = False
    other = torch.where(visible[:, None], video, torch.tensor(float("nan")))
    a, b = condition(bases[name], video, visible), condition(bases[name], other, visible)
    for field in ("channels", "control", "image"):
        one, two = getattr(a, field), getattr(b, field)
        assert (one is None and two is None) or torch.equal(one, two)


def library_control(base, video, hole):
    """The control channels of the stock VACE pipeline. hole: [T, H, W] bool, as it takes it."""
    pipeline = vace_pipeline(base)
    clip = video.transpose(0, 1)[None]
    generate = hole[None, None].float().expand(1, 3, -1, -1, -1)
    latents = pipeline.prepare_video_latents(clip, generate, [[]], None, torch.device("cpu"))
    return torch.cat([latents, pipeline.prepare_masks(generate, [[]])], dim=1)


def test_vace_control_equals_the_librarys_for_a_hole_that_stands_still(bases, clip):
    video, visible = clip
    visible = visible[5:6].expand(9, -1, -1)
    expected = library_control(bases["vace"], grey_holes(video, visible), ~visible)
    found = condition(bases["vace"], video, visible).control
    assert found.shape == (1, 96, 3, 4, 6)
    assert (found - expected).abs().max() <= 1e-6


def test_vace_latents_equal_the_librarys_and_its_mask_is_dilated_over_each_latents_frames(bases, clip):
    video, visible = clip
    visible[2, 25, 40] = False  # one pixel of one frame that the library's temporal resize skips
    expected = library_control(bases["vace"], grey_holes(video, visible), ~visible)
    found = condition(bases["vace"], video, visible).control
    assert (found[:, :32] - expected[:, :32]).abs().max() <= 1e-6
    assert expected[0, 32:, 1, 3, 5].sum() == 0 and found[0, 32:, 1, 3, 5].sum() == 1
    for t, frames in enumerate(([0], [1, 2, 3, 4], [5, 6, 7, 8])):
        for y in range(32):
            for x in range(48):
                hole = any(not visible[f, y, x] for f in frames)
                assert found[0, 32 + 8 * (y % 8) + x % 8, t, y // 8, x // 8] == float(hole)


def test_vace_redraws_nothing_that_it_was_shown(bases, clip):
    video, visible = clip
    grey = encode_video(bases["vace"].vae, torch.zeros_like(video))
    assert torch.equal(condition(bases["vace"], video, visible).control[0, 16:32], grey)


def test_text_to_video_is_given_nothing(bases, clip):
    video, visible = clip
    given = condition(bases["t2v"], video, visible)
    assert (given.channels, given.control, given.image) == (None, None, None)
    assert given.latent_shape == (16, 3, 4, 6)


def test_image_tokens_equal_the_librarys(bases, clip):
    video, visible = clip
    picture = ((video[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    expected = i2v_pipeline(bases["i2v"]).encode_image(Image.fromarray(np.ascontiguousarray(picture)), "cpu")
    assert torch.equal(condition(bases["i2v"], video, visible).image, expected)


def test_image_tokens_are_zero_without_an_encoder_or_a_known_pixel_in_the_first_frame(bases, clip):
    video, visible = clip
    blind = replace(bases["i2v"], image_encoder=None)
    assert not condition(blind, video, visible).image.any()
    visible[0] = False
    assert not condition(bases["i2v"], video, visible).image.any()
    assert condition(bases["i2v"], video, visible).image.shape == (1, 257, 24)


def test_a_latent_is_known_only_if_all_its_pixels_in_all_its_frames_are():
    visible = torch.rand(13, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.004
    found = latent_visible(visible)
    assert found.shape == (4, 2, 3)
    for t in range(4):
        frames = [0] if t == 0 else range(4 * t - 3, 4 * t + 1)
        for y in range(2):
            for x in range(3):
                block = [visible[f, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].all() for f in frames]
                assert found[t, y, x] == all(block)
    assert found.any() and not found.all()
    assert torch.equal(pool_visible(visible)[0], found[0])


@pytest.mark.parametrize(
    ("frames", "height", "width", "says"),
    [(8, 32, 48, "8 frames"), (9, 36, 48, "36x48"), (9, 40, 48, "40x48")],
)
def test_a_size_that_would_be_cut_is_refused(bases, frames, height, width, says):
    visible = torch.ones(frames, height, width, dtype=torch.bool)
    with pytest.raises(ValueError, match=says):
        condition(bases["inpaint"], torch.zeros(frames, 3, height, width), visible)


def test_a_mask_of_another_kind_is_refused(bases, clip):
    video, visible = clip
    with pytest.raises(ValueError, match=r"visible is torch\.float32"):
        condition(bases["inpaint"], video, visible.float())
    with pytest.raises(ValueError, match=r"\[8, 32, 48\]"):
        condition(bases["inpaint"], video, visible[1:])


def test_latents_are_normalised_per_channel_and_back(bases, clip):
    video, _ = clip
    vae = bases["t2v"].vae
    raw = vae.encode(video.transpose(0, 1)[None]).latent_dist.mode()
    latents = encode_video(vae, video)
    for c in range(16):
        expected = (raw[0, c] - vae.config.latents_mean[c]) / vae.config.latents_std[c]
        assert torch.allclose(latents[c], expected, atol=1e-6)
    decoded = vae.decode(raw, return_dict=False)[0][0].transpose(0, 1)
    assert (decode_latents(vae, latents) - decoded).abs().max() < 1e-5
    both = encode_video(vae, torch.stack([video, -video]))
    assert both.shape == (2, 16, 3, 4, 6) and torch.allclose(both[0], latents, atol=1e-5)
    assert decode_latents(vae, both).shape == (2, 9, 3, 32, 48)


def test_a_patched_vae_conditions_and_decodes_in_the_same_geometry(tmp_path, clip):
    """The stock VACE pipeline fails on a VAE that folds 2x2 pixels into channels: it takes 8x for 4x."""
    for layout in ("inpaint", "vace"):
        folder = tiny.write_tiny_base(tmp_path / layout, layout)
        AutoencoderKLWan(**tiny.PATCHED_VAE).save_pretrained(folder / "vae")
        base = load_base(folder)
        given = condition(base, *clip)
        assert given.latent_shape == (16, 3, 4, 6) and base.side_multiple == 16
        channels = given.channels if layout == "inpaint" else given.control
        assert channels.shape[2:] == (3, 4, 6) and channels.isfinite().all()
        assert decode_latents(base.vae, channels[:, :16]).shape == (1, 9, 3, 32, 48)


def test_an_odd_vae_gives_its_own_geometry(bases):
    """A VAE of other factors changes latent shapes and multiples; nothing assumes 8x8x4."""
    vae = SimpleNamespace(config=SimpleNamespace(scale_factor_temporal=2, scale_factor_spatial=16, z_dim=48))
    base = replace(bases["t2v"], vae=vae)
    assert base.latent_shape(9, 64, 96) == (48, 5, 4, 6) and base.side_multiple == 32
