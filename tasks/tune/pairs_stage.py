"""Pairs: a clip's training pairs of a round, encoded: double reprojection, and its own recapture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.tune import CycleConfig, PairsConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.packed import Packing
from recapture.models.fill.view import SourceView
from recapture.models.tuning.cycle import RoundTrip, cycle_pair, pseudo_pair, quality_weight
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.masks import draw_composite
from recapture.models.tuning.other_view import frames_beside, other_view
from recapture.models.tuning.pairs import Move, Pair, check_source, draw_moves, source_pairs
from recapture.models.wan.text import encode_text
from recapture.tasks.clip.captions import caption_of
from recapture.tasks.clip.frames_to_video import stage_device, to_frames
from recapture.tasks.clip.sheets import contact_sheet, png_bytes, spread
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.render import keyed_surface, surface_settings
from recapture.tasks.tune.encoded_pairs import FILE, EncodedPair, pack_pairs
from recapture.tasks.tune.params import PairsParams
from recapture.tasks.tune.recapturer import Recapture, Recapturer, base_settings, sampling_settings
from recapture.tasks.tune.source import draws, read_objects, read_window


@dataclass
class PairsStage(PlannedStage[PairsParams]):
    """Write examples.safetensors with a clip's encoded pairs of one round, and preview.png.

    Windows, moves and masks are drawn from seed, clip and round. An item with an adapter among its inputs
    also recaptures the clip with it, and adds the cycle pair if the cycle PSNR reaches the threshold.
    With `packing`, a pair of the source includes frames of the clip from another move of the same angles.
    """

    config: PairsConfig
    cycle: CycleConfig
    recapture: Recapture
    threshold: float  # dB
    seed: int = 0
    packing: Packing | None = None  # of frames from another camera beside pairs of the source
    name: ClassVar[str] = "pairs"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "tune")

    def settings(self, params: PairsParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        settings: dict[str, Any] = {"pairs": self.config.keyed(), **base_settings(self.recapture.fill)}
        settings |= keyed_surface(self.recapture.render)
        settings |= {"caption": params.clip.caption, "seed": self.seed}
        if self.packing is not None:
            settings["packing"] = {"frames": self.packing.frames, "spacing": self.packing.spacing}
        if "tune" in inputs:
            settings["cycle"] = self.cycle.keyed()
            settings |= {**sampling_settings(self.recapture, adapted=True), "threshold": self.threshold}
        return settings

    def identity(self, params: PairsParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"round": params.number, "low": params.angles.low, "high": params.angles.high}

    def setup(self) -> None:
        self._device = stage_device(self.resources.gpus)
        self._recapturer = Recapturer(self.recapture, self._device)

    def run(
        self, item: Item[PairsParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        work = _Work(self, item, inputs)
        text = encode_text(self._recapturer.base, caption_of(item.params.clip, inputs), None).prompt
        pairs: list[EncodedPair] = []
        pictures: dict[str, Tensor] = {}
        for pair, source, masks, held_out in work.source_pairs():
            beside = None if held_out or self.packing is None else work.frames_beside(source, pair)
            pairs.append(self._encoded(pair, masks, text, held_out=held_out, packed=beside))
            pictures = pictures or {"source": source.video, "degraded": pair.degraded}
        metrics = {"pairs": float(len(pairs))}
        if "tune" in inputs:
            self._recapturer.use(inputs["tune"])
            qualities = []
            for made, trip in work.recaptures(self._recapturer):
                qualities.append(trip.quality)
                pairs += [self._encoded(pair, masks, text) for pair, masks in made]
                pictures |= {
                    "render": trip.view.video,
                    "recaptured": trip.video,
                    "returned": trip.returned.video,
                }
            finite = [quality for quality in qualities if np.isfinite(quality)]
            metrics |= {"cycle_pairs": float(sum(pair.kind == "cycle" for pair in pairs))}
            metrics |= {"cycle_psnr": float(np.mean(finite))} if finite else {}
        output.write_bytes(FILE, pack_pairs(pairs))
        output.write_bytes("preview.png", _sheet(pictures))
        output.meta.update(self.identity(item.params, item.inputs))
        return metrics

    def _encoded(
        self,
        pair: Pair,
        masks: Tensor,
        text: Tensor,
        *,
        held_out: bool = False,
        packed: Tensor | None = None,  # [K, 3, H, W]
    ) -> EncodedPair:
        dtype = getattr(torch, self.recapture.fill.precision)
        examples = encode_pair(self._recapturer.base, pair, masks, text, dtype=dtype, packed=packed)
        return EncodedPair(tuple(examples), pair.kind, pair.angle, pair.weight, held_out)


class _Work:
    """The pairs of one clip and round."""

    def __init__(self, stage: PairsStage, item: Item[PairsParams], inputs: Mapping[str, Artifact]) -> None:
        self._stage, self._item, self._inputs = stage, item, inputs
        self._clip, self._surface = item.params.clip, surface_settings(stage.recapture.render)
        self._pivot_depth: float = inputs["depth"].meta["pivot_depth"]
        self._other_moves = self._random("packed")

    def source_pairs(self) -> Iterator[tuple[Pair, SourceView, Tensor, bool]]:
        """Yield the pairs of double reprojection with their masks [M,T,H,W], held-out pairs last."""
        config, random = self._stage.config, self._random("source")
        count = config.moves + config.held_out
        for place, move in enumerate(self._moves(count, random)):
            held_out = place >= config.moves
            start = self._draw_start(random)
            source = self._window(start)
            pair = next(source_pairs(source, self._pivot_depth, [move], self._surface))
            yield pair, source, pair.visible[None] if held_out else self._masks(pair, start, random), held_out

    def frames_beside(self, source: SourceView, pair: Pair) -> Tensor | None:
        """Return frames [K,3,H,W] of the clip from another camera, drawn by a generator of their own."""
        assert self._stage.packing is not None
        (move,) = self._moves(1, self._other_moves)
        other = other_view(source, self._pivot_depth, move, self._surface)
        return frames_beside(source, pair, other, self._stage.packing, self._surface)

    def recaptures(self, recapturer: Recapturer) -> Iterator[tuple[list[tuple[Pair, Tensor]], RoundTrip]]:
        """Yield each recapture with the pairs made of it: none if its quality is below the threshold."""
        cycle, random = self._stage.cycle, self._random("cycle")
        for move in self._moves(cycle.moves, random):
            start = self._draw_start(random)
            source = self._window(start)
            seed = int(torch.randint(2**31, (), generator=random))
            trip = recapturer.round_trip(
                source, self._pivot_depth, move, caption=caption_of(self._clip, self._inputs), seed=seed
            )
            made: list[tuple[Pair, Tensor]] = []
            if trip.quality >= self._stage.threshold:
                pair = cycle_pair(source, trip.returned, move.angle)
                made.append((pair, self._masks(pair, start, random)))
                trust = quality_weight(trip.quality, self._stage.threshold, cycle.full)
                if cycle.pseudo_weight * trust > 0:
                    pseudo = pseudo_pair(trip.view, trip.video, move.angle, cycle.pseudo_weight * trust)
                    made.append((pseudo, pseudo.visible[None]))
            yield made, trip

    def _random(self, purpose: str) -> torch.Generator:
        number = self._item.params.number
        return draws(self._stage.seed, "pairs", purpose, self._item.inputs["ingest"], number)

    def _moves(self, count: int, random: torch.Generator) -> list[Move]:
        config, angles = self._stage.config, self._item.params.angles
        return draw_moves(
            count,
            angles.low,
            angles.high,
            random,
            pitch_share=config.pitch_share,
            radius=config.radius,
            direct_share=config.direct_share,
        )

    def _draw_start(self, random: torch.Generator) -> int:
        room = self._inputs["ingest"].meta["frames"] - self._stage.config.window
        return int(torch.randint(max(0, room) + 1, (), generator=random))

    def _window(self, start: int) -> SourceView:
        frames = min(self._stage.config.window, self._inputs["ingest"].meta["frames"])
        source = read_window(self._inputs, start, frames, self._stage._device)
        check_source(source, self._clip.id, self._stage.config.window)
        return source

    def _masks(self, pair: Pair, start: int, random: torch.Generator) -> Tensor:
        config = self._stage.config
        objects = read_objects(self._clip, self._inputs["ingest"], start, config.window)
        return draw_composite(
            pair.visible.expand(config.masks, *pair.visible.shape),
            random,
            shares=config.shares.model_dump(),
            object_id=None if objects is None else objects.expand(config.masks, *objects.shape),
        ).visible


def _sheet(videos: Mapping[str, Tensor]) -> bytes:
    """Return a contact sheet of videos [T,3,H,W], one per row."""
    frames = spread(len(next(iter(videos.values()))), 4)
    rows = {label: to_frames(video[frames]) for label, video in videos.items()}
    return png_bytes(contact_sheet(rows, [f"frame {frame}" for frame in frames]))
