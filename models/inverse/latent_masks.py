"""How well a latent is known, from which pixels are: weights m [z, T', h, w] in 0...1, 1 = keep.

The masks of pixels alone are one channel, given to all; they know nothing of how far the encoder looks. The
masks of the encoder compare encodings that differ in holes only, so they see its leakage into known latents
channel by channel. InverseCrafter (arXiv 2512.05672) states that its mask is continuous and has one value a
channel; how it is made has not been read, so none of these is claimed to be it.

Every mask is exactly 1 where all is known and exactly 0 as long as nothing is, and follows the VAE's
causality: what is visible at frame f changes no latent before that of f. So no mask is scaled by a statistic
of its own clip's holes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from recapture.models.wan.conditioning import latent_visible

Encode = Callable[[Tensor], Tensor]  # video [T, 3, H, W] -> normalised latents [z, T', h, w] float32

UNCERTAIN = 0.1  # of a normalised latent: a channel that tells white from black by less is not asked


def trilinear(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Interpolate visible [T, H, W] to [T', h, w] float32, frame 0 alone (VideoX-Fun, `resize_mask`)."""
    frames, height, width = visible.shape
    size = (height // space, width // space)
    parts = [(visible[:1], 1)]
    if frames > 1:
        parts.append((visible[1:], (frames - 1) // time))
    return torch.cat(
        [
            interpolate(part[None, None].float(), (count, *size), mode="trilinear")[0, 0]
            for part, count in parts
        ]
    )


def binary(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Return `trilinear` [T', h, w], rounded."""
    return (trilinear(visible, time, space) > 0.5).float()


def nearest_and(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Return [T', h, w]: a pixel per `space` x `space`, and-ed over a latent's frames (Reangle-A-Video)."""
    size = (visible.shape[1] // space, visible.shape[2] // space)
    small = interpolate(visible[:, None].float(), size, mode="nearest")[:, 0]
    return torch.cat([small[:1], small[1:].unflatten(0, (-1, time)).amin(1)]) if len(small) > 1 else small


def min_pool(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Return [T', h, w]: 1 where every pixel in every frame of a latent is visible."""
    return latent_visible(visible, time, space).float()


def area(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Return [T', h, w]: the share of a latent's pixels that is visible."""
    shares = avg_pool2d(visible[:, None].float(), space)[:, 0]
    return torch.cat([shares[:1], shares[1:].unflatten(0, (-1, time)).mean(1)]) if len(shares) > 1 else shares


def two_fill(encode: Encode, video: Tensor, visible: Tensor) -> Tensor:
    """Return how little latents change when holes turn from black to white: [z, T', h, w]; 4 encodings.

    m = 1 - d / Q, where d is the change (root mean square over 3x3 latents, since single values may tie by
    accident) and Q its mean over the channel when the whole clip turns from black to white.
    """
    black, white = video.new_tensor(-1.0), video.new_tensor(1.0)
    seen = visible[:, None]
    changed = _deviation(encode(torch.where(seen, video, black)), encode(torch.where(seen, video, white)))
    whole = _deviation(encode(black.expand_as(video)), encode(white.expand_as(video)))
    return _keep(changed, whole) * _reached(visible, changed)


def source_probe(encode: Encode, source: Tensor, visible: Tensor) -> Tensor:
    """Return how little a clip [T, 3, H, W] changes with its holes grey: [z, T', h, w]; 3 encodings.

    As `two_fill`, with Q from making all of the source grey.
    """
    whole = encode(source)
    grey = torch.zeros_like(source)
    changed = _deviation(whole, encode(torch.where(visible[:, None], source, grey)))
    return _keep(changed, _deviation(whole, encode(grey))) * _reached(visible, changed)


def mask_encode(
    encode: Encode,
    visible: Tensor,
    time: int = 4,
    space: int = 8,
    *,
    ends: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return where `visible`, encoded as a picture, lies between black and white: [z, T', h, w].

    m = (z_M - z_0) / (z_1 - z_0), cut to 0...1; `area` where black and white differ by less than `UNCERTAIN`.
    ends: `black_and_white` of a clip of this size, which need not be encoded for each mask. 1 encoding, and
    without `ends` 2 more; none of them is of the clip.
    """
    picture = (visible.float() * 2 - 1)[:, None].expand(-1, 3, -1, -1)
    nothing, everything = black_and_white(encode, picture) if ends is None else ends
    between = encode(picture)
    spread = everything - nothing
    sure = spread.abs() >= UNCERTAIN
    ratio = (between - nothing) / torch.where(sure, spread, 1.0)
    return torch.where(sure, ratio, area(visible, time, space)).clamp(0, 1)


def black_and_white(encode: Encode, video: Tensor) -> tuple[Tensor, Tensor]:
    """Encode an all black and an all white clip of the size of video [T, 3, H, W]."""
    white = torch.ones_like(video)
    return encode(-white), encode(white)


def leak_ratio(
    encode: Encode,
    filled: Tensor,
    visible: Tensor,
    generator: torch.Generator,
    *,
    probes: int = 4,
    strength: float = 0.15,
    time: int = 4,
    space: int = 8,
) -> tuple[Tensor, Tensor]:
    """Return the share of latents' sensitivity that is to known pixels, and the latents of `filled`.

    Both [z, T', h, w]. m = 1 - N / D: N and D are the energies (mean over 3x3 latents, sum over `probes`) of
    the latents' change when white noise of deviation `strength` is added to the holes, and to everything. For
    small noise this is the share of the encoder's squared Jacobian. 1 + 2 `probes` encodings; filled: [T, 3,
    H, W], no hole in it.
    """
    latents = encode(filled)
    hole = (~visible)[:, None].float()
    leaked, total = torch.zeros_like(latents), torch.zeros_like(latents)
    for _ in range(probes):
        noise = torch.randn(filled.shape, generator=generator, device=generator.device).to(filled)
        leaked += (encode(filled + strength * (hole * noise)) - latents) ** 2
        total += (encode(filled + strength * noise) - latents) ** 2
    leaked, total = _pool(leaked), _pool(total)
    # a latent that no noise moves tells nothing
    kept = torch.where(total > 0, 1 - leaked / total, area(visible, time, space))
    return kept.clamp(0, 1), latents


def fill_variance(
    encode: Encode,
    filled: Tensor,
    visible: Tensor,
    generator: torch.Generator,
    *,
    fills: int = 4,
    spread: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Return the variance over `fills` fills of the holes, and their mean latents: both [z, T', h, w].

    The first is `filled` [T, 3, H, W]; to each other one a smooth, still colour field of standard deviation
    `spread` is added in holes. The variance is inf as long as nothing at all is known.
    """
    first = encode(filled)
    height, width = filled.shape[-2:]
    sum_, squares = torch.zeros_like(first), torch.zeros_like(first)
    for _ in range(fills - 1):
        coarse = torch.randn(
            1, 3, -(-height // 16) + 1, -(-width // 16) + 1, generator=generator, device=generator.device
        )
        field = interpolate(coarse.to(filled), (height, width), mode="bilinear", align_corners=True)
        other = torch.where(visible[:, None], filled, (filled + spread * field).clamp(-1, 1))
        change = encode(other) - first  # differences to the first: exactly 0 where the fills agree
        sum_ += change
        squares += change**2
    mean = sum_ / fills
    variance = (squares / fills - mean**2).clamp_min(0)
    variance = torch.where(_reached(visible, variance) > 0, variance, float("inf"))
    return variance, first + mean


def certainty(variance: Tensor, tau: float = 0.5) -> Tensor:
    """Return exp(-(s / tau)^2) of a variance s^2: the mask that goes with `fill_variance`."""
    return torch.exp(-variance / tau**2)


def _keep(changed: Tensor, whole: Tensor) -> Tensor:
    scale = whole.mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(whole.dtype).tiny)
    return 1 - (changed / scale).clamp(max=1)


def _deviation(one: Tensor, other: Tensor) -> Tensor:
    return _pool((one - other) ** 2).sqrt()


def _pool(energy: Tensor) -> Tensor:
    """Return the mean over 3x3 latents of one frame and channel, of those inside the frame."""
    return avg_pool2d(energy, 3, 1, 1, count_include_pad=False)


def _reached(visible: Tensor, latents: Tensor) -> Tensor:
    """Return [T', 1, 1] float: 1 for latents that a visible pixel of this or an earlier frame reaches."""
    ends = torch.linspace(0, len(visible) - 1, latents.shape[1], device=visible.device).round().long()
    return (visible.flatten(1).any(1).cummax(0).values[ends]).float()[:, None, None]
