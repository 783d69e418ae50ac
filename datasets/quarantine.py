"""Quarantine: items that failed for good, with their reasons, until somebody retries or drops them.

Layout: {root}/quarantine/{dataset}/{stage}/{key}.json.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

from recapture.datasets.store import open_filesystem, put_file


@dataclass(frozen=True)
class Quarantined:
    """One failed item. A dropped one is left out for good and no longer counts as missing."""

    item: str
    clip_id: str
    stage: str
    key: str
    error_type: str
    error: str
    traceback: str
    attempts: int
    run_id: str
    state: Literal["quarantined", "dropped"] = "quarantined"


class Quarantine:
    """The quarantined items of one dataset."""

    def __init__(self, root: str, dataset: str) -> None:
        self._filesystem, base = open_filesystem(root)
        self._folder = f"{base}/quarantine/{dataset}"

    def add(self, entry: Quarantined) -> None:
        """Write or overwrite an entry."""
        put_file(self._filesystem, self._path(entry), json.dumps(asdict(entry), indent=1).encode())

    def entries(self, stage: str | None = None) -> list[Quarantined]:
        """Return all entries, of one stage or of all, ordered by stage and item."""
        folder = f"{self._folder}/{stage}" if stage else self._folder
        self._filesystem.invalidate_cache()
        if not self._filesystem.exists(folder):
            return []
        files = [path for path in self._filesystem.find(folder) if path.endswith(".json")]
        found = [Quarantined(**json.loads(self._filesystem.cat_file(path))) for path in files]
        return sorted(found, key=lambda entry: (entry.stage, entry.item, entry.key))

    def matching(self, key: str) -> list[Quarantined]:
        """Return the entries whose key begins with `key`; all of them for 'all'."""
        if not key:
            return []
        return [entry for entry in self.entries() if key == "all" or entry.key.startswith(key)]

    def retry(self, entry: Quarantined) -> None:
        """Forget an entry: the next run tries the item again."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(entry))

    def drop(self, entry: Quarantined) -> None:
        """Leave an item out for good."""
        self.add(replace(entry, state="dropped"))

    def _path(self, entry: Quarantined) -> str:
        return f"{self._folder}/{entry.stage}/{entry.key}.json"
