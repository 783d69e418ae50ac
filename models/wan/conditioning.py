"""What a base is given beside noise and text: the known part of a clip, one small function a layout."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.wan.first_frame import FirstFrame, first_frame
from recapture.models.wan.load import Base
from recapture.models.wan.reference import on_canvas, with_reference
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

    latent_shape: tuple[int, int, int, int]  # (z, leading + T', h, w) of the latents to be sampled
    channels: Tensor | None = None  # [1, 4 + z, T', h, w] joined to the latents: mask (1 = known), masked
    # video; of a control model [1, 2z or 4 + 2z, T', h, w], see `control_channels`
    control: Tensor | None = (
        None  # [1, 2z + 64, T', h, w] VACE: inactive, reactive, folded mask (1 = generate)
    )
    image: Tensor | None = None  # [1, 257, image_dim] CLIP tokens of the first frame, Wan2.1 I2V and Fun-InP
    # [2, 257, image_dim] of the first and the last frame, Wan2.1 FLF2V
    packed: Packed | None = None  # then channels and control have T' + K frames
    first: FirstFrame | None = None  # Wan2.2 TI2V
    leading: int = 0  # latent frames of a reference picture before the clip's, which `sample` drops


@torch.no_grad()
def condition(base: Base, video: Tensor, visible: Tensor, reference: Tensor | None = None) -> Conditioning:
    """Return the conditioning of a clip with holes, by the base's layout.

    video: [T, 3, H, W] in [-1, 1], T = 4n+1, sides multiples of `base.side_multiple`. What it shows in holes
    is not used. visible: [T, H, W] bool, True where known. A text-to-video base takes the clip's size alone:
    its known part is the solver's business; Wan2.2 TI2V is also given what is known of the first frame.
    reference: a picture [3, h, w] in [-1, 1] of any size, for VACE. Raises ValueError for a size that does
    not fit, and for a reference that the base does not take.
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
    if reference is not None and base.layout != "vace":
        raise ValueError(
            f"conditioning: a reference picture is for VACE, and this base is {base.layout}; leave it out"
        )
    shape = base.latent_shape(frames, height, width)
    video, visible = video.to(base.device, torch.float32), visible.to(base.device)
    if base.layout == "t2v":
        first = (base.vae, video[0], visible[0], base.side_multiple)
        return Conditioning(shape, first=first_frame(*first) if base.expand_timesteps else None)
    if base.layout == "vace":
        control = vace_control(base, video, visible)
        if reference is None:
            return Conditioning(shape, control=control)
        canvas = on_canvas(reference.to(video), height, width)
        shape = (shape[0], shape[1] + 1, *shape[2:])
        return Conditioning(shape, control=with_reference(base.vae, control, canvas), leading=1)
    if base.layout == "control":
        channels = control_channels(base, video, visible)
        return Conditioning(shape, channels=channels, image=image_tokens(base, video, visible))
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


def control_channels(base: Base, video: Tensor, visible: Tensor) -> Tensor:
    """Return what a control model (Fun-Control) joins to the noise: the video with grey holes as control.

    With 3z input channels [1, 2z, T', h, w]: latents of the control, then those of a whole first frame, all
    0 after it and without one. With 3z + 4 [1, 2z + 4, T', h, w]: latents of the control, then
    `inpaint_channels`. Source: VideoX-Fun's pipelines of Wan2.1-Fun-Control and Wan2.2-Fun-Control; there is
    none in diffusers. Their reference picture (ref_conv) is not given.
    """
    control = encode_video(base.vae, grey_holes(video, visible))[None]
    z = control.shape[1]
    if base.transformer.config.in_channels != 3 * z:
        return torch.cat([control, inpaint_channels(base, video, visible)], dim=1)
    start = torch.zeros_like(control)
    if visible[0].all():
        start[:, :, :1] = encode_video(base.vae, video[:1])[None]
    return torch.cat([control, start], dim=1)


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

    Of a first-last-frame base [2, 257, image_dim], of both. Zeros, as in a tenth of Fun-InP's training, where
    there is no image encoder or nothing of the frame is known.
    """
    if base.transformer.config.image_dim is None:
        return None
    frames = (0, -1) if base.transformer.config.pos_embed_seq_len is not None else (0,)
    return torch.cat([_tokens_of(base, video[t], visible[t]) for t in frames])


def _tokens_of(base: Base, frame: Tensor, visible: Tensor) -> Tensor:
    """Return CLIP tokens [1, 257, image_dim] of a frame [3, H, W] that is known where visible [H, W] is."""
    if base.image_encoder is None or not visible.any():
        return frame.new_zeros(1, 257, base.transformer.config.image_dim)
    from PIL import Image

    frame = ((grey_holes(frame, visible) + 1) * 127.5).round().clamp(0, 255).byte()
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
