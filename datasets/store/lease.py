"""Leases: by which jobs keep from garbage collection what no manifest names yet.

Layout: {root}/leases/{run}.json, written again every minute while the job runs. A job that ends well removes
its own. That of a killed job stays, and protects what the job made as long as its artifacts may be of use.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import fsspec

from recapture.datasets.store.storage import changed_at, check_plain, open_filesystem, put_file

logger = logging.getLogger(__name__)
REFRESH_SECONDS = 60.0
STALE_SECONDS = 900.0  # without a refresh: many times the above, as storage may be slow and clocks differ
SLACK_SECONDS = 300.0  # by which the clocks of a job and of its storage may differ


@dataclass(frozen=True)
class Lease:
    """A job that runs, or was killed."""

    run_id: str
    dataset: str
    started: float  # seconds since 1970
    seen: float  # when it was last refreshed
    path: str

    @property
    def live(self) -> bool:
        """Return whether the job is still running, as far as anybody can tell."""
        return time.time() - self.seen < STALE_SECONDS

    def protects(self, older_than_hours: float) -> bool:
        """Return whether what the job made is kept: until that many hours after it was last seen."""
        return self.live or time.time() - self.seen < older_than_hours * 3600


@contextmanager
def lease(root: str, run_id: str, dataset: str) -> Iterator[None]:
    """Hold a lease on a store; after an error it is left as a killed job would leave it."""
    check_plain("run", run_id)
    filesystem, base = open_filesystem(root)
    path = f"{base}/leases/{run_id}.json"
    content = json.dumps({"dataset": dataset, "started": time.time()}).encode()
    put_file(filesystem, path, content)
    done = threading.Event()

    def refresh() -> None:
        while not done.wait(REFRESH_SECONDS):
            try:
                put_file(filesystem, path, content)
            except Exception as error:
                logger.debug("the lease %s cannot be refreshed: %s", path, type(error).__name__)

    refreshing = threading.Thread(target=refresh, daemon=True)
    refreshing.start()
    try:
        yield
    except BaseException:
        done.set()
        raise
    done.set()
    refreshing.join()  # or it would write the file once more
    with suppress(Exception):
        filesystem.rm_file(path)


def leases(root: str) -> list[Lease]:
    """Return the leases on a store; one that cannot be read protects everything while it is fresh."""
    return leases_below(*open_filesystem(root))


def leases_below(filesystem: fsspec.AbstractFileSystem, base: str) -> list[Lease]:
    """Do as `leases` for an opened storage and the path of the store in it."""
    filesystem.invalidate_cache()
    folder = f"{base}/leases"
    if not filesystem.exists(folder):
        return []
    found = []
    for entry in filesystem.ls(folder, detail=True):
        path = entry["name"]
        name = path.rsplit("/", 1)[1]
        if not name.endswith(".json") or name.startswith("."):
            continue
        record: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError):
            record = dict(json.loads(filesystem.cat_file(path)))
        started = float(record.get("started", 0.0)) - SLACK_SECONDS
        dataset = str(record.get("dataset", ""))
        found.append(Lease(name.removesuffix(".json"), dataset, started, changed_at(entry), path))
    return found
