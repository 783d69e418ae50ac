"""Score a folder of videos as a protocol does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.heartbeat import beating
from recapture.datasets.clips.clip import ClipError
from recapture.models.metrics.image import frame_psnr
from recapture.models.metrics.perceptual import Lpips
from recapture.models.metrics.published import frame_box_ssim, frame_mlpips, frame_mssim
from recapture.tasks.evaluate.protocol import Protocol, Truth
from recapture.tasks.evaluate.videos import frames_of

logger = logging.getLogger(__name__)
# (result, truth [1, 3, H, W] in [-1, 1], scored pixels [1, H, W]) -> one value
FrameMetric = Callable[[Tensor, Tensor, Tensor], float]


@dataclass(frozen=True)
class Scores:
    """What was measured: scene -> metric -> mean over its frames; scene -> why it has no value."""

    scenes: dict[str, dict[str, float]]
    failed: dict[str, str]

    def means(self) -> dict[str, float]:
        """Return each metric's mean over the scenes that were scored."""
        names = list(next(iter(self.scenes.values()), {}))
        return {name: float(np.mean([one[name] for one in self.scenes.values()])) for name in names}


def frame_metrics(
    protocol: Protocol, leave_out: tuple[str, ...], lpips: str | None
) -> dict[str, FrameMetric]:
    """Return the functions of a protocol's metrics, without those left out.

    lpips: the directory of LPIPS weights. Raises: UserError for an unknown name to leave out, a missing or
    unusable directory, or if nothing is left.
    """
    known = [metric.name for metric in protocol.metrics]
    for name in leave_out:
        if name not in known:
            raise UserError(f"--without {name!r}: {protocol.name} has {', '.join(known)}; correct it")
    chosen = [name for name in known if name not in leave_out]
    if not chosen:
        raise UserError(f"--without leaves no metric of {protocol.name}; keep one of {', '.join(known)}")
    functions: Mapping[str, FrameMetric] = {
        "PSNR": lambda a, b, _: float(frame_psnr(a, b)[0]),
        "SSIM": lambda a, b, _: float(frame_box_ssim(a, b)[0]),
        "mPSNR": lambda a, b, seen: float(frame_psnr(a, b, seen)[0]),
        "mSSIM": lambda a, b, seen: float(frame_mssim(a, b, seen)[0]),
    }
    return {name: _mlpips(lpips) if name == "mLPIPS" else functions[name] for name in chosen}


def _mlpips(folder: str | None) -> FrameMetric:
    way_out = (
        "set measure.learned.lpips to a directory of LPIPS weights for AlexNet, or give --without mLPIPS"
    )
    if folder is None:
        raise UserError(f"mLPIPS needs the published network; {way_out}")
    try:
        network = Lpips(folder)
    except ValueError as error:
        raise UserError(f"{error}; {way_out}") from error
    if network.network != "alex":
        raise UserError(f"mLPIPS is defined with AlexNet, and {folder!r} holds VGG-16; {way_out}")
    return lambda a, b, seen: float(frame_mlpips(network, a, b, seen)[0])


def score_folder(protocol: Protocol, results: str, truth: str, metrics: Mapping[str, FrameMetric]) -> Scores:
    """Score every scene of the published split; a scene that cannot be scored is named with the reason.

    A scene has a value when all its videos could be scored: the mean over the frames of all of them.
    """
    scores = Scores({}, {})
    for scene in beating(protocol.scenes):
        try:
            videos = protocol.truths(truth, scene)
            pairs = [(uri, one) for one in videos for uri in protocol.samples(results, one.name)]
            frames = np.concatenate([_score_video(protocol, uri, one, metrics) for uri, one in pairs])
        except ClipError as error:
            scores.failed[scene] = str(error)
            logger.warning("%s %r: %s", protocol.name, scene, error)
            continue
        scores.scenes[scene] = dict(zip(metrics, frames.mean(axis=0).tolist()))
        logger.info("%s %r: %d frames scored", protocol.name, scene, len(frames))
    return scores


def _score_video(
    protocol: Protocol, uri: str, video: Truth, metrics: Mapping[str, FrameMetric]
) -> np.ndarray:
    """Return the metrics [T, M] of a video; raises ClipError if its frames do not fit the truth's."""
    values = []
    for index, (result, true) in enumerate(zip_longest(frames_of(uri), video.frames())):
        if result is None or true is None:
            longer = "more" if true is None else "fewer"
            raise ClipError(f"{uri!r} has {longer} frames than the truth; write one per true frame")
        pixels, seen = true
        if result.shape != pixels.shape or protocol.size not in (None, pixels.shape[:2]):
            raise ClipError(_sizes(protocol, uri, result, pixels))
        if seen is not None and not seen.any():
            raise ClipError(
                f"frame {index} of the truth of {video.name} has no co-visible pixel; check its mask"
            )
        inside = torch.from_numpy(np.ones(pixels.shape[:2], bool) if seen is None else seen)[None]
        values.append([metric(_tensor(result), _tensor(pixels), inside) for metric in metrics.values()])
    if protocol.frames not in (None, len(values)) or not values:
        raise ClipError(
            f"{uri!r} has {len(values)} frames; {protocol.name} compares {protocol.frames or 'some'}"
        )
    return np.array(values)


def _sizes(protocol: Protocol, uri: str, result: np.ndarray, true: np.ndarray) -> str:
    height, width = protocol.size or true.shape[:2]
    what, wrong = ("result", result) if result.shape[:2] != (height, width) else ("truth", true)
    return (
        f"the {what} of {uri!r} is {wrong.shape[1]}x{wrong.shape[0]}, {protocol.name} compares at "
        f"{width}x{height}; resize it yourself, as no resampling is part of the protocol"
    )


def _tensor(frame: np.ndarray) -> Tensor:
    return (torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 127.5) - 1
