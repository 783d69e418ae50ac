"""What a base is given beside noise and text: the known part of a clip, one small function a layout."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.wan.load import Base
from recapture.models.wan.vae import check_size, encode_video


@dataclass(frozen=True)
class Packed:
    """Finished frames that ride along as extra latent frames; see `packing.pack`, which makes it."""

    latents: Tensor  # [1, z, K, h, w] clean
    noise: Tensor  # [1, z, K, h, w], the same at every step
    positions: tuple[int, ...] | None  # [K] temporal positions, None: T', T'+1, ...


@dataclass(frozen=True)
class Conditioning:
    """The transformer's inputs for one clip; build it with `condition`."""

    latent_shape: tuple[int, int, int, int]  # (z, T', h, w) of the latents to be sampled
    channels: Tensor | None = (
        None  # [1, 4 + z, T', h, w] joined to the latents: mask (1 = known), masked video
    )
    control: Tensor | None = (
        None  # [1, 2z + 64, T', h, w] VACE: inactive, reactive, folded mask (1 = generate)
    )
    image: Tensor | None = None  # [1, 257, image_dim] CLIP tokens of the first frame, Wan2.1 I2V and Fun-InP
    packed: Packed | None = None  # then channels and control have T' + K frames


@torch.no_grad()
def condition(base: Base, video: Tensor, visible: Tensor) -> Conditioning:
    """Return the conditioning of a clip with holes, by the base's layout.

    video: [T, 3, H, W] in [-1, 1], T = 4n+1, sides multiples of `base.side_multiple`. What it shows in holes
    is not used. visible: [T, H, W] bool, True where known. A text-to-video base takes the clip's size alone:
    its known part is the solver's business. Raises ValueError for a size that does not fit.
    """
    check_size(base.vae, video)
    frames, _, height, width = video.shape
    if visible.shape != (frames, height, width) or visible.dtype != torch.bool:
        raise ValueError(
            f"conditioning: visible is {visible.dtype} {list(visible.shape)},"
            f" but the video needs bool {[frames, height, width]}"
        )
    if height % base.side_multiple or width % base.side_multiple:
        raise ValueError(
            f"conditioning: {height}x{width} pixels are no multiples of {base.side_multiple}; pad the frames"
        )
    shape = base.latent_shape(frames, height, width)
    if base.layout == "t2v":
        return Conditioning(shape)
    video, visible = video.to(base.device, torch.float32), visible.to(base.device)
    if base.layout == "vace":
        return Conditioning(shape, control=vace_control(base, video, visible))
    return Conditioning(
        shape, channels=inpaint_channels(base, video, visible), image=image_tokens(base, video, visible)
    )


def inpaint_channels(base: Base, video: Tensor, visible: Tensor) -> Tensor:
    """Return the 4 + 16 channels [1, 20, T', h, w] float32 that Fun-InP and I2V join to the noise.

    Channel k of latent frame t > 0 is the mask of pixel frame 4(t-1)+1+k, that of t = 0 the first frame's
    four times, each min-pooled: 1 where all 8x8 pixels are known. Then the latents of the video with grey
    holes. With nothing known at all everything is 0: so Fun-InP was trained to make video from text.
    Source: VideoX-Fun's Fun-InP pipeline; with only the first frame known, equal to
    `WanImageToVideoPipeline.prepare_latents`.
    """
    if not visible.any():
        shape = base.latent_shape(video.shape[0], video.shape[2], video.shape[3])
        return video.new_zeros(1, base.vae.config.scale_factor_temporal + shape[0], *shape[1:])
    time, space = base.vae.config.scale_factor_temporal, base.vae.config.scale_factor_spatial
    known = pool_visible(visible, space).float()
    known = torch.cat([known[:1].expand(time, -1, -1), known[1:]]).unflatten(0, (-1, time)).transpose(0, 1)
    return torch.cat([known[None], encode_video(base.vae, grey_holes(video, visible))[None]], dim=1)


def vace_control(base: Base, video: Tensor, visible: Tensor) -> Tensor:
    """Return the 96 control channels [1, 96, T', h, w] float32 of VACE.

    Latents of what is known (holes grey), latents of what is to be redrawn (nothing: grey), and 64 channels
    of the hole (1 = generate), 8x8 pixels folded into channels. A hole in any of a latent's frames is a hole
    of that latent: the library would look at one frame in four. The first two parts equal
    `WanVACEPipeline.prepare_video_latents` of a video with grey holes, the last its `prepare_masks` where the
    hole is the same in all frames of a latent.
    """
    time, space = base.vae.config.scale_factor_temporal, base.vae.config.scale_factor_spatial
    inactive, reactive = grey_holes(video, visible), torch.zeros_like(video)
    latents = [encode_video(base.vae, part) for part in (inactive, reactive)]
    hole = torch.stack([group.any(0) for group in _by_latent(~visible, time)]).float()
    count, height, width = hole.shape
    folded = (
        hole.view(count, height // space, space, width // space, space).permute(2, 4, 0, 1, 3).flatten(0, 1)
    )
    return torch.cat([*latents, folded])[None]


def image_tokens(base: Base, video: Tensor, visible: Tensor) -> Tensor | None:
    """Return CLIP tokens [1, 257, image_dim] of the first frame, None without an image branch.

    Zeros, as in a tenth of Fun-InP's training, where there is no image encoder or nothing of the frame is
    known.
    """
    width = base.transformer.config.image_dim
    if width is None:
        return None
    if base.image_encoder is None or not visible[0].any():
        return video.new_zeros(1, 257, width)
    from PIL import Image

    frame = ((grey_holes(video, visible)[0] + 1) * 127.5).round().clamp(0, 255).byte()
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    pixels = base.image_processor(images=picture, return_tensors="pt").pixel_values
    encoder = base.image_encoder
    hidden = encoder(pixels.to(encoder.device, encoder.dtype), output_hidden_states=True).hidden_states
    tokens: Tensor = hidden[-2]
    return tokens


def grey_holes(video: Tensor, visible: Tensor) -> Tensor:
    """Return the video [..., T, 3, H, W] with mid-grey (0) where visible [..., T, H, W] is False."""
    return torch.where(visible[..., None, :, :], video, torch.zeros_like(video))


def pool_visible(visible: Tensor, space: int = 8) -> Tensor:
    """Return bool [T, H/8, W/8]: True where all `space` x `space` pixels of visible [T, H, W] are."""
    return max_pool2d((~visible)[:, None].float(), space)[:, 0] == 0


def latent_visible(visible: Tensor, time: int = 4, space: int = 8) -> Tensor:
    """Return bool [T', h, w]: True where every pixel in every frame of a latent is visible.

    visible: [T, H, W] bool. Latent frame 0 stands for frame 0 alone, each later one for the next `time`.
    """
    pooled = pool_visible(visible, space)
    return torch.stack([group.all(0) for group in _by_latent(pooled, time)])


def _by_latent(frames: Tensor, time: int) -> list[Tensor]:
    return [frames[:1], *(frames[1:].split(time) if len(frames) > 1 else ())]
