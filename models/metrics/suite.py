"""The weight-free suite: every measurement of one recaptured clip that needs no model."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recapture.conf.turn import turn
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.metrics.camera import ShownFrames, tried_frames
from recapture.models.metrics.flow import pair_errors
from recapture.models.metrics.image import seam_ring
from recapture.models.metrics.luma import detail, frame_hole_detail, inner_masks, to_grey
from recapture.models.metrics.result import HostFrames, ResultScores, Shown
from recapture.models.metrics.temporal import ShownAtOffsets, looked_up, sync_frames


class Metric(NamedTuple):
    """How to print and read one number."""

    unit: str
    higher_is_better: bool | None  # None: says something about the clip, or is no verdict by itself
    definition: str


METRICS: dict[str, Metric] = {
    "psnr": Metric("dB", True, "PSNR against the truth, all pixels, mean over frames"),
    "psnr_visible": Metric("dB", True, "the same on pixels that the source saw"),
    "psnr_hole": Metric("dB", True, "the same in holes"),
    "psnr_seam": Metric("dB", True, "the same on a ring around the holes' boundary"),
    "ssim": Metric("", True, "SSIM against the truth (Gaussian 11x11, sigma 1.5), all pixels"),
    "ssim_visible": Metric("", True, "the same by partial convolution on visible pixels"),
    "ssim_hole": Metric("", True, "the same in holes"),
    "ssim_seam": Metric("", True, "the same on a ring around the holes' boundary"),
    "consistency_psnr": Metric("dB", True, "PSNR against the source looked up at co-visible target pixels"),
    "coverage": Metric("", None, "share of target pixels that are co-visible with the source"),
    "hole_share": Metric("", None, "share of target pixels that the source did not see"),
    "rotation_error_deg": Metric("deg", False, "camera rotation error by SIFT and PnP, registered frames"),
    "translation_error": Metric("", False, "camera position error / pivot depth, registered frames"),
    "pose_success": Metric("", True, "share of tried frames that could be registered"),
    "pose_accuracy": Metric("", True, "share of tried frames within 2 degrees and 5 % of the pivot depth"),
    "sync_offset_frames": Metric("frames", None, "frames the result runs ahead (+) of the source, by PSNR"),
    "sync_error_frames": Metric("frames", False, "absolute value of the sync offset"),
    "sync_margin_db": Metric("dB", None, "how far the best offset stands above the mean of the others"),
    "warp_error": Metric("", False, "squared error after DIS flow; rewards blur and stillness"),
    "flow_px": Metric("px", None, "mean length of the flow between frames; read it with warp_error"),
    "sharpness_ratio": Metric("", None, "Laplacian variance / the source's; below 1 blurred, above noisy"),
    "hole_sharpness_ratio": Metric("", None, "Laplacian variance in holes / on visible pixels"),
    "flicker_static_only": Metric("", None, "1 - mean frame difference; only for a still camera and scene"),
}


def measure(
    result: Tensor,  # [T, 3, H, W] in [-1, 1]
    source: SourceView,
    view: RenderedView,
    *,
    surface: SurfaceSettings,
    truth: Tensor | None = None,  # [T, 3, H, W] in [-1, 1]
    truth_depth: Tensor | None = None,  # [T, H, W]
    pivot_depth: float | None = None,
    seam_pixels: int = 16,
) -> dict[str, float]:
    """Return every metric of METRICS that this clip allows; what has no value (no truth) is absent.

    `view` is what was rendered (its visibility, target depth and cameras), `source` the clip it was
    rendered from. Consistency uses `truth_depth` where given, else the render's own depth, which holds no
    hole. `pivot_depth` (scene units) is what translation errors are a fraction of; by default the median
    known depth of the first source frame. Smoothness metrics reward doing nothing: print the copied source
    beside every result. Raises ValueError when the result does not have the view's shape.
    """
    if len(source.source_frame) != len(result):
        raise ValueError(f"measure: source_frame names {len(source.source_frame)} frames for {len(result)}")
    shows, sources = source.source_frame, len(source.video)
    suite = Suite(shows, sources, surface=surface, pivot_depth=pivot_depth, seam_pixels=seam_pixels)
    suite.add({"result": result}, source, view, truth=truth, truth_depth=truth_depth)
    return suite.scores()["result"]


class Suite:
    """The measurement of one clip's results, which are given part by part: no value depends on the parts.

    What depends on no result is computed once for all of them: the source as the new cameras see it, its
    features, its state at other moments, the regions.
    """

    def __init__(
        self,
        source_frame: Tensor,  # [T] int64, the source frame 0...sources-1 shown at each frame
        sources: int,
        *,
        surface: SurfaceSettings,
        pivot_depth: float | None = None,
        seam_pixels: int = 16,
    ) -> None:
        self._shows, self._sources = source_frame.cpu(), sources
        self._surface, self._pivot_depth, self._seam_pixels = surface, pivot_depth, seam_pixels
        self._tried = tried_frames(len(source_frame))
        self._offsets, self._timed = sync_frames(self._shows, sources)
        self._done = 0
        self._holes = self._covered = self._pixels = 0
        self._source_detail: dict[int, float] = {}
        self._results: dict[str, ResultScores] = defaultdict(ResultScores)

    def sources(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first source frame that the frames start...stop-1 need, and the one after the last.

        These are the frames shown there, those between them and the next frame's, and those around a frame
        at which timing is measured.
        """
        shows = self._shows[start : stop + 1]
        timed = self._shows[self._timed[(self._timed >= start) & (self._timed < stop)]]
        if len(timed):
            shows = torch.cat([shows, timed + int(self._offsets[0]), timed + int(self._offsets[-1])])
        return int(shows.min()), int(shows.max()) + 1

    def add(
        self,
        results: Mapping[str, Tensor],  # name -> [t, 3, H, W] in [-1, 1], the next frames
        source: SourceView,
        view: RenderedView,
        *,
        first: int = 0,
        truth: Tensor | None = None,  # [t, 3, H, W] in [-1, 1]
        truth_depth: Tensor | None = None,  # [t, H, W]
        copied: str | None = None,
    ) -> None:
        """Measure the next frames of every result; arguments as in `measure`.

        source: the frames from `first` on, all that `sources` names; its source_frame counts from there.
        copied: the result that is the source itself, which jobs measure along several trajectories.
        """
        for result in results.values():
            if result.shape != view.video.shape:
                raise ValueError(
                    f"measure: result {tuple(result.shape)} and render {tuple(view.video.shape)} differ in "
                    "shape; measure a result at the size and length it was rendered for"
                )
        stop = self._done + len(view.video)
        tried = self._tried[(self._tried >= self._done) & (self._tried < stop)] - self._done
        seam = None if truth is None else seam_ring(view.visible, self._seam_pixels)
        with turn():
            shown = self._look(source, view, tried, first, view.depth if truth_depth is None else truth_depth)
            frames = {name: self._results[name].on_device(video, shown) for name, video in results.items()}
            if truth is not None and seam is not None:
                for name, result in results.items():
                    self._results[name].add_fidelity(result, truth, view.visible, seam)
        self._beside(frames, shown, copied)
        self._done = stop

    def _look(
        self, source: SourceView, view: RenderedView, tried: np.ndarray, first: int, depth: Tensor
    ) -> Shown:
        """Return what the next frames should show, which depends on no result."""
        if self._pivot_depth is None:
            self._pivot_depth = median_depth(source)
        cameras = view.intrinsics, view.world_to_camera
        warped = looked_up(source, depth, *cameras)
        self._holes += int((~view.visible).sum())
        self._covered += int(warped.co_visible.sum())
        self._pixels += view.visible.numel()
        timed = self._timed[(self._timed >= self._done) & (self._timed < self._done + len(view.video))]
        timed = (timed - self._done).to(view.video.device)
        moments = None
        if len(timed):
            size = view.video.shape[2:]
            moments = ShownAtOffsets.of(source, timed, self._offsets, *cameras, self._surface, size)
        new = [n for n in range(len(source.video)) if first + n not in self._source_detail]
        return Shown(
            warped.video,
            warped.co_visible,
            timed,
            moments,
            tried,
            ShownFrames(source, tried, *cameras, self._pivot_depth),
            view.visible.cpu().numpy(),
            {first + n: np.asarray(to_grey(source.video[n])) for n in new},
        )

    def _beside(self, frames: Mapping[str, HostFrames], shown: Shown, copied: str | None) -> None:
        """Measure what the CPU measures: while it does, others may use the device."""
        results = {name: self._results[name] for name in frames}
        self._source_detail |= dict(zip(shown.source_grey, detail(list(shown.source_grey.values()))))
        poses = shown.poses.pose_errors({name: of.grey[shown.tried] for name, of in frames.items()})
        pairs = {name: results[name].warp.pairs(of.grey, of.colours) for name, of in frames.items()}
        errors = pair_errors(pairs, copied)
        inner = inner_masks(shown.visible)
        for name, of in frames.items():
            results[name].poses.append(poses[name])
            results[name].warp.add(errors[name])
            results[name].keep("detail", detail(list(of.grey)))
            results[name].keep("hole_sharpness_ratio", frame_hole_detail(of.grey, *inner))

    def scores(self) -> dict[str, dict[str, float]]:
        """Return each result's metrics, once all frames have been given."""
        if self._done != len(self._shows):
            raise ValueError(f"measure: {self._done} of {len(self._shows)} frames were given")
        shares = {"hole_share": self._holes / self._pixels, "coverage": self._covered / self._pixels}
        reference = float(np.mean(list(self._source_detail.values())))
        found = {}
        for name, result in self._results.items():
            scores = shares | dict(result.scores(self._tried, self._offsets, reference))
            found[name] = {metric: value for metric, value in scores.items() if not math.isnan(value)}
        return found


def median_depth(source: SourceView) -> float:
    """Return the median known depth of the first source frame; NaN when nothing of it is known."""
    known = source.depth[0][source.known[0]]
    return float(known.median()) if known.numel() else float("nan")
