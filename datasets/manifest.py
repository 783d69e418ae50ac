"""Manifests: one Parquet row an item and run of a stage, append-only, one writer a part.

Layout: {root}/manifests/{dataset}/{stage}/part-{run}-{shard}.parquet. The newest row of a key counts.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain, count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recapture.datasets.store import open_filesystem, put_file

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("item", pa.string()),
        ("key", pa.string()),
        ("stage", pa.string()),
        ("status", pa.string()),
        ("attempts", pa.int16()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("device", pa.string()),
        ("vram_peak_mb", pa.float64()),
        ("parent_keys", pa.list_(pa.string())),
        ("code_version", pa.string()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("schema_version", pa.int16()),
    ]
)


def write_part(
    root: str, dataset: str, stage: str, run_id: str, shard: int, rows: Iterable[Mapping[str, Any]]
) -> str:
    """Write one part and return its path; created_at and schema_version are filled in.

    A shard that its run tries again gets one more part: the rows of the first try stay.
    """
    filesystem, base = open_filesystem(root)
    now = datetime.now(UTC)
    complete = [{"created_at": now, "schema_version": SCHEMA_VERSION, **row} for row in rows]
    table = pa.Table.from_pylist(complete, schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    part = f"{base}/manifests/{dataset}/{stage}/part-{run_id}-{shard:05d}"
    filesystem.invalidate_cache()
    tries = chain([""], (f"-{number}" for number in count(2)))
    path = next(path for again in tries if not filesystem.exists(path := f"{part}{again}.parquet"))
    put_file(filesystem, path, buffer.getvalue())
    return path


def read_manifest(root: str, dataset: str, stage: str) -> dict[str, dict[str, Any]]:
    """Return key -> its newest row of a stage; empty when the stage has never run."""
    filesystem, base = open_filesystem(root)
    folder = f"{base}/manifests/{dataset}/{stage}"
    filesystem.invalidate_cache()
    if not filesystem.exists(folder):
        return {}
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(filesystem.find(folder)):
        if not path.endswith(".parquet"):
            continue
        try:
            table = pq.read_table(io.BytesIO(filesystem.cat_file(path)), schema=SCHEMA)
        except (pa.ArrowInvalid, OSError) as error:  # artifacts decide what is done; this only tells of it
            logger.warning("manifest part %s cannot be read and is left out: %s", path, error)
            continue
        for row in table.to_pylist(maps_as_pydicts="strict"):
            known = newest.get(row["key"])
            if known is None or row["created_at"] >= known["created_at"]:
                newest[row["key"]] = row
    return newest


def stages(root: str, dataset: str) -> list[str]:
    """Return the stages that have a manifest."""
    filesystem, base = open_filesystem(root)
    folder = f"{base}/manifests/{dataset}"
    filesystem.invalidate_cache()
    if not filesystem.exists(folder):
        return []
    return sorted(entry.rstrip("/").rsplit("/", 1)[1] for entry in filesystem.ls(folder, detail=False))
