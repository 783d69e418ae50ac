"""What a solver holds sampling to: the latents of a warped clip, and how far each is to be trusted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from recapture.models.fill.inpaint import inpaint
from recapture.models.fill.pull_push import pull_push
from recapture.models.inverse import latent_masks
from recapture.models.wan.vae import check_size, encode_video

PixelMask = Literal["trilinear", "binary", "nearest_and", "min_pool", "area"]
EncoderMask = Literal["two_fill", "source_probe", "mask_encode", "leak_ratio", "fill_variance"]
MaskKind = Literal[PixelMask, EncoderMask]
Fill = Literal["pull_push", "telea", "grey", "black", "mean"]


@dataclass(frozen=True)
class LatentMeasurement:
    """Normalised latents of the known pixels with a weight for each: A = diag(mask) in latent space."""

    latents: Tensor  # [1, z, T', h, w] float32, normalised as those that are sampled
    mask: Tensor  # [1, z, T', h, w] float32 in 0...1, 1 = keep
    variance: Tensor | None = None  # [1, z, T', h, w] of the latents' error, inf = unknown; Wiener needs it
    encodes: int = 0  # encodings of a whole clip that it took

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.latents, self.mask, self.variance) if t is not None}
        if len(shapes) > 1 or self.latents.ndim != 5:
            raise ValueError(
                f"inverse: latents, mask and variance need one shape [1, z, T', h, w], not {shapes}"
            )
        if not self.latents.isfinite().all():
            raise ValueError(
                "inverse: the measured latents are not finite; look at the VAE and the warped clip"
            )
        if not ((self.mask >= 0) & (self.mask <= 1)).all():
            raise ValueError("inverse: the weights of a latent mask must be within 0...1")
        if self.variance is not None and not (self.variance >= 0).all():
            raise ValueError("inverse: the variance of the measured latents is negative or NaN")

    def check(self, latents: Tensor) -> None:
        """Raise ValueError unless the latents [B, z, T', h, w] are of the measurement's shape."""
        if latents.shape[1:] != self.latents.shape[1:]:
            raise ValueError(
                f"inverse: the measurement is {list(self.latents.shape)}, the latents {list(latents.shape)};"
                " build it from the very window that is sampled"
            )

    def floored(self, floor: float) -> "LatentMeasurement":
        """Return the measurement with weights below `floor` set to 0 (and their variance to inf)."""
        known = self.mask >= floor
        variance = None if self.variance is None else torch.where(known, self.variance, float("inf"))
        return replace(self, mask=torch.where(known, self.mask, 0.0), variance=variance)


@torch.no_grad()
def build_measurement(
    vae: Any,
    video: Tensor,
    visible: Tensor,
    *,
    kind: MaskKind,
    source: Tensor | None = None,
    fill: Fill = "pull_push",
    channel_mean: bool,
    seed: int = 0,
    probes: int = 4,
    tau: float = 0.5,
) -> LatentMeasurement:
    """Measure a warped clip: its latents, holes filled, under a mask of `latent_masks`.

    video: [T, 3, H, W] in [-1, 1], T = 4n+1, anything in holes; visible: [T, H, W] bool. source: a complete
    clip of the same shape, for 'source_probe'. fill: what holes show while encoding: a smooth continuation,
    OpenCV's Telea (seconds per frame beyond small ones), a colour, or a frame's mean known colour; grey where
    nothing of a frame is known. channel_mean: each weight replaced by its mean over channels. seed: of the
    probes of 'leak_ratio' and the fills of 'fill_variance'; probes: how many of them. tau: the standard
    deviation, of normalised latents, at which 'fill_variance' gives 1/e.

    It has one keyword per choice, hence their number. The VAE's tiling is off meanwhile: tiles would cut off
    what leaks. Raises ValueError for NaN in known
    pixels, for a wrong size or dtype, and, for masks that compare encodings of the clip, for a VAE that is
    not float32.
    """
    _check(vae, video, visible, kind, source, probes)
    video, visible = video.to(vae.device, torch.float32), visible.to(vae.device)
    filled = fill_holes(video, visible, fill)
    encode, variance = _Encoder(vae), None
    with whole_frames(vae):
        if kind in ("leak_ratio", "fill_variance"):
            generator = torch.Generator().manual_seed(seed)
            weights, latents, variance = _probed(
                vae, encode, filled, visible, kind, generator, probes=probes, tau=tau
            )
        else:
            latents = encode(filled)
            weights = _weights(vae, encode, video, visible, kind, source)
    if channel_mean and weights.ndim == 4:
        weights = weights.mean(0)
        variance = None if variance is None else variance.mean(0).expand_as(latents)
    return LatentMeasurement(
        latents[None],
        weights.expand_as(latents)[None],
        None if variance is None else variance[None],
        encode.calls,
    )


def _probed(
    vae: Any,
    encode: "_Encoder",
    filled: Tensor,
    visible: Tensor,
    kind: MaskKind,
    generator: torch.Generator,
    *,
    probes: int,
    tau: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return weights, latents, and the variance that 'fill_variance' measures."""
    if kind == "leak_ratio":
        sizes = _sizes(vae)
        weights, latents = latent_masks.leak_ratio(encode, filled, visible, generator, probes=probes, **sizes)
        return weights, latents, None
    variance, latents = latent_masks.fill_variance(encode, filled, visible, generator, fills=probes)
    return latent_masks.certainty(variance, tau), latents, variance


def _weights(
    vae: Any, encode: "_Encoder", video: Tensor, visible: Tensor, kind: MaskKind, source: Tensor | None
) -> Tensor:
    """Return the weights of a mask that draws nothing."""
    if kind == "two_fill":
        return latent_masks.two_fill(encode, video, visible)
    if kind == "source_probe":
        assert source is not None
        return latent_masks.source_probe(encode, source.to(video), visible)
    if kind == "mask_encode":
        ends = _black_and_white(vae, encode, video)
        return latent_masks.mask_encode(encode, visible, **_sizes(vae), ends=ends)
    rules: dict[str, Callable[..., Tensor]] = {
        "trilinear": latent_masks.trilinear,
        "binary": latent_masks.binary,
        "nearest_and": latent_masks.nearest_and,
        "min_pool": latent_masks.min_pool,
        "area": latent_masks.area,
    }
    return rules[kind](visible, **_sizes(vae))


def _sizes(vae: Any) -> dict[str, int]:
    """Return how many frames and pixels one latent stands for."""
    return {"time": vae.config.scale_factor_temporal, "space": vae.config.scale_factor_spatial}


def fill_holes(video: Tensor, visible: Tensor, fill: Fill) -> Tensor:
    """Fill the holes of a video [T, 3, H, W], visible [T, H, W] False, frame by frame."""
    if fill not in get_args(Fill):
        raise ValueError(f"inverse: no fill {fill!r}; use one of {', '.join(get_args(Fill))}")
    seen = visible[:, None]
    clean = torch.where(seen, video, 0.0)
    if fill == "grey":
        return clean
    if fill == "black":
        return torch.where(seen, clean, -1.0)
    if fill == "pull_push":
        return pull_push(video, visible)
    if fill == "mean":
        mean = clean.sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp_min(1)
        return torch.where(seen, clean, mean)
    # without depths Telea takes every side of a hole for background
    return inpaint(clean, visible, torch.zeros_like(clean[:, 0]), 3.0, clean.new_zeros(3))


@contextmanager
def whole_frames(vae: Any) -> Iterator[None]:
    """Turn the VAE's tiling off within the context."""
    before = vae.use_tiling
    vae.use_tiling = False
    try:
        yield
    finally:
        vae.use_tiling = before


class _Encoder:
    """`encode_video` that counts."""

    def __init__(self, vae: Any) -> None:
        self.vae, self.calls = vae, 0

    def __call__(self, video: Tensor) -> Tensor:
        self.calls += 1
        return encode_video(self.vae, video)


# The last size's encodings of black and white by each VAE: every clip of a job asks for the same
_ENDS: WeakKeyDictionary[Any, tuple[tuple[Any, ...], tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def _black_and_white(vae: Any, encode: _Encoder, video: Tensor) -> tuple[Tensor, Tensor]:
    size = (*video.shape, vae.dtype, vae.device)
    known = _ENDS.get(vae)
    if known is None or known[0] != size:
        known = _ENDS[vae] = (size, latent_masks.black_and_white(encode, video))
    return known[1]


def _check(vae: Any, video: Tensor, visible: Tensor, kind: str, source: Tensor | None, probes: int) -> None:
    if kind not in get_args(MaskKind):
        raise ValueError(f"inverse: no latent mask {kind!r}; use one of {', '.join(get_args(MaskKind))}")
    check_size(vae, video)
    if visible.shape != (len(video), *video.shape[2:]) or visible.dtype != torch.bool:
        raise ValueError(
            f"inverse: visible is {visible.dtype} {list(visible.shape)}, the video {list(video.shape)};"
            " visible must be bool [T, H, W]"
        )
    spoilt = (~video.isfinite().all(1) & visible).flatten(1).any(1)
    if spoilt.any():
        frames = spoilt.nonzero().flatten().tolist()
        raise ValueError(f"inverse: visible pixels of frames {frames} are not finite; render the clip again")
    if kind in get_args(EncoderMask) and kind != "mask_encode" and vae.dtype != torch.float32:
        raise ValueError(
            f"inverse: mask {kind!r} compares encodings of the clip, for which {vae.dtype} is too coarse;"
            " load the base with vae_dtype=torch.float32, or use 'mask_encode', 'min_pool' or 'area'"
        )
    if kind == "source_probe":
        if source is None:
            raise ValueError(
                "inverse: mask 'source_probe' needs the source clip; give `source`, or use 'two_fill'"
            )
        if source.shape != video.shape or not source.isfinite().all():
            raise ValueError(
                f"inverse: the source is {list(source.shape)}, finite: {bool(source.isfinite().all())};"
                f" a probe must be finite and of the window's shape {list(video.shape)}"
            )
    if kind in ("leak_ratio", "fill_variance") and probes < (least := 1 if kind == "leak_ratio" else 2):
        raise ValueError(f"inverse: {probes} probes for mask {kind!r}; use {least} or more")
