"""Clips of several varieties of scenes from one stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from recapture.datasets.scenes.sampling import Variety
from recapture.datasets.scenes.stream import SceneClips, SceneStream

MIXED: tuple[Variety, ...] = ("wide", "world")


class MixedStream:
    """Pools of several varieties, of the same seeds; a drawn batch has about as many clips of each.

    It is used as a SceneStream is; `captions` and `scene_index` count through the pools one after the other.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        varieties: Sequence[Variety] = MIXED,
    ) -> None:
        """Sample the pools; raises ValueError without seeds or varieties, or for an unknown variety."""
        if not varieties:
            raise ValueError("MixedStream: needs at least one variety")
        self.streams = [SceneStream(seeds, device, variety=variety) for variety in varieties]

    @property
    def captions(self) -> tuple[str, ...]:
        """Return the caption of every scene of the pools."""
        return tuple(caption for stream in self.streams for caption in stream.captions)

    @property
    def device(self) -> torch.device:
        """Return the device of the pools."""
        return self.streams[0].device

    def draw(
        self,
        seed: int,
        count: int,
        frames: int,
        height: int,
        width: int,
        crop: tuple[int, int] | None = None,
        antialias: int = 2,
    ) -> SceneClips:
        """Render `count` clips as SceneStream.draw does.

        Clip n is of the variety (n + seed) modulo their number.
        """
        kinds = len(self.streams)
        parts, places, start = [], [], 0
        for turn, stream in enumerate(self.streams):
            own = [clip for clip in range(count) if (clip + seed) % kinds == turn]
            if own:
                drawn = stream.draw(seed, len(own), frames, height, width, crop, antialias)
                parts.append((drawn, start))
                places += own
            start += len(stream.seeds)
        order = torch.tensor(places).argsort()
        joined: dict[str, Tensor] = {}
        for name in (f.name for f in fields(SceneClips) if f.name not in ("captions", "scene_index")):
            values = torch.cat([getattr(drawn, name) for drawn, _ in parts])
            joined[name] = values[order.to(values.device)]
        captions = [caption for drawn, _ in parts for caption in drawn.captions]
        return SceneClips(
            scene_index=torch.cat([drawn.scene_index + first for drawn, first in parts])[order],
            captions=[captions[place] for place in order.tolist()],
            **joined,
        )
