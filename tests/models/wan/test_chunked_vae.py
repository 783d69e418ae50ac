"""The VAE by several latent frames at a time against the library's own path."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from recapture.models.wan.chunked_vae import chunk_vae, chunks, memory_chunk
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.vae import decode_latents, encode_video

PLAIN = {
    "base_dim": 4,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
RESIDUAL = {
    "base_dim": 4,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 8,
}
BACKEND = "aot_eager_decomp_partition"


def make(layout, dtype=torch.float64):
    torch.manual_seed(0)
    return AutoencoderKLWan(z_dim=16, **layout).eval().requires_grad_(False).to(dtype)


def clip(frames, dtype=torch.float64):
    random = torch.Generator().manual_seed(frames)
    return torch.rand(2, frames, 3, 32, 48, generator=random).to(dtype) * 2 - 1


@pytest.mark.parametrize("layout", [PLAIN, RESIDUAL], ids=["plain", "residual"])
@pytest.mark.parametrize("frames", [1, 5, 21, 33])
def test_chunks_equal_the_library_in_float64(layout, frames):
    video, stock, ours = clip(frames), make(layout), chunk_vae(make(layout))
    latents = encode_video(stock, video)
    torch.testing.assert_close(encode_video(ours, video), latents, rtol=0, atol=1e-6)
    # The library doubles sides in float32, whatever the model's precision
    torch.testing.assert_close(
        decode_latents(ours, latents), decode_latents(stock, latents), rtol=0, atol=3e-6
    )


@pytest.mark.parametrize("layout", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_compiled_chunks_equal_the_library(layout):
    compiler = Compiler("the VAE", BACKEND)
    video, stock, ours = clip(21), make(layout), chunk_vae(make(layout), compiler, worth=0)
    latents = encode_video(stock, video)
    torch.testing.assert_close(encode_video(ours, video), latents, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        decode_latents(ours, latents), decode_latents(stock, latents), rtol=0, atol=3e-6
    )
    assert not compiler.failed


@pytest.mark.parametrize("worth", [0, 40_000, 10**9])
def test_only_blocks_of_many_numbers_are_compiled(worth):
    compiled_for = set()  # numbers of a block's input

    def compiler(function):
        def compiled(block, x, memory):
            compiled_for.add(x.numel())
            return function(block, x, memory)

        return compiled

    plain = chunk_vae(make(PLAIN))
    ours = chunk_vae(make(PLAIN), compiler, worth=worth)
    assert torch.equal(encode_video(ours, clip(21)), encode_video(plain, clip(21)))
    largest = 2 * 4 * 20 * 32 * 48  # of the first blocks, for a chunk of 20 frames
    assert min(compiled_for, default=worth) >= worth
    assert (largest in compiled_for) == (worth <= largest)


@pytest.mark.parametrize("layout", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_chunks_in_bfloat16_are_no_further_from_float64_than_the_library(layout):
    video = clip(21)
    latents = encode_video(make(layout), video)
    exact = decode_latents(make(layout), latents)
    stock, ours = make(layout, torch.bfloat16), chunk_vae(make(layout, torch.bfloat16))

    def off(found, expected):
        return float((found - expected).norm() / expected.norm())

    assert off(encode_video(ours, video), latents) <= 1.1 * off(encode_video(stock, video), latents)
    assert off(decode_latents(ours, latents), exact) <= 1.1 * off(decode_latents(stock, latents), exact)


def test_tiles_and_gradients_take_the_librarys_path():
    vae = chunk_vae(make(PLAIN, torch.float32))
    latents = torch.randn(1, 16, 2, 4, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(vae.decode(latents).sample.sum(), latents)
    assert gradient.abs().sum() > 0
    sizes = {"tile_sample_min_height": 16, "tile_sample_min_width": 16}
    sizes |= {"tile_sample_stride_height": 8, "tile_sample_stride_width": 8}
    stock = make(PLAIN, torch.float32)
    for one in (vae, stock):
        one.enable_tiling(**sizes)
    with torch.no_grad():
        assert torch.allclose(vae.decode(latents).sample, stock.decode(latents).sample, atol=1e-5)


@pytest.mark.parametrize("most", range(1, 6))
@pytest.mark.parametrize("count", range(1, 60))
def test_chunks_are_one_frame_then_equal_ones_then_the_rest(count, most):
    first, *others = chunks(count, most)
    assert first == 1 and sum(others) == count - 1
    assert all(size <= most for size in others) and len(set(others[:-1])) <= 1
    if others:
        assert others[-1] <= others[0]


def test_the_usual_windows_leave_no_rest():
    for count in (21, 13, 9, 5, 3):  # 81, 49, 33, 17, 9 frames
        assert len(set(chunks(count)[1:])) == 1


def test_a_small_gpu_gets_small_chunks():
    frame = 15 * 4 * 96 * 480 * 832 * 2  # the VAE of Wan2.1 in bfloat16
    assert [memory_chunk(size * 10**9, frame) for size in (141, 80, 24, 16, 4)] == [5, 5, 2, 1, 1]


def test_chunks_of_any_size_make_the_same_video(monkeypatch):
    video, stock = clip(21), make(PLAIN)
    latents = encode_video(stock, video)
    decoded = decode_latents(stock, latents)
    for most in (1, 2, 3):
        monkeypatch.setattr("recapture.models.wan.chunked_vae.CHUNK", most)
        ours = chunk_vae(make(PLAIN))
        torch.testing.assert_close(encode_video(ours, video), latents, rtol=0, atol=1e-6)
        torch.testing.assert_close(decode_latents(ours, latents), decoded, rtol=0, atol=3e-6)
