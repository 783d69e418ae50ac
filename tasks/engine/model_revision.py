"""The path and the content hash of a model that a setting names; content keys contain the hash."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import recapture
from recapture.conf.errors import UserError
from recapture.conf.section import EMBEDDED
from recapture.datasets.store.model_hashes import directory_hash, remembered_hash

WEIGHTS = Path(recapture.__file__).parent / "weights"
_EMBEDDED = {"fill.base": "base", "depth.model": "depth", "measure.learned.features": "features"}
_seen: ContextVar[dict[Hashable, Any] | None] = ContextVar("seen", default=None)
Found = TypeVar("Found")


def model_path(setting: str, value: str) -> str:
    """Return the local directory or file that a setting names; 'embedded' is the model in the package."""
    return str(WEIGHTS / _EMBEDDED[setting]) if value == EMBEDDED and setting in _EMBEDDED else value


@contextmanager
def models_looked_at_once() -> Iterator[None]:
    """Cache what `once` finds within this context: a plan asks once per clip."""
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def once(question: Hashable, look: Callable[[], Found]) -> Found:
    """Return look(), cached by question within `models_looked_at_once`."""
    seen = _seen.get()
    if seen is None:
        return look()
    if question not in seen:
        seen[question] = look()
    found: Found = seen[question]
    return found


def model_revision(setting: str, value: str) -> str:
    """Return the hash of a model directory or file; raise UserError naming the setting if there is none."""
    return once(("revision", setting, value), lambda: _revision(setting, model_path(setting, value)))


def file_revision(path: str) -> str:
    """Return the hash of a local file such as an adapter, read once per plan and only if it has changed."""
    return once(("file", path), lambda: remembered_hash(path))


def _revision(setting: str, path: str) -> str:
    try:
        return remembered_hash(path) if Path(path).is_file() else directory_hash(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{setting}: {error}; name a local model") from error
