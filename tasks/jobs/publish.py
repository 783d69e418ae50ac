"""Publishing: copies of delivered artifacts in a folder for people, under the clips' own names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from recapture.datasets.store.storage import open_filesystem, put_file, put_path
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.stage import Item

RECORD = "recapture.json"


def publish(
    stage: str,
    items: Iterable[Item],
    metrics: Mapping[str, Mapping[str, float]],
    store: ArtifactStore,
    outputs: str,
) -> int:
    """Bring `outputs`/CLIP/TRAJECTORY/ up to date with a stage's artifacts; return how many were copied.

    metrics: item name -> its measurements. A folder whose recapture.json has the same key and metrics is
    not touched; that file is written last, and each file appears complete or not at all.
    """
    filesystem, root = open_filesystem(outputs)
    copied = 0
    for item in items:
        folder = f"{root}/{item.clip_id}/{item.params.label}"
        record = {
            "clip": item.clip_id,
            "trajectory": item.params.path.model_dump(mode="json"),
            "key": item.key,
            "metrics": dict(metrics.get(item.name, {})),
        }
        record_file = f"{folder}/{RECORD}"
        with suppress(FileNotFoundError, ValueError):
            if _same(json.loads(filesystem.cat_file(record_file)), record):
                continue
        artifact = store.open(stage, item.key)
        filesystem.makedirs(folder, exist_ok=True)
        for file in artifact.names():
            with artifact.local_path(file) as path:
                put_path(filesystem, f"{folder}/{file}", Path(path))
        put_file(filesystem, record_file, json.dumps(record, indent=2, sort_keys=True).encode())
        copied += 1
    return copied


def _same(one: Any, other: Any) -> bool:
    """Return whether two records are equal, NaN included; much faster than comparing the published text."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
