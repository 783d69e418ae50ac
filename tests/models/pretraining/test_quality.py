"""Scores and statistics against closed forms; stages and buckets that shrink."""

import math
from types import SimpleNamespace

import pytest
import torch

from recapture.models.pretraining.depth import depth_quality
from recapture.models.pretraining.inpainter import BUCKETS, latent_statistics, shrink_buckets
from recapture.models.pretraining.vae import (
    REFINING,
    STAGES,
    build_vae,
    reconstruction_quality,
    shrink_stages,
)
from recapture.models.wan.parallel_vae import encode_moments


def test_psnr_of_a_constant_error():
    video = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    quality = reconstruction_quality(video + torch.tensor([0.1, 0.5]).view(2, 1, 1, 1, 1), video)
    assert quality["psnr"].tolist() == pytest.approx(
        [10 * math.log10(4 / e**2) for e in (0.1, 0.5)], rel=1e-4
    )
    assert quality["chroma_r2"].tolist() == pytest.approx([1, 1], abs=1e-5)  # grey errors are no chroma


def test_chroma_is_lost_by_grey_and_by_the_mean_colour():
    video = torch.rand(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5
    mean = video.mean((2, 3, 4), keepdim=True)
    assert float(reconstruction_quality(mean.expand_as(video), video)["chroma_r2"]) == pytest.approx(
        0, abs=1e-5
    )
    half = mean + (video - mean) / 2
    assert float(reconstruction_quality(half, video)["chroma_r2"]) == pytest.approx(0.75, abs=1e-5)


def test_depth_is_judged_after_one_scale_a_clip():
    depth = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(2)) + 1

    def saying(guess):
        return lambda pixels: SimpleNamespace(predicted_depth=guess)

    video = torch.zeros(4, 3, 6, 6)
    assert depth_quality(saying(3 * depth), video, depth) == pytest.approx(
        {"abs_rel": 0, "flicker": 0}, abs=1e-5
    )
    pulse = torch.tensor([1.0, 1.2, 1.2, 1.2]).view(4, 1, 1)
    quality = depth_quality(saying(depth * pulse), video, depth)
    assert quality["flicker"] == pytest.approx(math.log(1.2) / 3, rel=1e-4)
    assert quality["abs_rel"] == pytest.approx(
        (1 - 1 / 1.2) / 4, rel=1e-4
    )  # the median frame is scaled right
    unknown = depth.clone()
    unknown[:, 0] = math.inf
    assert depth_quality(saying(2 * depth), video, unknown)["abs_rel"] == pytest.approx(0, abs=1e-5)


def test_statistics_are_those_of_all_latents_together():
    vae = build_vae(0, "cpu", base_dim=4).eval()
    videos = [torch.rand(n, 3, 5, 32, 32, generator=torch.Generator().manual_seed(n)) for n in (2, 26)]
    mean, deviation = latent_statistics(vae, videos)
    with torch.no_grad():
        latents = torch.cat([encode_moments(vae, video)[0] for video in videos])
    torch.testing.assert_close(mean, latents.mean((0, 2, 3, 4)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(deviation, latents.std((0, 2, 3, 4)), atol=1e-5, rtol=1e-4)


def test_at_full_scale_nothing_shrinks_and_below_sizes_stay_usable():
    assert shrink_stages(STAGES, 1.0) == STAGES and shrink_stages(REFINING, 1.0) == REFINING
    assert shrink_buckets(BUCKETS, 1.0) == BUCKETS
    for scale in (0.01, 0.3, 0.7):
        for small, large in zip(shrink_stages(STAGES, scale), STAGES):
            assert (small.frames, small.share) == (large.frames, large.share)
            assert small.side % 32 == 0 and 32 <= small.side <= large.side and 2 <= small.batch <= large.batch
        for bucket, large in zip(shrink_buckets(BUCKETS, scale), BUCKETS):
            assert (bucket.frames, bucket.share) == (large.frames, large.share)
            for side, most in ((bucket.height, large.height), (bucket.width, large.width)):
                assert side % 16 == 0 and 32 <= side <= most
