from functools import partial
from typing import get_args

import pytest
import torch
from support import tiny_base as tiny

from recapture.models.inverse import latent_masks, measurement
from recapture.models.inverse.measurement import (
    EncoderMask,
    Fill,
    LatentMeasurement,
    MaskKind,
    fill_holes,
    whole_frames,
)
from recapture.models.wan.load import load_base
from recapture.models.wan.vae import encode_video

build_measurement = partial(measurement.build_measurement, channel_mean=False)

ENCODINGS = {"two_fill": 5, "source_probe": 4, "mask_encode": 4, "leak_ratio": 7, "fill_variance": 3}


@pytest.mark.parametrize("kind", get_args(MaskKind))
def test_encodings_are_counted_and_few(vae, clip, kind, monkeypatch):
    calls, encode = [], vae.encode
    monkeypatch.setattr(vae, "encode", lambda video: calls.append(1) or encode(video))
    measurement._ENDS.clear()
    found = build_measurement(vae, *clip, kind=kind, source=clip[0], probes=3)
    assert found.encodes == len(calls) == ENCODINGS.get(kind, 1)
    assert (found.variance is not None) == (kind == "fill_variance")


def test_black_and_white_are_encoded_once_a_size(vae, clip):
    video, visible = clip
    measurement._ENDS.clear()
    first = build_measurement(vae, video, visible, kind="mask_encode")
    again = build_measurement(vae, video, visible, kind="mask_encode")
    assert (first.encodes, again.encodes) == (4, 2)
    assert torch.equal(first.mask, again.mask)
    shorter = build_measurement(vae, video[:5], visible[:5], kind="mask_encode")
    assert shorter.encodes == 4
    with torch.no_grad():
        expected = latent_masks.mask_encode(lambda one: encode_video(vae, one), visible[:5])
    assert torch.equal(shorter.mask[0], expected)


@pytest.mark.parametrize("fill", get_args(Fill))
def test_latents_are_those_of_the_clip_with_its_holes_filled(vae, clip, fill):
    video, visible = clip
    spoilt = torch.where(visible[:, None], video, float("nan"))
    found = build_measurement(vae, spoilt, visible, kind="area", fill=fill)
    with torch.no_grad():
        assert torch.equal(found.latents[0], encode_video(vae, fill_holes(video, visible, fill)))
    plain = build_measurement(vae, video, torch.ones_like(visible), kind="area", fill=fill)
    assert torch.equal(plain.latents[0], encode_video(vae, video).detach())


@pytest.mark.parametrize("fill", get_args(Fill))
def test_fills_keep_known_pixels_and_look_at_one_frame_alone(clip, fill):
    video, visible = clip
    visible[3] = False
    filled = fill_holes(video, visible, fill)
    seen = visible[:, None].expand_as(video)
    assert torch.equal(filled[seen], video[seen]) and filled.abs().max() <= 1 and filled.isfinite().all()
    assert (filled[3] == (-1 if fill == "black" else 0)).all()
    assert torch.equal(filled[5:7], fill_holes(video[5:7], visible[5:7], fill))
    if fill == "mean":
        for t in (2, 8):
            expected = video[t][:, visible[t]].mean(1)
            assert torch.allclose(filled[t][:, 6, 16], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["area", "two_fill"])
def test_tiling_is_off_while_encoding_and_restored(vae, clip, kind):
    expected = build_measurement(vae, *clip, kind=kind)
    vae.enable_tiling(16, 16, 8, 8)
    try:
        tiled = encode_video(vae, clip[0])
        found = build_measurement(vae, *clip, kind=kind)
        with pytest.raises(RuntimeError, match="within"), whole_frames(vae):
            assert not vae.use_tiling
            raise RuntimeError("within")
        assert vae.use_tiling
    finally:
        vae.disable_tiling()
    assert torch.equal(found.latents, expected.latents) and torch.equal(found.mask, expected.mask)
    assert not torch.equal(tiled, encode_video(vae, clip[0]))


