"""What earlier scans of a dataset have found, in the store: a clip is read again if its files change.

Layout: {store}/scans/{hash of the dataset's URI}.parquet, one row per clip: the clip, the questions to
folders that it depends on, and a digest of their answers. Several scans may write it at once: the last one
wins, and what the others found is read again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from dataclasses import fields

import pyarrow as pa
import pyarrow.parquet as pq

from recapture.conf.redact import without_credentials
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.asked import Asked, answer, can_be_remembered
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.index import INDEX_SCHEMA
from recapture.datasets.store.storage import StoreFailed, changed_at, open_filesystem, put_file

logger = logging.getLogger(__name__)

VERSION = "1"  # raise it when the same files would give other clips
SAVED_EVERY = 60.0  # seconds between saves during a long scan
TOUCHED_EVERY = 7 * 86400.0  # seconds; `recapture gc` deletes what has not been saved for long
_SCHEMA = pa.schema(
    [*INDEX_SCHEMA, pa.field("asked", pa.list_(pa.string())), pa.field("answer", pa.string())]
)
_FIELDS = [field.name for field in fields(Clip)]
Remembered = tuple[Clip, tuple[str, ...], str]  # clip, questions, answer


def open_memory(store: str, dataset_uri: str, kind: str) -> ScanMemory | None:
    """Return the memory of a dataset's scans; None if the store cannot be reached, which its job reports."""
    try:
        return ScanMemory(store, dataset_uri, kind)
    except Exception as error:
        logger.debug("the store %s has no memory of scans: %s", without_credentials(store), error)
        return None


class ScanMemory:
    """The clips that earlier scans of one dataset have found.

    What has credentials in its URIs is not remembered, for they must not be stored.
    """

    def __init__(self, store: str, dataset_uri: str, kind: str) -> None:
        self._filesystem, base = open_filesystem(store)
        named = hashlib.sha256(f"{VERSION} {kind} {dataset_uri}".encode()).hexdigest()[:16]
        self._path = f"{base}/scans/{named}.parquet"
        self._age = 0.0  # seconds
        self._old = self._read()
        self._new: dict[tuple[str, str], Remembered] = {}
        self._changed = False
        self._saved = time.monotonic()

    def recall(self, clip_id: str, uri: str, folders: Folders) -> Clip | None:
        """Return a clip as it was found, if none of its files has changed since."""
        found = self._old.get((clip_id, uri))
        if found is None or answer(folders, found[1]) != found[2]:
            return None
        self._new[clip_id, uri] = found
        return found[0]

    def note(self, clip: Clip, asked: Asked, folders: Folders) -> None:
        """Remember a clip that was read, unless a change of its files could go unnoticed."""
        told = str((clip, asked.questions))
        if can_be_remembered(folders, asked.questions) and without_credentials(told) == told:
            self._new[clip.id, clip.uri] = clip, asked.questions, answer(folders, asked.questions)
            self._changed = True
        if time.monotonic() - self._saved > SAVED_EVERY:
            started = time.monotonic()
            self._write(self._old | self._new)
            self._saved = time.monotonic() + 10 * (time.monotonic() - started)

    def close(self) -> None:
        """Save what this scan has found; a store that cannot be written costs time only."""
        stale = self._age > TOUCHED_EVERY  # or it would look as if nobody used it
        unseen = self._old.keys() - self._new.keys()
        if self._changed or (self._new and (stale or len(unseen) > len(self._new))):
            # What was not seen may be on a disk that is not mounted; it is kept while more was seen.
            kept = self._old if len(unseen) <= len(self._new) else {}
            self._write(kept | self._new)

    def _write(self, remembered: dict[tuple[str, str], Remembered]) -> None:
        columns = {name: [getattr(clip, name) for clip, _, _ in remembered.values()] for name in _FIELDS}
        columns["asked"] = [list(questions) for _, questions, _ in remembered.values()]
        columns["answer"] = [answered for _, _, answered in remembered.values()]
        table = pa.Table.from_pydict(columns, schema=_SCHEMA)
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        try:
            put_file(self._filesystem, self._path, content.getvalue())
        except (StoreFailed, OSError, ValueError) as error:
            logger.warning(
                "what the scan found cannot be remembered, so the next one reads it again: %s", error
            )

    def _read(self) -> dict[tuple[str, str], Remembered]:
        try:
            self._filesystem.invalidate_cache()
            content = self._filesystem.cat_file(self._path)
            self._age = time.time() - changed_at(self._filesystem.info(self._path))
        except FileNotFoundError:
            return {}
        except Exception as error:  # the storage is the job's to report, when it writes
            logger.warning("%s cannot be read, so the dataset is read again: %s", self._path, error)
            return {}
        try:
            held = pq.read_table(io.BytesIO(content), schema=_SCHEMA).to_pydict()
        except (pa.ArrowException, OSError, ValueError) as error:
            logger.warning("%s is damaged, so the dataset is read again: %s", self._path, error)
            return {}
        rows = zip(*(held[name] for name in _FIELDS), strict=True)
        clips = [Clip(**dict(zip(_FIELDS, row, strict=True))) for row in rows]
        found = zip(clips, map(tuple, held["asked"]), held["answer"], strict=True)
        return {(clip.id, clip.uri): (clip, questions, answered) for clip, questions, answered in found}
