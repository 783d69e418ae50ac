"""What is known of one result while a clip is measured part by part."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recapture.models.metrics.camera import CameraFollowing, ShownFrames
from recapture.models.metrics.flow import WarpErrors
from recapture.models.metrics.image import mean_over_frames, psnr_of_regions, ssim_of_regions
from recapture.models.metrics.luma import to_colours, to_grey
from recapture.models.metrics.temporal import ShownAtOffsets, Sync, frame_changes

REGIONS = ("", "_visible", "_hole", "_seam")


@dataclass(frozen=True)
class Shown:
    """What the next t frames should show: tensors on the device, arrays in host memory."""

    video: Tensor  # [t, 3, H, W] the source as looked up from the new view
    co_visible: Tensor  # [t, H, W] bool
    timed: Tensor  # [n] which of the frames are compared with `moments`
    moments: ShownAtOffsets | None
    tried: np.ndarray  # [n] which of the frames are registered
    poses: ShownFrames  # of those
    visible: np.ndarray  # [t, H, W] bool, in the render
    source_grey: dict[int, np.ndarray]  # luma of source frames that no earlier part has shown


@dataclass(frozen=True)
class HostFrames:
    """Frames of a result in host memory."""

    grey: np.ndarray  # [t, H, W] uint8 luma
    colours: np.ndarray  # [t, 3, H, W] float32 in [-1, 1]


class ResultScores:
    """What is known of one result so far: values per frame, and what the next frame is compared with."""

    def __init__(self) -> None:
        self.frames: dict[str, list[np.ndarray]] = defaultdict(list)
        self.poses: list[np.ndarray] = []  # [n, 2] each
        self.sync: list[np.ndarray] = []  # [D, n] each
        self.warp, self._changes = WarpErrors(), list[np.ndarray]()
        self._last: Tensor | None = None

    def keep(self, metric: str, values: np.ndarray) -> None:
        """Take a metric's values of the next frames."""
        self.frames[metric].append(values)

    def on_device(self, result: Tensor, shown: Shown) -> HostFrames:
        """Take what the device measures of the next frames; return them for what the CPU measures."""
        consistency = psnr_of_regions(result, shown.video, [shown.co_visible])[0]
        self.keep("consistency_psnr", consistency)
        if shown.moments is not None:
            self.sync.append(shown.moments.frame_psnr(result[shown.timed]))
        if self._last is not None:
            self._changes.append(frame_changes(torch.cat([self._last, result[:1]])))
        self._changes.append(frame_changes(result))
        self._last = result[-1:].clone()
        return HostFrames(to_grey(result), to_colours(result))

    def add_fidelity(self, result: Tensor, truth: Tensor, visible: Tensor, seam: Tensor) -> None:
        """Compare the next frames with the truth, by region."""
        of_psnr = psnr_of_regions(result, truth, [None, visible, ~visible, seam])
        of_ssim = ssim_of_regions(result, truth, visible, seam)
        for region, decibel, similarity in zip(REGIONS, of_psnr, of_ssim):
            self.keep(f"psnr{region}", decibel)
            self.keep(f"ssim{region}", similarity)

    def scores(
        self, tried: np.ndarray, offsets: np.ndarray, source_detail: float
    ) -> Iterator[tuple[str, float]]:
        """Yield the metrics; tried: the frames of `poses`; source_detail: what the source's is on average."""
        means = {metric: mean_over_frames(np.concatenate(values)) for metric, values in self.frames.items()}
        own_detail = means.pop("detail")
        yield from means.items()
        rotation, translation = np.concatenate(self.poses).T
        yield from CameraFollowing(tried, rotation, translation).scores().items()
        if self.sync:
            values = np.array([mean_over_frames(psnr) for psnr in np.concatenate(self.sync, axis=1)])
            yield from Sync(offsets, values).scores().items()
        yield from self.warp.scores().items()
        yield "sharpness_ratio", own_detail / source_detail if source_detail > 0 else float("nan")
        changes = np.concatenate(self._changes)
        yield "flicker_static_only", 1 - float(changes.mean()) / 2 if len(changes) else float("nan")
