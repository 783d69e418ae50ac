"""The whole-clip path of the VAE against the library's own chunked one."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from recapture.models.wan.parallel_vae import decode_latents, encode_moments, make_parallel

PLAIN = {
    "base_dim": 8,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
RESIDUAL = {
    "base_dim": 8,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 8,
}


@pytest.mark.parametrize("layout", [PLAIN, RESIDUAL], ids=["plain", "residual"])
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_all_frames_at_once_equal_the_chunked_path(layout, frames):
    torch.manual_seed(0)
    vae = AutoencoderKLWan(z_dim=16, **layout).eval()
    video = torch.rand(2, 3, frames, 32, 48) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(video).latent_dist
        decoded = vae.decode(posterior.mean).sample
        make_parallel(vae)
        mean, log_variance = encode_moments(vae, video)
        parallel = decode_latents(vae, mean)
        again = vae.encode(video).latent_dist.mean
    assert torch.allclose(mean, posterior.mean, atol=1e-5)
    assert torch.allclose(log_variance.clamp(-30, 20), posterior.logvar, atol=1e-5)
    assert torch.allclose(parallel.clamp(-1, 1), decoded, atol=1e-5)
    assert torch.equal(again, posterior.mean), "the chunked path must stay as it was"


def test_frames_that_are_not_4n_plus_1_are_refused():
    vae = make_parallel(AutoencoderKLWan(z_dim=16, **PLAIN))
    with pytest.raises(ValueError, match="6 frames are not 4n"):
        encode_moments(vae, torch.zeros(1, 3, 6, 32, 32))
