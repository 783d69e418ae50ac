"""Clips longer than a filler's window: overlapping windows of 4n+1 frames, and their joining cross-fade."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Frames start...stop-1 of the clip, padded to `length` frames by repeating the last one."""

    start: int
    stop: int
    length: int  # 4n+1, >= stop - start

    def indices(self) -> list[int]:
        """Return the clip's frame at each of the window's `length` frames."""
        return [min(frame, self.stop - 1) for frame in range(self.start, self.start + self.length)]


def windows(frames: int, length: int = 49, overlap: int = 8) -> list[Window]:
    """Cover a clip of `frames` frames by the fewest windows of `length` = 4n+1, spread evenly.

    Neighbours share at least `overlap` frames; what the windows cover beyond the clip's length is divided
    among all overlaps, and no frame is invented. A clip shorter than `length` is one window of the next 4n+1
    frames, padded by repeating its last frame. Raises ValueError for a length that is not 4n+1, no frames, or
    an overlap that is negative or over length / 2.
    """
    if frames < 1 or length < 1 or length % 4 != 1:
        raise ValueError(
            f"fill: cannot cut {frames} frames into windows of {length}; windows have 4n+1 frames"
        )
    if not 0 <= overlap <= length // 2:
        raise ValueError(
            f"fill: an overlap of {overlap} frames does not fit windows of {length}; use 0...{length // 2}"
        )
    if frames <= length:
        return [Window(0, frames, frames + (1 - frames) % 4)]
    steps = -(-(frames - length) // (length - overlap))  # from each window to the next, rounded up
    starts = [step * (frames - length) // steps for step in range(steps + 1)]
    return [Window(start, start + length, length) for start in starts]


def window_weights(spans: Sequence[Window], overlap: int) -> list[Tensor]:
    """Return each window's weight at its frames, [stop - start] float64; they sum to 1 at each frame.

    Neighbours fade linearly into each other over the `overlap` frames in the middle of what they share (a cut
    there, if it is 0). Before and after that each frame comes from one window alone: the mean of two
    independent samples is softer than either.
    """
    fades = [(after.start + before.stop - overlap) // 2 for before, after in pairwise(spans)]
    weights = []
    for n, span in enumerate(spans):
        frame = torch.arange(span.start, span.stop, dtype=torch.float64)
        weight = torch.ones_like(frame)
        if n > 0:
            weight = _faded_in(frame, fades[n - 1], overlap)
        if n + 1 < len(spans):
            weight = weight - _faded_in(frame, fades[n], overlap)
        weights.append(weight)
    return weights


def _faded_in(frame: Tensor, start: int, overlap: int) -> Tensor:
    """Return the share of the later window: 0 before frame `start`, 1 from start + overlap on."""
    return ((frame - start + 1) / (overlap + 1)).clamp(0, 1)


class WindowJoin:
    """Joins filled windows, given in order, into the clip; holds back only what the next ones share.

    overlap: frames over which neighbours fade into each other, as given to `windows`.
    """

    def __init__(self, spans: Sequence[Window], overlap: int) -> None:
        self._spans = list(spans)
        self._weights = window_weights(self._spans, overlap)
        self._next = 0
        self._pending: Tensor | None = (
            None  # float64 sum of the frames from `_start` on that are not final yet
        )
        self._start = 0

    def add(self, video: Tensor) -> Tensor:
        """Take the next window's result, [length, ...] (padding is dropped), and return the frames now final.

        Where a frame has one window alone it comes back bit for bit, and so does every value on which the
        windows that share a frame agree.
        """
        if self._next >= len(self._spans):
            raise ValueError(f"fill: all {len(self._spans)} windows of this clip were joined already")
        span, weight = self._spans[self._next], self._weights[self._next]
        if len(video) != span.length:
            raise ValueError(
                f"fill: window {self._next} (frames {span.start}...{span.stop - 1}) must return"
                f" {span.length}, not {len(video)} frames"
            )
        self._next += 1
        video = video[: span.stop - span.start]
        share = weight.to(video.device).reshape(-1, *([1] * (video.ndim - 1))) * video.double()
        if self._pending is not None:
            shared = len(self._pending) - (span.start - self._start)
            if shared > 0:
                share[:shared] += self._pending[span.start - self._start :]
            share = torch.cat([self._pending[: span.start - self._start], share])
        final_until = self._spans[self._next].start if self._next < len(self._spans) else span.stop
        done = final_until - self._start
        final, self._pending = share[:done], share[done:]
        self._start = final_until
        return final.to(video.dtype)


def join_windows(spans: Sequence[Window], videos: Iterable[Tensor], overlap: int) -> Iterator[Tensor]:
    """Yield the clip, piece by piece, from its windows' results in order; see `WindowJoin`."""
    join = WindowJoin(spans, overlap)
    for video in videos:
        yield join.add(video)
