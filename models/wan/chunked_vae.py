"""AutoencoderKLWan by several latent frames at a time, its blocks compiled: what the library computes.

diffusers encodes and decodes one latent frame at a time, and keeps what convolutions must remember of the
frames before in lists on the model. Here the first latent frame goes alone and then `CHUNK` at a time; what a
convolution remembers, its last input frames, is handed to it and back, so that a block is a plain function
of tensors that can be compiled. Padding in space is the convolution's own, and frames stay channels-last,
which is what the convolutions of a GPU read.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as library
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

from recapture.conf.heartbeat import beating
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.vae_blocks import (
    Memory,
    convolve,
    downsample,
    head,
    larger,
    residual,
    smaller,
    upsample,
    zeros,
)

CHUNK = 5  # latent frames at a time, at most
TENSORS = 15  # of a chunk's frames, at full size and of the first width, at the peak; measured
SHARE = 0.5  # of a GPU's memory that a chunk may take
WORTH = 100_000_000  # numbers of a block's input from which on compiling it is worth its seconds


def chunk_vae(
    vae: AutoencoderKLWan, compiler: Compiler | None = None, *, worth: int = WORTH
) -> AutoencoderKLWan:
    """Make `vae.encode` and `vae.decode` work in chunks, large blocks compiled where there is a compiler.

    worth: see WORTH. At 480p these are the blocks of the outer levels, which hold most of the numbers: every
    kind of block takes seconds to compile, 41 for all of them (benchmarks/base_speed.md).
    With tiling switched on, and where gradients are wanted, the library's own path is taken.
    """
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            wide = module.weight.dim() == 5
            layout = torch.channels_last_3d if wide else torch.channels_last
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    blocks = _Blocks(compiler, worth)

    def encode(model: AutoencoderKLWan, video: Tensor) -> Tensor:
        if _library_is_needed(model, video, 1):
            return AutoencoderKLWan._encode(model, video)
        return _encode(model, video, blocks)

    def decode(model: AutoencoderKLWan, latents: Tensor, return_dict: bool = True) -> Any:
        if _library_is_needed(model, latents, model.spatial_compression_ratio):
            return AutoencoderKLWan._decode(model, latents, return_dict=return_dict)
        video = _decode(model, latents, blocks)
        return DecoderOutput(sample=video) if return_dict else (video,)

    vae._encode, vae._decode = MethodType(encode, vae), MethodType(decode, vae)
    return vae


class Carried:
    """What the blocks of a model remember, in the order in which they are called."""

    def __init__(self) -> None:
        self._memories: list[Memory] = []
        self._place = 0

    def rewind(self) -> None:
        """Begin with the first block again."""
        self._place = 0

    @property
    def first(self) -> bool:
        """Return whether the next block has seen no frames yet."""
        return self._place == len(self._memories)

    def take(self) -> Memory:
        """Return what the next block remembers."""
        return self._memories[self._place]

    def put(self, memory: Memory) -> None:
        """Remember this for that block, and go on to the one after it."""
        self._memories[self._place : self._place + 1] = [memory]
        self._place += 1


class _Blocks:
    """The blocks' functions: compiled for whole chunks of many numbers, plain for the rest."""

    def __init__(self, compiler: Compiler | None, worth: int) -> None:
        self._worth = worth
        self._plain = {one.__name__: one for one in (residual, head, upsample, downsample)}
        make = compiler or (lambda function: function)
        self._compiled = {name: make(function) for name, function in self._plain.items()}
        self.whole_chunk = False

    def __call__(self, name: str, block: Any, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        compiles = self.whole_chunk and x.numel() >= self._worth
        made: tuple[Tensor, Memory] = (self._compiled if compiles else self._plain)[name](block, x, memory)
        return made


def chunks(count: int, most: int = CHUNK) -> list[int]:
    """Return the latent frames of each pass for a clip of `count`: one, then equal chunks, then the rest.

    Equal chunks are compiled once; a size that leaves no rest is preferred.
    """
    rest = count - 1
    sizes = [size for size in range(most, most // 2, -1) if rest % size == 0] or [most]
    size = sizes[0]
    return [1] * min(count, 1) + [size] * (rest // size) + ([rest % size] if rest % size else [])


@torch.no_grad()
def _encode(vae: AutoencoderKLWan, video: Tensor, blocks: _Blocks) -> Tensor:
    """Return the moments [B, 2z, t, h, w] of videos [B, 3, T, H, W]."""
    if vae.config.patch_size is not None:
        video = library.patchify(video, patch_size=vae.config.patch_size)
    carried, found, start = Carried(), [], 0
    sizes = chunks((video.shape[2] - 1) // 4 + 1, _most(vae, video, 1))
    for place, size in enumerate(beating(sizes)):
        frames = 1 if place == 0 else 4 * size
        blocks.whole_chunk = place > 0 and size == sizes[1]
        carried.rewind()
        chunk = _channels_last(video[:, :, start : start + frames])
        found.append(_encoder(vae.encoder, chunk, carried, blocks))
        start += frames
    moments: Tensor = vae.quant_conv(torch.cat(found, 2))
    return moments


@torch.no_grad()
def _decode(vae: AutoencoderKLWan, latents: Tensor, blocks: _Blocks) -> Tensor:
    """Return videos [B, 3, T, H, W] in [-1, 1] of raw latents."""
    carried, found, start = Carried(), [], 0
    latents = vae.post_quant_conv(latents)
    sizes = chunks(latents.shape[2], _most(vae, latents, vae.spatial_compression_ratio))
    for place, size in enumerate(beating(sizes)):
        blocks.whole_chunk = place > 0 and size == sizes[1]
        carried.rewind()
        chunk = _channels_last(latents[:, :, start : start + size])
        found.append(_decoder(vae.decoder, chunk, carried, blocks, place == 0).contiguous())
        start += size
    video = torch.cat(found, 2)
    if vae.config.patch_size is not None:
        video = library.unpatchify(video, patch_size=vae.config.patch_size)
    return video.clamp_(-1.0, 1.0)


def _most(vae: AutoencoderKLWan, given: Tensor, scale: int) -> int:
    """Return how many latent frames a chunk may have: by the size of the GPU, not by what is free on it.

    So the same machine makes the same bytes, whatever else runs on it.
    """
    if not given.is_cuda:
        return CHUNK
    width = max(vae.config.base_dim, vae.config.decoder_base_dim or 0)
    pixels = given.shape[0] * given.shape[-2] * given.shape[-1] * scale**2
    if vae.config.patch_size is not None and scale > 1:
        pixels //= vae.config.patch_size**2
    frame = TENSORS * 4 * width * pixels * given.element_size()
    return memory_chunk(torch.cuda.get_device_properties(given.device).total_memory, frame)


def memory_chunk(memory: int, frame: int) -> int:
    """Return the latent frames of a chunk where each takes `frame` of a GPU's bytes."""
    return max(1, min(CHUNK, int(SHARE * memory / frame)))


def _library_is_needed(vae: AutoencoderKLWan, given: Tensor, scale: int) -> bool:
    if getattr(vae, "frame_by_frame", False):  # for want of memory: see `memory`
        return True
    if vae.use_tiling:
        height, width = (side * scale for side in given.shape[-2:])
        return bool(height > vae.tile_sample_min_height or width > vae.tile_sample_min_width)
    return given.requires_grad


def _encoder(encoder: Any, x: Tensor, carried: Carried, blocks: _Blocks) -> Tensor:
    x = _input(encoder.conv_in, x, carried)
    for layer in encoder.down_blocks:
        if isinstance(layer, library.WanResidualDownBlock):
            shortcut = layer.avg_shortcut(x)
            for resnet in layer.resnets:
                x = _layer(resnet, x, carried, blocks)
            if layer.downsampler is not None:
                x = _layer(layer.downsampler, x, carried, blocks)
            x = x + shortcut
        else:
            x = _layer(layer, x, carried, blocks)
    x = _middle(encoder.mid_block, x, carried, blocks)
    return _head(encoder, x, carried, blocks)


def _decoder(decoder: Any, x: Tensor, carried: Carried, blocks: _Blocks, first: bool) -> Tensor:
    x = _input(decoder.conv_in, x, carried)
    x = _middle(decoder.mid_block, x, carried, blocks)
    for block in decoder.up_blocks:
        residual_kind = isinstance(block, library.WanResidualUpBlock)
        whole = x
        for resnet in block.resnets:
            x = _layer(resnet, x, carried, blocks)
        upsamplers = [block.upsampler] if residual_kind else (block.upsamplers or [])
        for upsampler in filter(None, upsamplers):
            x = _layer(upsampler, x, carried, blocks)
        if residual_kind and block.avg_shortcut is not None:
            x = x + block.avg_shortcut(whole, first_chunk=first)
    return _head(decoder, x, carried, blocks)


def _middle(middle: Any, x: Tensor, carried: Carried, blocks: _Blocks) -> Tensor:
    x = _layer(middle.resnets[0], x, carried, blocks)
    for attention, resnet in zip(middle.attentions, middle.resnets[1:]):
        x = _layer(resnet, attention(x), carried, blocks)
    return x


def _layer(layer: Any, x: Tensor, carried: Carried, blocks: _Blocks) -> Tensor:
    """Return a block's output, and remember what its convolutions saw."""
    if isinstance(layer, library.WanResidualBlock):
        widths = layer.conv1.in_channels, layer.conv2.in_channels
        before = tuple(zeros(x, width) for width in widths) if carried.first else carried.take()
        return _put(carried, blocks("residual", layer, x, before))
    if not isinstance(layer, library.WanResample):
        return layer(x)  # attention within frames
    if layer.mode.startswith("upsample"):
        if carried.first:  # the first frame stays one frame, and the others do not see it
            return _put(carried, (larger(layer, x), (zeros(x, x.shape[1]),)))
        return _put(carried, blocks("upsample", layer, x, carried.take()))
    if carried.first:
        x = smaller(layer, x)
        return _put(carried, (x, (x,)))
    return _put(carried, blocks("downsample", layer, x, carried.take()))


def _input(conv: Any, x: Tensor, carried: Carried) -> Tensor:
    """Return the first convolution of an encoder or decoder."""
    seen = torch.cat([zeros(x, x.shape[1]) if carried.first else carried.take()[0], x], 2)
    return _put(carried, (convolve(conv, seen), (seen[:, :, -2:],)))


def _head(part: Any, x: Tensor, carried: Carried, blocks: _Blocks) -> Tensor:
    """Return the last norm and convolution of an encoder or decoder."""
    before = (zeros(x, x.shape[1]),) if carried.first else carried.take()
    return _put(carried, blocks("head", part, x, before))


def _put(carried: Carried, made: tuple[Tensor, Memory]) -> Tensor:
    output, memory = made
    carried.put(memory)
    return output


def _channels_last(video: Tensor) -> Tensor:
    return video.contiguous(memory_format=torch.channels_last_3d)
