"""Clips longer than a filler's window: overlapping windows of 4n+1 frames, and their joining cross-fade."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
    """Cover a clip of `frames` frames by windows of `length` = 4n+1 frames, neighbours sharing `overlap`.

    The last window is shifted back so that it ends with the clip: its overlap is larger, and no frame is
    invented. A clip shorter than `length` is one window of the next 4n+1 frames, padded by repeating its
    last frame. Raises ValueError for a length that is not 4n+1, no frames, or an overlap that is negative
    or over length / 2.
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
    starts = list(range(0, frames - length, length - overlap))
    return [Window(start, start + length, length) for start in [*starts, frames - length]]


def window_weights(spans: Sequence[Window]) -> list[Tensor]:
    """Return each window's weight at its frames, [stop - start] float64; they sum to 1 at each frame.

    A window's weight is a trapezoid that rises linearly over what it shares with the one before and falls
    over what it shares with the one after; where the shifted last window makes three overlap, the sum is
    normalised.
    """
    raw = []
    for n, span in enumerate(spans):
        frame = torch.arange(span.start, span.stop, dtype=torch.float64)
        weight = torch.ones_like(frame)
        if n > 0:
            shared = spans[n - 1].stop - span.start
            weight = torch.minimum(weight, (frame - span.start + 1) / (shared + 1))
        if n + 1 < len(spans):
            shared = span.stop - spans[n + 1].start
            weight = torch.minimum(weight, (span.stop - frame) / (shared + 1))
        raw.append(weight)
    total = torch.zeros(max(span.stop for span in spans), dtype=torch.float64)
    for span, weight in zip(spans, raw):
        total[span.start : span.stop] += weight
    return [weight / total[span.start : span.stop] for span, weight in zip(spans, raw)]


class WindowJoin:
    """Joins filled windows, given in order, into the clip; holds back only what the next ones share."""

    def __init__(self, spans: Sequence[Window]) -> None:
        self._spans = list(spans)
        self._weights = window_weights(self._spans)
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


def join_windows(spans: Sequence[Window], videos: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the clip, piece by piece, from its windows' results in order; see `WindowJoin`."""
    join = WindowJoin(spans)
    for video in videos:
        yield join.add(video)
