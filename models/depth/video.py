"""Depth of whole videos by a latent diffusion model, behind the interface of the models of single frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recapture.conf.heartbeat import beating
from recapture.models.depth.alignment import Kind
from recapture.models.depth.video_load import load_video_depth
from recapture.models.depth.video_sampling import (
    FrameCondition,
    decode_depth,
    denoise_clip,
    encode_frames,
    in_batches,
)


@dataclass(frozen=True)
class VideoSettings:
    """How a video depth model is applied; the defaults are DepthCrafter's.

    window, overlap: frames. steps: of the sampler. max_side: larger frames are scaled down to it, in pixels.
    noise_augmentation: standard deviation of what is added to the frames that the VAE encodes.
    """

    window: int = 110
    overlap: int = 25
    steps: int = 5
    max_side: int = 1024
    noise_augmentation: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window:
            raise ValueError(
                f"depth: windows of {self.window} frames cannot overlap by {self.overlap};"
                " set depth.video.overlap below depth.video.window"
            )


DEPTH_CRAFTER = VideoSettings()


class VideoDepthEstimator:
    """A diffusers directory of the DepthCrafter kind (arXiv 2409.02095), applied in overlapping windows.

    model_dir: see `load_video_depth`. The prediction is inverse depth in [0, 1], near = 1, with one scale and
    one shift for the clip (`consistent`); kind 'metric' overrules what it is taken for. batch: frames that
    the VAE and CLIP take at once, and that the temporal decoder sees together.
    """

    consistent = True

    def __init__(
        self,
        model_dir: str,
        device: str = "cpu",
        *,
        kind: Kind | None = None,
        batch: int = 8,
        dtype: torch.dtype = torch.float32,
        settings: VideoSettings = DEPTH_CRAFTER,
    ) -> None:
        self._model = load_video_depth(model_dir, device, dtype=dtype)
        self._batch, self._settings = batch, settings
        self.kind: Kind = kind or "inverse"

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to resize to: the nearest multiples of the model's, at most `max_side`.

        Never enlarged but to the next multiple; the aspect ratio changes by up to half a multiple and is
        restored in the prediction.
        """
        multiple = self._model.side_multiple
        largest = max(multiple, self._settings.max_side // multiple * multiple)
        factor = min(1.0, self._settings.max_side / max(height, width))
        rounded = (max(multiple, round(side * factor / multiple) * multiple) for side in (height, width))
        return tuple(min(largest, side) for side in rounded)  # type: ignore[return-value]

    def estimate(self, video: Tensor) -> Tensor:
        """Return the raw prediction [T, H, W] for one clip [T, 3, H, W] in [-1, 1]."""
        return torch.cat(list(self.predict([video])))

    @torch.no_grad()
    def predict(self, chunks: Iterable[Tensor], focal: Tensor | None = None) -> Iterator[Tensor]:
        """Predict the depth of a clip that comes in chunks [t, 3, H, W] in [-1, 1], in chunks [t', H, W].

        focal: not used, since relative depth depends on no lens.
        How the clip is cut changes nothing. Frames lag by up to a window; a window's latents are held, never
        the clip. Raises ValueError when the model gives values that are not finite.
        """
        frames = in_batches(chunks, self._batch)
        first = next(frames, None)
        if first is None:
            return
        height, width = first.shape[2:]
        size = self.input_size(height, width)
        generator = torch.Generator().manual_seed(self._settings.seed)
        other = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
        # frame by frame: the same noise whatever the number of frames per window or batch
        noise = [
            torch.randn(self._latent_shape(size), generator=generator) for _ in range(self._settings.window)
        ]
        latents = denoise_clip(
            self._model,
            self._conditions(chain([first], frames), size, other),
            torch.stack(noise).to(self._model.device),
            overlap=self._settings.overlap,
            steps=self._settings.steps,
            noise_augmentation=self._settings.noise_augmentation,
        )
        for batch in beating(in_batches(latents, self._batch)):
            depth = decode_depth(self._model, batch)
            full = interpolate(depth[:, None], (height, width), mode="bilinear", align_corners=False)
            yield full[:, 0].to(first.device)

    def _conditions(
        self, batches: Iterable[Tensor], size: tuple[int, int], generator: torch.Generator
    ) -> Iterator[FrameCondition]:
        for batch in beating(batches):
            frames = batch.to(self._model.device, torch.float32)
            if frames.shape[2:] != size:
                frames = interpolate(frames, size, mode="bicubic", antialias=True, align_corners=False)
                frames = frames.clamp(-1, 1)
            noise = torch.stack([torch.randn(3, *size, generator=generator) for _ in frames])
            yield encode_frames(
                self._model, frames, self._settings.noise_augmentation * noise.to(self._model.device)
            )

    def _latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        config = self._model.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, size[0] // factor, size[1] // factor
