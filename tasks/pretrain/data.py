"""Training data of the embedded base: procedural scenes, rendered on the training device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import PreTrainedTokenizerFast

from recapture.datasets.scenes.stream import SceneClips, SceneStream
from recapture.models.pretraining.depth import SIDE
from recapture.models.pretraining.inpainter import Bucket, Clips
from recapture.models.pretraining.vae import Stage
from recapture.models.training.seeds import generator

TEXT_LENGTH = 96  # tokens; the longest caption of a scene has fewer
RENDER_AT_ONCE = 48  # clips
_POOL_SIZE = (144, 176)  # of the clips that the autoencoder's crops are cut from


def make_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lower-case words and punctuation; unknown words become <unk>."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: n + 3 for n, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_LENGTH,
    )


class SceneMixture:
    """Streams of several varieties of scenes; each draw takes all its clips from one of them, by `shares`."""

    def __init__(self, streams: Mapping[str, SceneStream], shares: Mapping[str, float]) -> None:
        """Raises ValueError where shares and streams name other varieties, or no share is above 0."""
        if set(streams) != set(shares) or not any(share > 0 for share in shares.values()):
            raise ValueError(f"scenes: streams {sorted(streams)} and shares {dict(shares)} do not fit")
        self._streams = list(streams.values())
        self._shares = torch.tensor([float(shares[name]) for name in streams])
        counts = torch.tensor([0] + [len(stream.seeds) for stream in self._streams])
        self._starts = counts.cumsum(0).tolist()

    @property
    def captions(self) -> tuple[str, ...]:
        """Return the captions of all streams, one stream after the other."""
        return tuple(caption for stream in self._streams for caption in stream.captions)

    @property
    def device(self) -> torch.device:
        """Return the device of the scenes."""
        return self._streams[0].device

    def draw(self, seed: int, count: int, frames: int, height: int, width: int) -> SceneClips:
        """Render clips as `SceneStream.draw` does; scene_index points into `captions`."""
        chosen = torch.multinomial(self._shares, 1, generator=torch.Generator().manual_seed(seed ^ 0x5CE4E))
        which = int(chosen)
        drawn = self._streams[which].draw(seed, count, frames, height, width)
        return replace(drawn, scene_index=drawn.scene_index + self._starts[which])


class InpainterClips:
    """Clips of any bucket, with their captions as tokens."""

    def __init__(self, stream: SceneMixture, tokenizer: PreTrainedTokenizerFast) -> None:
        self._stream = stream
        table = tokenizer(
            list(stream.captions),
            padding="max_length",
            max_length=TEXT_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        self._tokens = table.input_ids.to(stream.device)

    def __call__(self, seed: int, count: int, bucket: Bucket) -> Clips:
        drawn = self._stream.draw(seed, count, bucket.frames, bucket.height, bucket.width)
        return Clips(
            channels_first(drawn), drawn.object_id, self._tokens[drawn.scene_index.to(self._tokens.device)]
        )


class VaeClips:
    """Random crops of a pool of clips that is rendered again every `epoch` steps.

    scale: factor for the pool's sides, as in `shrink_stages`.
    """

    def __init__(self, stream: SceneMixture, seed: int, clips: int, epoch: int, scale: float = 1.0) -> None:
        self._stream, self._seed, self._clips, self._epoch = stream, seed, clips, epoch
        self._height, self._width = (max(36, round(side * scale)) for side in _POOL_SIZE)
        self._made, self._pool = -1, torch.empty(0)

    def __call__(self, step: int, stage: Stage) -> Tensor:
        if step // self._epoch != self._made:
            self._made = step // self._epoch
            self._pool = self._render(self._made)
        device = self._pool.device
        random = generator(self._seed + 17, step, device)
        count, frames, _, height, width = self._pool.shape
        clip = torch.randint(count, (stage.batch,), generator=random, device=device)

        def starts(room: int) -> Tensor:
            return torch.randint(room + 1, (stage.batch, 1), generator=random, device=device)

        t = starts(frames - stage.frames) + torch.arange(stage.frames, device=device)
        y = starts(height - stage.side) + torch.arange(stage.side, device=device)
        x = starts(width - stage.side) + torch.arange(stage.side, device=device)
        cut = self._pool[
            clip[:, None, None, None], t[:, :, None, None], :, y[:, None, :, None], x[:, None, None, :]
        ]  # [B, T, S, S, 3]
        return cut.permute(0, 4, 1, 2, 3).float() / 127.5 - 1

    def _render(self, epoch: int) -> Tensor:
        parts = []
        for start in range(0, self._clips, RENDER_AT_ONCE):
            seed = (self._seed * 1009 + epoch) * 1_000_003 + start
            count = min(RENDER_AT_ONCE, self._clips - start)
            video = self._stream.draw(seed, count, 17, self._height, self._width).video
            parts.append(((video + 1) * 127.5).round().clamp(0, 255).byte())
        return torch.cat(parts)


class DepthFrames:
    """Frames of square, wide and tall views resized to squares, as the estimator resizes them, with depth.

    They are cut from pools of `frames` frames in all, one pool per shape of view, that are rendered again
    every `epoch` steps.
    """

    def __init__(self, stream: SceneMixture, seed: int, frames: int, epoch: int) -> None:
        self._stream, self._seed, self._epoch = stream, seed, epoch
        self._views = [(SIDE, SIDE), (SIDE, SIDE * 4 // 3), (SIDE, SIDE * 16 // 9), (SIDE * 16 // 9, SIDE)]
        self._count = max(1, frames // len(self._views))
        self._made, self._pools = -1, list[tuple[Tensor, Tensor]]()

    def __call__(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        if step // self._epoch != self._made:
            self._made = step // self._epoch
            self._pools = [self._render(view) for view in range(len(self._views))]
        pictures, depths = self._pools[step % len(self._pools)]
        random = generator(self._seed + 23, step, pictures.device)
        chosen = torch.randint(len(pictures), (count,), generator=random, device=pictures.device)
        return pictures[chosen].float() / 127.5 - 1, depths[chosen]

    def _render(self, view: int) -> tuple[Tensor, Tensor]:
        """Return pictures [N, 3, S, S] uint8 and depth [N, S, S] of one shape of view."""
        size, parts = self._views[view], []
        for start in range(0, self._count, RENDER_AT_ONCE * 4):
            seed = ((self._seed * 1_000_003 + self._made) * 4 + view) * 100_003 + start
            count = min(RENDER_AT_ONCE * 4, self._count - start)
            drawn = self._stream.draw(seed, count, 1, *size)
            video, depth = drawn.video[:, 0], drawn.depth[:, 0]
            if size != (SIDE, SIDE):
                video = interpolate(video, (SIDE, SIDE), mode="bilinear", antialias=True)
                depth = interpolate(depth[:, None], (SIDE, SIDE), mode="nearest-exact")[:, 0]
            parts.append((((video + 1) * 127.5).round().clamp(0, 255).byte(), depth))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def channels_first(drawn: SceneClips) -> Tensor:
    """Return the video [B, 3, T, H, W] of rendered clips."""
    return drawn.video.transpose(1, 2)
