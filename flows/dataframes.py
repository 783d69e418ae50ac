"""The Python interface: what jobs have made and measured, as pandas DataFrames. See docs/python.md."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import fsspec
import pandas as pd

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.conf.redact import without_credentials
from recapture.datasets.store.manifest import datasets, manifest_table, stages
from recapture.datasets.store.storage import open_filesystem

Place = str | os.PathLike[str]
RECORD, CURVE = "recapture.json", "tuning/curve.json"
VIDEOS = ("recapture.mp4", "recapture.mov")  # by deliver.codec


def results(dataset: str, *, outputs: Place | None = None) -> pd.DataFrame:
    """Return one row per finished video: clip, trajectory, video, key, and its measurements.

    video: path or URL of recapture.mp4 or .mov, None for a preview. Measurements are columns
    `method/metric`, NaN where they are undefined. outputs: path or fsspec URL, by default the configured one.
    Raises UserError if there is no finished video of the dataset.
    """
    place = configured_place("outputs", outputs)
    filesystem, root = open_filesystem(place)
    files = set(_files(filesystem, f"{root}/{_checked(dataset)}"))
    records = sorted(file for file in files if file.endswith(f"/{RECORD}"))
    if not records:
        raise _unknown(
            dataset,
            "finished video",
            f"outputs {without_credentials(place)!r}",
            _having(filesystem, root, RECORD),
        )
    rows = []
    for file in records:
        folder = file.removesuffix(f"/{RECORD}")
        record = json.loads(filesystem.cat_file(file))
        video = next((path for name in VIDEOS if (path := f"{folder}/{name}") in files), None)
        url = None if video is None else filesystem.unstrip_protocol(video).removeprefix("file://")
        about = {"clip": record["clip"], "trajectory": folder.rpartition("/")[2], "video": url}
        rows.append({**about, "key": record["key"], **record["metrics"]})
    return _defined(rows, ["clip", "trajectory", "video", "key"])


def manifest(dataset: str, stage: str | None = None, *, store: Place | None = None) -> pd.DataFrame:
    """Return the newest row of every artifact of a stage, or of all stages, the oldest first.

    One row per key: clip_id, item, key, stage, status, attempts, error_type, error, seconds, gpu_seconds,
    bytes, device, vram_peak_mb, parent_keys, code_version, run_id, created_at, metrics (a dict).
    store: path or fsspec URL, by default the configured one. Raises UserError for a dataset or stage without
    manifest.
    """
    place = configured_place("store", store)
    there = stages(place, dataset) if dataset in (known := datasets(place)) else []
    if not there:
        raise _unknown(
            dataset,
            "manifest",
            f"store {without_credentials(place)!r}",
            [name for name in known if name != dataset],
        )
    if stage is not None and stage not in there:
        raise UserError(
            f"dataset {dataset!r} has no manifest of stage {stage!r} in store "
            f"{without_credentials(place)!r}; it has those of {', '.join(there)}"
        )
    frames = [_newest(place, dataset, one) for one in there if stage in (None, one)]
    return pd.concat(frames, ignore_index=True).sort_values("created_at", kind="stable", ignore_index=True)


def measurements(dataset: str, *, store: Place | None = None) -> pd.DataFrame:
    """Return one row per video and method: clip, trajectory, method, and one column per metric.

    Each video's newest measurements count; `recapture status --explain` defines the metrics.
    store and errors: as for `manifest`.
    """
    rows = manifest(dataset, "measure", store=store)
    rows = rows[rows["status"].isin(["ok", "reused"])].drop_duplicates("item", keep="last")
    found = []
    for clip, item, metrics in zip(rows["clip_id"], rows["item"], rows["metrics"]):
        by_method: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            method, _, metric = name.partition("/")
            by_method.setdefault(method, {})[metric] = value
        about = {"clip": clip, "trajectory": item.removeprefix(clip).removeprefix("@")}
        found += [{**about, "method": method, **values} for method, values in by_method.items()]
    return _defined(found, ["clip", "trajectory", "method"])


def curve(dataset: str, *, outputs: Place | None = None) -> pd.DataFrame:
    """Return the angle-quality curve of a tuning: metric, angle, clips, base, tuned, gain.

    One row per metric and angle; angles in degrees, the rest in dB, averaged over `clips` clips.
    outputs: path or fsspec URL, by default the configured one. Raises UserError if there is no curve.
    """
    place = configured_place("outputs", outputs)
    filesystem, root = open_filesystem(place)
    try:
        rows = json.loads(filesystem.cat_file(f"{root}/{_checked(dataset)}/{CURVE}"))
    except FileNotFoundError:
        known = _having(filesystem, root, CURVE)
        raise _unknown(dataset, "tuning curve", f"outputs {without_credentials(place)!r}", known) from None
    return pd.DataFrame(rows, columns=["metric", "angle", "clips", "base", "tuned", "gain"])


def _defined(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Return rows as a table that has at least these columns, with NaN for values without meaning."""
    table = pd.DataFrame(rows, columns=None if rows else columns)
    return table.replace([math.inf, -math.inf], math.nan)


def _newest(store: str, dataset: str, stage: str) -> pd.DataFrame:
    table = manifest_table(store, dataset, stage).drop_columns(["schema_version"])
    return table.to_pandas(maps_as_pydicts="strict").drop_duplicates("key", keep="last")


def configured_place(setting: str, given: Any) -> str:
    """Return a path or URL as text; without one, the configured one."""
    if given is None:
        return str(getattr(load_config(environment=os.environ), setting))
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{setting} is one path or URL, not {given!r}; call the function once for each")
    return os.fspath(given)


def _checked(dataset: str) -> str:
    if not dataset or dataset in (".", "..") or "/" in dataset:
        raise UserError(f"{dataset!r} cannot be the name of a dataset; give what dataset.name was set to")
    return dataset


def _having(filesystem: fsspec.AbstractFileSystem, root: str, name: str) -> list[str]:
    """Return the datasets below the outputs that have a file of that name."""
    files = (file for file in _files(filesystem, root) if file.endswith(f"/{name}"))
    return sorted({file.removeprefix(f"{root}/").split("/")[0] for file in files})


def _files(filesystem: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    filesystem.invalidate_cache()
    return list(filesystem.find(folder)) if filesystem.exists(folder) else []


def _unknown(dataset: str, what: str, where: str, known: list[str]) -> UserError:
    way_out = f"choose one of {', '.join(known)}" if known else "nor has any other; run a job first"
    return UserError(f"dataset {dataset!r} has no {what} in {where}; {way_out}")
