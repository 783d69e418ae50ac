"""Heads: what the base's attention heads look at, measured once for all references."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

from recapture.conf.schema import FillConfig
from recapture.conf.transfer import HeadsConfig
from recapture.conf.turn import turn
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.motion.examples import Start, shown_at_start
from recapture.models.motion.heads import HeadShares, head_shares
from recapture.models.tuning.examples import Example, encode_pair
from recapture.models.tuning.pairs import Pair
from recapture.models.wan.text import encode_text
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.fill import open_base
from recapture.tasks.transfer.params import HeadsParams
from recapture.tasks.tune.recapturer import base_settings
from recapture.tasks.tune.source import draws

PROBE = "scenes://?count=2&seed=9100000&frames=17&height=128&width=128"  # what attention is looked at with
TABLE = "heads.parquet"
MEASURES = tuple(one.name for one in fields(HeadShares) if one.name != "chance")


@dataclass
class HeadsStage(PlannedStage[HeadsParams]):
    """Write heads.parquet: a row per block and head, with what it attends to (see `HeadShares`).

    Which heads are temporal is decided by the rule of the tuning that reads it: the table has no rule in it.
    """

    config: HeadsConfig
    fill: FillConfig
    seed: int = 0
    name: ClassVar[str] = "heads"
    version: ClassVar[str] = "1"

    def settings(self, params: HeadsParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        looked = {"sigmas": list(self.config.sigmas), "rows": self.config.rows, "seed": self.seed}
        return looked | {"probe": PROBE} | base_settings(self.fill)

    def identity(self, params: HeadsParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"start": params.start}

    def setup(self) -> None:
        # Compiled blocks do not call the norms that are watched.
        speed = self.fill.speed.model_copy(update={"compile_blocks": False, "fused_layers": False})
        plain = self.fill.model_copy(update={"speed": speed})
        self._base = open_base(plain, stage_device(self.resources.gpus), resident=True)

    def run(
        self, item: Item[HeadsParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        random = draws(self.seed, "heads", item.params.start)
        with turn():
            shares = head_shares(
                self._base,
                self._examples(item.params.start),
                sigmas=self.config.sigmas,
                rows=self.config.rows,
                random=random,
            )
        output.write_bytes(TABLE, heads_table(shares))
        output.meta.update(chance=shares.chance)
        return {"heads": float(shares.other_frames.numel()), "chance": shares.chance}

    def _examples(self, start: Start) -> list[Example]:
        found: list[Example] = []
        for clip in scan(PROBE)[0]:
            video = to_video(np.stack(list(open_clip(clip).frames())), self._base.device)
            frames, _, height, width = video.shape
            middle = torch.zeros(height, width, dtype=torch.bool)
            middle[height // 4 : -height // 4, width // 4 : -width // 4] = True
            visible = shown_at_start(start, frames, height, width, middle).to(video.device)
            pair = Pair(torch.where(visible[:, None], video, 0.0), visible, video, "source", 0.0)
            text = encode_text(self._base, clip.caption, None).prompt
            found += encode_pair(self._base, pair, visible[None], text)
        return found


def heads_table(shares: HeadShares) -> bytes:
    """Return the measures of all heads as Parquet, a row per block and head."""
    blocks, heads = shares.other_frames.shape
    columns: dict[str, Any] = {
        "block": np.repeat(np.arange(blocks, dtype=np.int32), heads),
        "head": np.tile(np.arange(heads, dtype=np.int32), blocks),
    }
    columns |= {name: getattr(shares, name).flatten().numpy() for name in MEASURES}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def read_heads(artifact: Artifact) -> HeadShares:
    """Return what `heads_table` wrote."""
    table = parquet.read_table(io.BytesIO(artifact.read_bytes(TABLE))).to_pydict()
    shape = (max(table["block"]) + 1, max(table["head"]) + 1)
    measures = {name: torch.tensor(table[name], dtype=torch.float32).view(shape) for name in MEASURES}
    return HeadShares(**measures, chance=float(artifact.meta["chance"]))