def test_one_frame_is_measured_too(vae, clip):
    video, visible = clip
    for kind in get_args(MaskKind):
        found = build_measurement(vae, video[4:5], visible[4:5], kind=kind, source=video[4:5])
        assert found.mask.shape == (1, 16, 1, 4, 6) and 0 < found.mask.mean() < 1


def test_weights_below_a_floor_count_as_nothing():
    weights = torch.tensor([0.0, 0.04, 0.05, 1.0]).view(1, 1, 1, 1, 4)
    found = LatentMeasurement(torch.zeros_like(weights), weights, 1 - weights).floored(0.05)
    assert torch.equal(found.mask.flatten(), torch.tensor([0.0, 0.0, 0.05, 1.0]))
    assert found.variance.flatten().tolist() == [float("inf"), float("inf"), pytest.approx(0.95), 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "soft"}, "no latent mask 'soft'.*trilinear"),
        ({"fill": "red"}, "no fill 'red'"),
        ({"kind": "source_probe", "source": None}, "needs the source clip"),
        ({"kind": "source_probe", "source": torch.zeros(5, 3, 32, 48)}, "of the window's shape"),
        ({"kind": "source_probe", "source": torch.full((9, 3, 32, 48), torch.nan)}, "finite: False"),
        ({"kind": "leak_ratio", "probes": 0}, "0 probes.*use 1 or more"),
        ({"kind": "fill_variance", "probes": 1}, "1 probes.*use 2 or more"),
    ],
)
def test_wrong_settings_are_refused(vae, clip, change, message):
    settings = {"kind": "area", "source": clip[0]} | change
    with pytest.raises(ValueError, match=message):
        build_measurement(vae, *clip, **settings)


def test_wrong_clips_are_refused(vae, clip):
    video, visible = clip
    spoilt = video.clone()
    spoilt[[3, 6], :, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"visible pixels of frames \[3, 6\] are not finite"):
        build_measurement(vae, spoilt, visible, kind="area")
    with pytest.raises(ValueError, match="visible must be bool"):
        build_measurement(vae, video, visible.float(), kind="area")
    with pytest.raises(ValueError, match="not 4n"):
        build_measurement(vae, video[:8], visible[:8], kind="area")


def test_a_coarse_vae_measures_but_is_not_probed(bases, clip, tmp_path):
    vae = load_base(tiny.write_tiny_base(tmp_path / "base"), vae_dtype=torch.bfloat16).vae
    for kind in set(get_args(EncoderMask)) - {"mask_encode"}:
        with pytest.raises(ValueError, match=r"vae_dtype=torch\.float32"):
            build_measurement(vae, *clip, kind=kind, source=clip[0])
    coarse = build_measurement(vae, *clip, kind="mask_encode", channel_mean=True).mask
    fine = build_measurement(vae.to(torch.float32), *clip, kind="mask_encode", channel_mean=True).mask
    torch.testing.assert_close(coarse, fine, atol=0.1, rtol=0)
    assert build_measurement(vae, *clip, kind="min_pool").latents.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": torch.ones(1, 2, 1, 2, 3)}, "one shape"),
        ({"mask": torch.full((1, 2, 1, 2, 2), 1.1)}, "0...1"),
        ({"mask": torch.full((1, 2, 1, 2, 2), torch.nan)}, "0...1"),
        ({"latents": torch.full((1, 2, 1, 2, 2), torch.nan)}, "not finite"),
        ({"variance": torch.full((1, 2, 1, 2, 2), -1.0)}, "negative"),
    ],
)
def test_measurements_that_make_no_sense_are_refused(change, message):
    ones = torch.ones(1, 2, 1, 2, 2)
    with pytest.raises(ValueError, match=message):
        LatentMeasurement(**({"latents": ones, "mask": ones} | change))
