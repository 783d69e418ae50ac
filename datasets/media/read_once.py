"""Hash a file while it is being decoded, so that its bytes are read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

import fsspec

_BLOCK = 1 << 20
_GAP = 4 << 20  # bytes; a longer jump ahead, as to an index at the end, is not followed by the hash


class HashedStream:
    """A readable stream whose bytes enter a hash in order as they are read; gaps are filled at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self._hashed = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        at = self._stream.tell()
        if self._hashed < at <= self._hashed + _GAP:
            self._stream.seek(self._hashed)
            self._fill(at)
        content = self._stream.read(size)
        if at <= self._hashed < at + len(content):
            self._digest.update(memoryview(content)[self._hashed - at :])
            self._hashed = at + len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as a file does."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def hexdigest(self) -> str:
        """Return the sha256 of all bytes; read those that nobody has read."""
        self._stream.seek(self._hashed)
        self._fill(None)
        return self._digest.hexdigest()

    def _fill(self, stop: int | None) -> None:
        while stop is None or self._hashed < stop:
            content = self._stream.read(_BLOCK if stop is None else min(_BLOCK, stop - self._hashed))
            if not content:
                return
            self._digest.update(content)
            self._hashed += len(content)


_hashed: ContextVar[tuple[str, HashedStream] | None] = ContextVar("hashed", default=None)


@contextmanager
def hashed(uri: str) -> Iterator[HashedStream]:
    """Open a file; `opened_file` gives the same stream for this URI within this context."""
    with fsspec.open(uri, "rb") as stream:
        token = _hashed.set((uri, HashedStream(stream)))
        try:
            yield _hashed.get()[1]  # type: ignore[index]
        finally:
            _hashed.reset(token)


@contextmanager
def opened_file(uri: str) -> Iterator[Any]:
    """Open a file to be read from its beginning."""
    held = _hashed.get()
    if held is not None and held[0] == uri:
        held[1].seek(0)
        yield held[1]
        return
    with fsspec.open(uri, "rb") as stream:
        yield stream
