"""Which finished frames of earlier trajectories are packed beside a clip, and what order that asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.models.fill.inpaint import background_depth
from recapture.models.fill.view import RenderedView
from recapture.models.fill.windows import Window
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.wan.packing import Positions


@dataclass(frozen=True)
class Geometry:
    """Where the surfaces and cameras of a finished view are."""

    depth: Tensor  # [T, H, W] z-depth, completed in what was repaired
    intrinsics: Tensor  # [T, 3, 3] pixels
    world_to_camera: Tensor  # [T, 4, 4] OpenCV


@dataclass(frozen=True)
class FinishedView:
    """A trajectory of the same clip that is filled already."""

    video: Tensor  # [T, 3, H, W] in [-1, 1], without holes
    visible: Tensor  # [T, H, W] bool, True where the source saw the pixel, False where it was repaired
    times: Tensor  # [T] int64, the frame of the new view that shows the same moment
    quality: float = 1.0  # 0...1, how far it is to be trusted
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        frames, _, height, width = self.video.shape
        if self.visible.shape != (frames, height, width) or self.times.shape != (frames,):
            raise ValueError(
                f"packing: a finished video {list(self.video.shape)} has visible {list(self.visible.shape)}"
                f" and times {list(self.times.shape)}; give one mask and one time per frame"
            )
        if not 0 <= self.quality <= 1:
            raise ValueError(f"packing: a quality of {self.quality:g}; use 0...1")


def finished_view(
    view: RenderedView,
    video: Tensor,  # [T, 3, H, W] in [-1, 1], the view filled
    times: Tensor,  # [T] int64, the frame of the new view that shows the same moment
    unpasted: Tensor | None = None,  # [T, 3, H, W] in [-1, 1], before known pixels were put back
) -> FinishedView:
    """Return a filled view as it may be packed, its depth completed by the background beside a hole.

    Its quality is 1 - e, where e is the root mean square error, as a share of the range, of what the base
    made of pixels that it was shown; 1 where it was shown none.
    """
    made = video if unpasted is None else unpasted
    error = (made - view.video).square().mean(1)[view.visible]
    quality = 1 - float(error.mean().sqrt()) / 2 if len(error) else 1.0
    depth = torch.stack([background_depth(*pair) for pair in zip(view.depth, view.visible)])
    geometry = Geometry(depth, view.intrinsics, view.world_to_camera)
    return FinishedView(video, view.visible, times, max(0.0, min(1.0, quality)), geometry)


def same_moments(earlier: Tensor, new: Tensor) -> Tensor:
    """Return the new view's frame at each earlier frame's moment, [S] int64; -1 where there is none.

    earlier [S], new [T]: int64 moments, in source frames. Where a view holds a moment, as in bullet time, the
    frame of the same number takes precedence, then the first.
    """
    moments = new.tolist()
    first = {moment: len(moments) - 1 - n for n, moment in enumerate(reversed(moments))}
    return torch.tensor(
        [
            n if n < len(moments) and moments[n] == moment else first.get(moment, -1)
            for n, moment in enumerate(earlier.tolist())
        ],
        dtype=torch.int64,
    )


@dataclass(frozen=True)
class Candidate:
    """A finished frame that may be packed: frame `frame` of earlier view `view`."""

    area: float  # share of the image that it repairs
    quality: float
    time: int  # frame of the new view
    view: int = 0
    frame: int = 0


@dataclass(frozen=True)
class Packing:
    """How many finished frames are packed beside each window, how far apart, and at which positions."""

    frames: int  # at most, per window
    spacing: int = 8  # frames of the new view between any two
    positions: Positions = "appended"

    def __post_init__(self) -> None:
        if self.frames < 0 or self.spacing < 0:
            raise ValueError(
                f"packing: {self.frames} frames {self.spacing} apart; neither can be less than 0"
            )


def choose_frames(candidates: Sequence[Candidate], k: int, spacing: int) -> list[int]:
    """Return the indices of at most k candidates, in order of time (then of index).

    Greedily the largest area * quality first, ties by the earlier index, none nearer than `spacing` frames in
    time to one taken before; those that repair nothing, or are worth nothing, are never taken. Source:
    EasyCreator takes the top k by repaired area; quality and spacing are this project's.
    """
    worth = [candidate.area * candidate.quality for candidate in candidates]
    taken: list[int] = []
    for n in sorted(range(len(candidates)), key=lambda n: -worth[n]):
        if len(taken) == k or worth[n] <= 0:
            break
        if all(abs(candidates[n].time - candidates[other].time) >= spacing for other in taken):
            taken.append(n)
    return sorted(taken, key=lambda n: (candidates[n].time, n))


def packing_candidates(
    earlier: Sequence[FinishedView], view: RenderedView, surface: SurfaceSettings
) -> list[Candidate]:
    """Return every frame of the earlier views at a time of the new view.

    A frame's area is what it covers of the new view's holes when it is rendered into the new view's camera
    (`covered_area`). Without geometry it is the share of its own image that was repaired, as in EasyCreator,
    which also counts what the new view does not look at. Raises ValueError for a view of another size.
    """
    height, width = view.visible.shape[1:]
    candidates = []
    for number, finished in enumerate(earlier):
        if finished.visible.shape[1:] != (height, width):
            raise ValueError(
                f"packing: an earlier view {list(finished.video.shape)} does not fit a clip of"
                f" {height}x{width} pixels; pack views of the clip's size"
            )
        frames = torch.nonzero((finished.times >= 0) & (finished.times < len(view.video))).flatten()
        if finished.geometry is None:
            area = (~finished.visible[frames]).float().mean((1, 2))
        else:
            area = covered_area(finished.geometry, frames, view, finished.times[frames], surface)
        for frame, share in zip(frames.tolist(), area.tolist()):
            time = int(finished.times[frame])
            candidates.append(Candidate(share, finished.quality, time, number, frame))
    return candidates


def covered_area(
    geometry: Geometry, frames: Tensor, view: RenderedView, times: Tensor, surface: SurfaceSettings
) -> Tensor:
    """Return the share [n] of the new view's image that is a hole and seen by `frames` [n] of another."""
    depth = geometry.depth[frames]
    seen = render(
        depth.new_zeros(len(depth), 3, *depth.shape[1:]),
        depth,
        geometry.intrinsics[frames],
        geometry.world_to_camera[frames],
        view.intrinsics[times],
        view.world_to_camera[times],
        surface=surface,
        size=(view.visible.shape[1], view.visible.shape[2]),
    )
    return (seen.visible & ~view.visible[times]).float().mean((1, 2))


def packed_in(candidates: Sequence[Candidate], packing: Packing, window: Window) -> tuple[Candidate, ...]:
    """Return the candidates that are packed beside a window, in order of time."""
    inside = [c for c in candidates if window.start <= c.time < window.stop]
    return tuple(inside[n] for n in choose_frames(inside, packing.frames, packing.spacing))


def packed_frames(earlier: Sequence[FinishedView], chosen: Sequence[Candidate]) -> Tensor | None:
    """Return the frames [K, 3, H, W] that were chosen; None for no frame at all."""
    return torch.stack([earlier[c.view].video[c.frame] for c in chosen]) if chosen else None
