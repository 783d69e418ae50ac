"""Caption: what a clip without a caption shows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from recapture.conf.caption import CaptionConfig
from recapture.conf.errors import UserError
from recapture.conf.section import EMBEDDED
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.captions.captioner import Captioner
from recapture.models.captions.recognise import read_config
from recapture.models.captions.regions import look_at_pairs
from recapture.tasks.clip.captions import CAPTION, clean
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.spoken_regions import chosen_pairs, spoken
from recapture.tasks.engine.model_revision import model_revision, once
from recapture.tasks.engine.stage import Item


@dataclass
class CaptionStage(ClipStage):
    """Write said.json with `caption`, as later stages read it, and `said`, the answer as it came.

    meta.caption is the caption. Clips that have one are no items of this stage.
    """

    config: CaptionConfig
    name: ClassVar[str] = CAPTION
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest",)

    def takes(self, params: ClipParams) -> bool:
        """Return whether the clip has no caption."""
        return not params.clip.caption

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        if not self.config.of_model:
            return {"model": EMBEDDED}
        model = self._directory
        identity = {"model": model_revision("caption.model", model)}
        once(("caption model", model), lambda: refuse_unusable(model))
        return identity

    def setup(self) -> None:
        self._captioner = None
        if self.config.of_model:
            device, dtype = str(stage_device(self.resources.gpus)), getattr(torch, self.config.precision)
            tokens = self.config.max_tokens
            self._captioner = Captioner(self._directory, device, dtype=dtype, tokens=tokens)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        said = self._said(inputs["ingest"])
        answer, _ = clean(said)
        caption, cut = clean(self.config.template.replace("{caption}", answer)) if answer else ("", 0)
        if not caption and self.config.empty == "error":
            raise ValueError(
                f"clip {item.clip_id!r}: nothing was said of it; give it a caption, ask another model or "
                "otherwise (caption.model, caption.prompt), or set caption.empty to keep"
            )
        output.write_json("said.json", {"caption": caption, "said": said})
        output.meta.update(caption=caption, by=self.config.model)
        return {"caption_words": float(len(caption.split())), "caption_characters_cut": float(cut)}

    @property
    def _directory(self) -> str:
        assert self.config.model is not None
        return self.config.model

    def _said(self, ingest: Artifact) -> str:
        frames, (height, width) = ingest.meta["frames"], ingest.meta["content"]

        def read(places: list[int]) -> list[np.ndarray]:
            return list(read_frames(ingest, np.array(places))["rgb"][:, :height, :width])

        captioner = self._captioner
        if captioner is None:
            pairs = [read([first, second]) for first, second in chosen_pairs(frames)]
            return spoken(look_at_pairs([(first, second) for first, second in pairs]))
        count = min(self.config.frames, frames) if captioner.several else 1
        shown = read([(2 * number + 1) * frames // (2 * count) for number in range(count)])
        with turn():
            return captioner.describe(shown, self.config.prompt)


def refuse_unusable(model_dir: str) -> None:
    """Raise UserError, before anything is made, if a captioner cannot be used."""
    try:
        read_config(model_dir)
    except ValueError as error:
        raise UserError(f"caption.model: {str(error).removeprefix('captions: ')}") from error
