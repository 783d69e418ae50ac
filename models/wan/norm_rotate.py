"""Norm and rotary embedding of queries and keys in one kernel: read once, written once.

The compiler makes two passes over the row for the norm and reads neighbours apart for the rotation, which
takes four times as long as the bytes do. Without a GPU or with gradients, `normed_and_rotated` is computed by
torch's own operations, which are also what the kernel is compared with.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

log = logging.getLogger(__name__)
WARPS = 4
TOLERANCE = 0.01  # relative to float64, for bfloat16, whose own rounding is 0.002


@cache
def kernel_works() -> bool:
    """Return whether this machine's GPU computes the kernel rightly; says so once where it does not."""
    if not torch.cuda.is_available():
        return False
    random = torch.Generator().manual_seed(0)
    source, weight = (torch.randn(*shape, generator=random) for shape in ((1, 5, 384), (384,)))
    cos, sin = torch.randn(2, 1, 5, 1, 128, generator=random)
    expected = normed_and_rotated(source.double(), weight.double(), 1e-6, cos.double(), sin.double())
    try:
        given = [part.cuda() for part in (source.bfloat16(), weight.bfloat16(), cos, sin)]
        found = norm_rotate(given[0], given[1], 1e-6, *given[2:]).cpu().double()
    except Exception as error:  # of any kind: Triton's, the compiler's that it starts, the driver's
        log.warning(
            "speed: the kernel of norm and rotation cannot be built here (%s); torch's is used", error
        )
        return False
    wrong = float((found - expected).norm() / expected.norm())
    if not wrong < TOLERANCE:
        log.warning("speed: the kernel of norm and rotation is wrong by %.2g here; torch's is used", wrong)
    return wrong < TOLERANCE


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads [B, S, N, D] under the rotary embedding of neighbouring pairs; cos, sin [1, S, 1, D]."""
    first, second = heads.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2).type_as(heads)


def normed_and_rotated(
    source: Tensor,  # [B, S, C], last dimension dense
    weight: Tensor,  # [C] of the RMS norm over all heads
    eps: float,
    cos: Tensor,  # [1, S, 1, D]
    sin: Tensor,  # [1, S, 1, D]
) -> Tensor:
    """Return rotary embedding of rms_norm(source), [B, S, C / D, D] in the dtype of `source`."""
    normed = rms_norm(source, source.shape[-1:], weight, eps)
    return rotated(normed.unflatten(2, (-1, cos.shape[-1])), cos, sin)


@torch.library.custom_op("recapture::norm_rotate", mutates_args=())
def norm_rotate(source: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Return what `normed_and_rotated` does, without a gradient."""
    if not source.is_cuda:
        return normed_and_rotated(source, weight, eps, cos, sin).clone()
    batch, tokens, width = source.shape
    size = cos.shape[-1]
    made = source.new_empty(batch, tokens, width // size, size)
    _kernel()[(tokens, batch)](
        *(source, weight, cos.reshape(tokens, size), sin.reshape(tokens, size), made, eps),
        *(source.stride(0), source.stride(1), tokens * width),
        WIDTH=width,
        SIZE=size,
        BLOCK=1 << (width - 1).bit_length(),
        num_warps=WARPS,
    )
    return made


@norm_rotate.register_fake
def _(source: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    batch, tokens, width = source.shape
    return source.new_empty(batch, tokens, width // cos.shape[-1], cos.shape[-1])


@cache
def _kernel() -> Any:
    """Return the kernel: one program per token; Triton is there only where torch can use a GPU."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def kernel(  # type: ignore[no-untyped-def]
        source, weight, cos, sin, made, eps, batch_stride, token_stride, made_stride,
        WIDTH: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(0)
        batch = tl.program_id(1).to(tl.int64)
        column = tl.arange(0, BLOCK)
        inside = column < WIDTH
        at = source + batch * batch_stride + token.to(tl.int64) * token_stride
        row = tl.load(at + column, mask=inside, other=0.0).to(tl.float32)
        gain = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(row * row, axis=0) / WIDTH + eps)
        first, second = tl.split(tl.reshape(row * scale * gain, (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        angle = token * SIZE + (2 * pair) % SIZE
        within = pair < WIDTH // 2
        c = tl.load(cos + angle, mask=within, other=0.0).to(tl.float32)
        s = tl.load(sin + angle + 1, mask=within, other=0.0).to(tl.float32)
        turned = tl.join(first * c - second * s, first * s + second * c)
        out = made + batch * made_stride + token.to(tl.int64) * WIDTH
        tl.store(out + column, tl.reshape(turned, (BLOCK,)).to(made.dtype.element_ty), mask=inside)

    return kernel
