"""Quarantine: items that failed permanently, with their reasons, until a user retries or drops them.

Layout: {root}/quarantine/{dataset}/{stage}/{key}.json.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

from recapture.datasets.store.storage import check_plain, open_filesystem, put_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quarantined:
    """One failed item. A dropped item is excluded permanently and no longer counts as missing."""

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
        found = (self._read(path) for path in self._paths(stage))
        return sorted(
            (entry for entry in found if entry is not None),
            key=lambda entry: (entry.stage, entry.item, entry.key),
        )

    def held(self, stage: str, keys: Collection[str]) -> dict[str, Quarantined]:
        """Return key -> entry for those of the keys that are quarantined or dropped at a stage."""
        wanted = {f"/{key}.json" for key in keys}
        paths = (path for path in self._paths(stage) if path[path.rindex("/") :] in wanted)
        return {entry.key: entry for path in paths if (entry := self._read(path)) is not None}

    def matching(self, key: str) -> list[Quarantined]:
        """Return the entries whose key begins with `key`; none for an empty one."""
        return [entry for entry in self.entries() if key and entry.key.startswith(key)]

    def retry(self, entry: Quarantined) -> None:
        """Delete an entry: the next run tries the item again."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(entry))

    def drop(self, entry: Quarantined) -> None:
        """Exclude an item permanently."""
        self.add(replace(entry, state="dropped"))

    def _path(self, entry: Quarantined) -> str:
        check_plain("stage", entry.stage)
        check_plain("key", entry.key)
        return f"{self._folder}/{entry.stage}/{entry.key}.json"

    def _paths(self, stage: str | None) -> list[str]:
        folder = f"{self._folder}/{stage}" if stage else self._folder
        self._filesystem.invalidate_cache()
        if not self._filesystem.exists(folder):
            return []
        return [path for path in self._filesystem.find(folder) if path.endswith(".json")]

    def _read(self, path: str) -> Quarantined | None:
        try:
            entry = Quarantined(**json.loads(self._filesystem.cat_file(path)))
            if path.endswith(f"/{entry.stage}/{entry.key}.json"):
                return entry
            problem = f"it holds the entry of {entry.stage}/{entry.key}"
        except FileNotFoundError:  # retried since the listing
            return None
        except (ValueError, TypeError) as error:
            problem = str(error)
        logger.warning("quarantine entry %s is ignored, its item is tried again: %s", path, problem)
        return None
