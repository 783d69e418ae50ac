"""Motion examples: a reference encoded as it is tuned on, with copies in other colours and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.conf.transfer import TransferConfig
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.motion.augment import Augmentation
from recapture.models.motion.examples import MotionExamples, motion_examples, shown_at_start
from recapture.models.motion.sparse import Sparse
from recapture.models.tuning.examples import Example, encode_pair
from recapture.models.tuning.pairs import Pair
from recapture.models.wan.text import encode_text
from recapture.tasks.clip.clip_stage import check_clip
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.clip.sheets import contact_sheet, png_bytes, spread
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.fill import open_base
from recapture.tasks.transfer.params import ReferenceParams
from recapture.tasks.transfer.reference import read_reference
from recapture.tasks.transfer.swept import read_bodies, swept_region
from recapture.tasks.tune.encoded_pairs import FILE, EncodedPair, pack_pairs
from recapture.tasks.tune.recapturer import base_settings
from recapture.tasks.tune.source import draws

SINGLE = "frames.safetensors"  # examples of single frames, for the spatial adapter
FRAMES_SHOWN, SINGLES = 4, 8


@dataclass
class MotionExamplesStage(PlannedStage[ReferenceParams]):
    """Write examples.safetensors, the reference's own frames rgb uint8 [T,H,W,3], and preview.png.

    With a start from a swept region also bodies.npz: where what moves is in each frame, bool [1,T,H,W].
    meta.frames is how many frames of the reference are used; meta.moves how far it goes, in pixels.
    """

    config: TransferConfig
    fill: FillConfig
    seed: int = 0
    name: ClassVar[str] = "motion_examples"
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest",)

    def settings(self, params: ReferenceParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        config = self.config
        settings: dict[str, Any] = {"start": config.start, "window": config.window, "seed": self.seed}
        settings |= {"least_motion": config.least_motion, **base_settings(self.fill)}
        if config.start == "swept":
            settings["dilate"] = config.dilate
        if config.method == "adapter":
            settings |= {"augment": config.augment.keyed(), "single": config.spatial.steps > 0}
            if config.sparse.kept is not None and config.sparse.kind == "frames":
                settings["kept"] = config.sparse.kept
        return settings

    def identity(self, params: ReferenceParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"caption": params.caption}

    def check_inputs(self, params: ReferenceParams) -> None:
        check_clip(params.clip)

    def setup(self) -> None:
        self._base = open_base(self.fill, stage_device(self.resources.gpus), resident=True)

    def run(
        self, item: Item[ReferenceParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, config = item.params.clip, self.config
        reference = read_reference(clip, inputs, config)
        frames = len(reference.rgb)
        bodies = None
        if config.start == "swept":
            bodies = read_bodies(f"reference {clip.id!r}", inputs["mask"], frames)
            output.write_npz("bodies.npz", bodies=bodies.numpy())
        video = to_video(reference.rgb, self._base.device)
        swept = None if bodies is None else swept_region(bodies[0], config.dilate)
        height, width = video.shape[2:]
        visible = shown_at_start(config.start, frames, height, width, swept).to(video.device)
        random = draws(self.seed, "motion examples", item.inputs["ingest"])
        with turn():
            text = encode_text(self._base, item.params.caption, None).prompt
            made = self._encoded(video, text, visible, random)
            single = self._singles(video, text)
        output.write_bytes(FILE, packed(made))
        if single:
            output.write_bytes(SINGLE, packed(MotionExamples(tuple(single), ())))
        with output.frames() as writer:
            writer.append(rgb=reference.rgb)
        shown = spread(frames, FRAMES_SHOWN)
        sheet = contact_sheet({"reference": reference.rgb[shown]}, [f"frame {t}" for t in shown])
        output.write_bytes("preview.png", png_bytes(sheet))
        ingest = inputs["ingest"].meta
        output.meta.update(frames=frames, moves=reference.moves, fps=ingest["fps"])
        output.meta.update(content=ingest["content"], size=ingest["size"])
        return {
            "frames": float(frames),
            "moves_px": reference.moves,
            "examples": float(len(made.training)),
            "known_share": float(visible.float().mean()),
        }

    def _encoded(
        self, video: Tensor, text: Tensor, visible: Tensor, random: torch.Generator
    ) -> MotionExamples:
        augment, tuned = self.config.augment, self.config.method == "adapter"
        return motion_examples(
            self._base,
            video,
            text,
            visible=visible,
            sparse=sparse_of(self.config, len(video)),
            copies_trained=augment.copies if tuned else 0,
            copies_held_out=augment.held_out if tuned else 0,
            augmentation=Augmentation(augment.colour, augment.light, augment.shift, augment.zoom),
            random=random,
        )

    def _singles(self, video: Tensor, text: Tensor) -> list[Example]:
        """Return single frames of the reference, as they are and with nothing known of them."""
        if not self.config.spatial.steps or self.config.method != "adapter":
            return []
        found: list[Example] = []
        for t in spread(len(video), SINGLES):
            frame = video[int(t)][None]
            hidden = torch.zeros(1, *frame.shape[2:], dtype=torch.bool, device=frame.device)
            pair = Pair(torch.zeros_like(frame), hidden, frame, "source", 0.0)
            found += encode_pair(self._base, pair, hidden[None], text)
        return found


def sparse_of(config: TransferConfig, frames: int) -> Sparse:
    """Return how sparsely a reference of so many frames is looked at."""
    sparse = config.sparse
    if sparse.kept is None or sparse.kept >= frames:
        return Sparse("full", frames, frames, "native")
    return Sparse(sparse.kind, frames, sparse.kept, sparse.positions)


def packed(examples: MotionExamples) -> bytes:
    """Return examples as safetensors; `open_pairs` and `as_examples` read them."""
    pairs = [EncodedPair((one,), "source", 0.0) for one in examples.training]
    return pack_pairs(
        [*pairs, *(EncodedPair((one,), "source", 0.0, held_out=True) for one in examples.held_out)]
    )


def as_examples(pairs: list[EncodedPair]) -> MotionExamples:
    """Return examples that `packed` has written."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for pair in pairs:
        sides[pair.held_out].extend(pair.examples)
    return MotionExamples(tuple(sides[0]), tuple(sides[1]))


def reference_frames(artifact: Artifact) -> np.ndarray:
    """Return the used frames of a reference uint8 [T,h,w,3], without padding."""
    height, width = artifact.meta["content"]
    return artifact.frames().read(0, artifact.meta["frames"], ["rgb"])["rgb"][:, :height, :width]
