"""Finished parts of an artifact that is being made: a long one that was stopped is resumed from them.

A part is an artifact of its own, of the stage STAGE-parts, in no manifest: garbage collection removes what is
left of them, and the whole removes its own when it is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.storage import StoreFailed


class Store(Protocol):
    """What is needed of an ArtifactStore, whose writers have parts themselves."""

    def create(self, stage: str, key: str) -> Any: ...

    def whole(self, stage: str, keys: Iterable[str]) -> Mapping[str, Artifact]: ...

    def delete(self, stage: str, key: str) -> None: ...


class Parts:
    """The parts of one artifact, by names that its stage gives them."""

    def __init__(self, store: Store, stage: str, key: str) -> None:
        self._store, self._whole = store, key
        self._stage = f"{stage}-parts"
        self._known: set[str] = set()

    def key(self, name: str) -> str:
        """Return the content key of a part."""
        return content_key(self._stage, "1", {}, {"whole": self._whole}, {"part": name})

    def create(self, name: str) -> Any:
        """Return an ArtifactWriter of a part, to be used as a context manager."""
        self._known.add(name)
        return self._store.create(self._stage, self.key(name))

    def finished(self, name: str) -> Artifact | None:
        """Return a part if it is committed and its files have their sizes."""
        found = self._store.whole(self._stage, [self.key(name)])
        self._known.update(name for _ in found)
        return next(iter(found.values()), None)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return the names of the parts that are not finished."""
        return [name for name in names if self.finished(name) is None]

    def discard(self, name: str) -> None:
        """Delete a part, such as a damaged one."""
        with suppress(StoreFailed, ArtifactError):
            self._store.delete(self._stage, self.key(name))

    def clear(self) -> None:
        """Delete the parts that this has created or found; what cannot be deleted is left for collection."""
        for name in self._known:
            self.discard(name)
        self._known.clear()
