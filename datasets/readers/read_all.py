"""Read the clips that a scan has found: those that are remembered at once, the others several at a time."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fsspec.core import url_to_fs

from recapture.datasets.clips.clip import Clip, Rejected, validate_clip_id
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.scan_memory import ScanMemory
from recapture.datasets.readers.unread import Found, Unread
from recapture.datasets.store.storage import StoreBusy, StoreFailed, raising_storage_faults

logger = logging.getLogger(__name__)

REQUESTS = 16  # files that are read at once; on a local disk no more than there are processors
_SPOKEN_EVERY = 30.0  # seconds
Read = tuple[Clip | Rejected, Asked]


def read_all(found: Iterable[Found], folders: Folders, memory: ScanMemory | None) -> Iterator[Found]:
    """Yield what was found with every unread entry replaced by its clip, or by a rejection.

    Raises: StoreBusy if the storage is unreachable, which is the fault of no clip.
    """
    unread: list[Unread] = []
    for item in found:
        if not isinstance(item, Unread):
            yield item
            continue
        known = memory.recall(item.id, item.uri, folders) if memory else None
        if known is not None:
            yield known
        else:
            unread.append(item)
    try:
        for clip, asked in _several(unread, folders):
            if memory is not None and isinstance(clip, Clip):
                memory.note(clip, asked, folders)
            yield clip
    finally:
        if memory is not None:
            memory.close()


def _several(unread: list[Unread], folders: Folders) -> Iterator[Read]:
    """Read entries in parallel, with a bounded number in flight."""
    if not unread:
        return
    fs, _ = url_to_fs(unread[0].uri)
    workers = REQUESTS if getattr(fs, "async_impl", False) else min(REQUESTS, os.cpu_count() or 1)
    done, spoken, remaining = 0, time.monotonic(), iter(unread)
    with ThreadPoolExecutor(workers, thread_name_prefix="scan") as pool:
        running: set[Future[Read]] = set()
        try:
            while True:
                for item in remaining:
                    running.add(pool.submit(_read, item, folders))
                    if len(running) >= 4 * workers:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    running.remove(future)
                    yield future.result()
                    done += 1
                if time.monotonic() - spoken > _SPOKEN_EVERY:
                    logger.info("%d of %d new clips are read", done, len(unread))
                    spoken = time.monotonic()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(item: Unread, folders: Folders) -> Read:
    asked = Asked(folders)
    try:
        validate_clip_id(item.id)
        with raising_storage_faults(item.uri, writing=False):
            return item.read(asked), asked
    except Exception as error:  # one bad entry must not stop the others
        cause = error.__cause__ if isinstance(error, StoreFailed) else None
        if isinstance(error, StoreBusy) and getattr(cause, "errno", None) != errno.EIO:
            raise
        return Rejected.because(item.id, item.uri, cause if isinstance(cause, Exception) else error), asked
