"""Motion measure: how well a result performs the reference's motion, beside the base without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from torch import Tensor

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.metrics.motion import motion_scores, nearer_reading
from recapture.models.metrics.motion_bodies import MotionTruth
from recapture.models.metrics.tracks import motion_fidelity
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.transfer.params import TransferParams
from recapture.tasks.transfer.truth import motion_truth, true_scenes

RESULT, BASE = "result", "base"
METRICS = "metrics.json"


@dataclass
class MotionMeasureStage(PlannedStage[TransferParams]):
    """Write metrics.json, and return metrics named METHOD/METRIC, of the result and of the base.

    Against the true transfer, where it is known (MotionScenes), `motion_scores` in the reading of "the same
    motion" that is nearer to the video; reading_world says whether that is the one in scene units. Without a
    truth, the published motion fidelity alone, which is nearly blind to where and how far things go.
    """

    name: ClassVar[str] = "motion_measure"
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "motion_examples", "transfer", "transfer_base")

    def run(
        self, item: Item[TransferParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        frames = item.params.frames
        videos = {
            RESULT: content_of(inputs["transfer"], frames),
            BASE: content_of(inputs["transfer_base"], frames),
        }
        height, width = videos[RESULT].shape[1:3]
        truths: dict[str, MotionTruth] = {}
        if height == width:
            scenes = true_scenes(item.params, height)
            truths = {reading: motion_truth(scene) for reading, scene in scenes}
        given = content_of(inputs["motion_examples"], frames)
        reference = to_video(np.stack([cv2.resize(one, (width, height)) for one in given]))
        metrics: dict[str, float] = {}
        for name, video in videos.items():
            shown = to_video(video)
            scores = against(shown, truths) | {"motion_fidelity": motion_fidelity(shown, reference)}
            metrics |= {f"{name}/{metric}": value for metric, value in scores.items()}
        output.write_json(METRICS, metrics)
        return metrics


def against(video: Tensor, truths: Mapping[str, MotionTruth]) -> dict[str, float]:
    """Return the scores of a video in the nearer of several readings; none without any."""
    if not truths:
        return {}
    reading = nearer_reading(video, truths)
    scores = motion_scores(video, truths[reading])
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    return known | {"reading_world": float(reading == "world")}


def content_of(artifact: Artifact, frames: int) -> np.ndarray:
    """Return the first frames of an artifact uint8 [t,h,w,3], without padding."""
    height, width = artifact.meta["content"]
    return artifact.frames().read(0, frames, ["rgb"])["rgb"][:, :height, :width]
