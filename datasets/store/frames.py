"""Store the per-frame arrays of an artifact in chunks: memory is bounded for a video of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from recapture.datasets.store.behind import Behind
from recapture.datasets.store.residuals import pack_frames, stored_name, unpack_array

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

    def read_npz(self, name: str, wanted: Callable[[str], bool] = ...) -> dict[str, np.ndarray]: ...

    def read_json(self, name: str) -> Any: ...


class FrameWriter:
    """A writer of arrays with a leading time axis: frames-00000.npz, ... of `chunk` frames each.

    The files depend only on the frames and `chunk`, not on how the frames are divided over calls. Pictures
    and float32 [T,H,W] are stored as residuals (see residuals.py), exactly unless `mantissa` says how many
    bits of a float's mantissa to keep, by the name of the array. Full chunks are packed and stored by a
    thread; if that fails, the next call or the end raises it.
    """

    def __init__(
        self,
        artifact: WritableArtifact,
        chunk: int = DEFAULT_CHUNK,
        mantissa: Mapping[str, int] | None = None,
    ) -> None:
        self._artifact, self._chunk, self._mantissa = artifact, chunk, dict(mantissa or {})
        self._pending: dict[str, list[np.ndarray]] = {}
        self._frames = self._files = 0
        self._behind = Behind()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._behind.give_up()

    def append(self, **arrays: np.ndarray) -> None:
        """Add frames: every array is [t, ...] with the same t; names, types and sizes must not change."""
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"frames: arrays of one call differ in length: {lengths}")
        if self._pending and self._pending.keys() != arrays.keys():
            raise ValueError(f"frames: expected arrays {sorted(self._pending)}, got {sorted(arrays)}")
        held = self._pending or {name: [array] for name, array in arrays.items()}
        for name, array in arrays.items():
            first = held[name][0]
            was, now = (first.dtype, first.shape[1:]), (array.dtype, array.shape[1:])
            if was != now:
                raise ValueError(f"frames: array {name!r} was {was[0]} {was[1]}, now it is {now[0]} {now[1]}")
        for name, array in arrays.items():
            self._pending.setdefault(name, []).append(array.copy())
        while self._held >= self._chunk:
            self._behind.do(self._next(self._chunk))

    def close(self) -> None:
        """Write the remaining frames and the index."""
        self._behind.finish()
        if self._held:
            self._next(self._held)()
        self._artifact.write_json(INDEX, {"frames": self._frames, "chunk": self._chunk})

    @property
    def _held(self) -> int:
        return sum(map(len, next(iter(self._pending.values())))) if self._pending else 0

    def _next(self, count: int) -> Callable[[], None]:
        """Take the next frames out of those that are held; return what stores them."""
        part, rest = dict[str, np.ndarray](), dict[str, list[np.ndarray]]()
        for name in list(self._pending):
            whole = _whole(self._pending.pop(name))
            after = whole[count:]
            part[name], rest[name] = whole[:count], [after if len(after) >= count else after.copy()]
        self._pending = rest
        store = partial(self._store, chunk_name(self._files), part)
        self._files += 1
        self._frames += count
        return store

    def _store(self, name: str, part: dict[str, np.ndarray]) -> None:
        self._artifact.write_npz(name, **pack_frames(part, self._mantissa))


def _whole(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class FrameReader:
    """A reader of any range of frames; it keeps the last file, so reading forward reads each file once."""

    def __init__(self, artifact: ReadableArtifact) -> None:
        self._artifact = artifact
        index = artifact.read_json(INDEX)
        self.frames: int = index["frames"]
        self._chunk: int = index["chunk"]
        # number and arrays of a file, and whether these are all; set at once, for threads may share a reader
        self._kept: tuple[int, dict[str, np.ndarray], bool] = (-1, {}, False)

    def read(self, start: int, stop: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Return name -> frames start to stop-1, of all arrays unless `names` are given.

        Raises ValueError outside the video, KeyError for an array that it does not have.
        """
        if not 0 <= start < stop <= self.frames:
            raise ValueError(
                f"frames {start}...{stop - 1} of artifact {self._artifact.key} "
                f"(stage {self._artifact.stage!r}) were requested; it has {self.frames}"
            )
        parts = list(self._parts(start, stop, names))
        if stop == self.frames:
            self._kept = (-1, {}, False)  # nothing is in front of it
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _parts(self, start: int, stop: int, names: Sequence[str] | None) -> Iterator[dict[str, np.ndarray]]:
        for number in range(start // self._chunk, (stop - 1) // self._chunk + 1):
            first = number * self._chunk
            window = slice(max(start - first, 0), stop - first)
            yield {name: array[window] for name, array in self._load(number, names).items()}

    def _load(self, number: int, names: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Return the arrays of a file; those that are kept already are not read again."""
        last, kept, whole = self._kept
        if last != number:
            kept, whole = {}, False
        if not whole and (names is None or not kept.keys() >= set(names)):
            self._kept = (-1, {}, False)  # two files at once would take twice the memory
            stored = self._artifact.read_npz(
                chunk_name(number),
                lambda member: (
                    stored_name(member) not in kept and (names is None or stored_name(member) in names)
                ),
            )
            kept = kept | {
                name: unpack_array(stored, name) for name in dict.fromkeys(map(stored_name, stored))
            }
            self._kept = (number, kept, names is None)
        return kept if names is None else {name: kept[name] for name in names}


def chunk_name(number: int) -> str:
    """Return the file name of a chunk."""
    return f"frames-{number:05d}.npz"
