"""Store the per-frame arrays of an artifact in chunks: memory is bounded for a video of any length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

DEFAULT_CHUNK = 64
INDEX = "frames.json"


class WritableArtifact(Protocol):
    """What a FrameWriter needs of an artifact."""

    def write_npz(self, name: str, /, **arrays: np.ndarray) -> None: ...

    def write_json(self, name: str, value: Any) -> None: ...


class ReadableArtifact(Protocol):
    """What a FrameReader needs of an artifact."""

    stage: str
    key: str

    def read_npz(self, name: str) -> dict[str, np.ndarray]: ...

    def read_json(self, name: str) -> Any: ...


class FrameWriter:
    """A writer of arrays with a leading time axis: frames-00000.npz, ... of `chunk` frames each.

    The files depend only on the frames and `chunk`, not on how the frames are divided over calls.
    """

    def __init__(self, artifact: WritableArtifact, chunk: int = DEFAULT_CHUNK) -> None:
        self._artifact, self._chunk = artifact, chunk
        self._pending: dict[str, np.ndarray] = {}
        self._frames = self._files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def append(self, **arrays: np.ndarray) -> None:
        """Add frames: every array is [t, ...] with the same t; names, types and sizes must not change."""
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"frames: arrays of one call differ in length: {lengths}")
        if self._pending and self._pending.keys() != arrays.keys():
            raise ValueError(f"frames: expected arrays {sorted(self._pending)}, got {sorted(arrays)}")
        held = self._pending or {name: array[:0] for name, array in arrays.items()}
        for name, array in arrays.items():
            was, now = (held[name].dtype, held[name].shape[1:]), (array.dtype, array.shape[1:])
            if was != now:
                raise ValueError(f"frames: array {name!r} was {was[0]} {was[1]}, now it is {now[0]} {now[1]}")
        self._pending = {name: np.concatenate([held[name], array]) for name, array in arrays.items()}
        while self._held >= self._chunk:
            self._write(self._chunk)

    def close(self) -> None:
        """Write the remaining frames and the index."""
        if self._held:
            self._write(self._held)
        self._artifact.write_json(INDEX, {"frames": self._frames, "chunk": self._chunk})

    @property
    def _held(self) -> int:
        return len(next(iter(self._pending.values()))) if self._pending else 0

    def _write(self, count: int) -> None:
        part = {name: array[:count] for name, array in self._pending.items()}
        self._artifact.write_npz(chunk_name(self._files), **part)
        self._pending = {name: array[count:].copy() for name, array in self._pending.items()}
        self._files += 1
        self._frames += count


class FrameReader:
    """A reader of any range of frames; it caches the last chunk, so reading forward reads each file once."""

    def __init__(self, artifact: ReadableArtifact) -> None:
        self._artifact = artifact
        index = artifact.read_json(INDEX)
        self.frames: int = index["frames"]
        self._chunk: int = index["chunk"]
        self._cached: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def read(self, start: int, stop: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Return name -> frames start to stop-1; raises ValueError outside the video."""
        if not 0 <= start < stop <= self.frames:
            raise ValueError(
                f"frames {start}...{stop - 1} of artifact {self._artifact.key} "
                f"(stage {self._artifact.stage!r}) were requested; it has {self.frames}"
            )
        parts = list(self._parts(start, stop))
        wanted = parts[0].keys() if names is None else names
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    def _parts(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        for number in range(start // self._chunk, (stop - 1) // self._chunk + 1):
            first = number * self._chunk
            window = slice(max(start - first, 0), stop - first)
            yield {name: array[window] for name, array in self._load(number).items()}

    def _load(self, number: int) -> dict[str, np.ndarray]:
        if self._cached[0] != number:
            self._cached = (number, self._artifact.read_npz(chunk_name(number)))
        return self._cached[1]


def chunk_name(number: int) -> str:
    """Return the file name of a chunk."""
    return f"frames-{number:05d}.npz"
