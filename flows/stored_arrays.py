"""The arrays of an artifact of a finished job, for Python. See docs/python.md."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recapture.conf.errors import UserError
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.dataframes import configured_place, manifest
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.scene_reader import read_frames

PER_FRAME = ("intrinsics", "world_to_camera", "source_frame", "pose_group")  # of cameras.npz
SHOWN = 5  # items that an error lists


def arrays(
    dataset: str,
    stage: str,
    item: str,
    *,
    frames: range | None = None,
    store: str | os.PathLike[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the newest artifact of an item: name -> [T,...], one entry per frame.

    item: as the manifest names it, CLIP or CLIP@TRAJECTORY. frames: numbers of the frames; None: all.
    ingest, render and mask: rgb uint8 [T,H,W,3] and cameras (intrinsics [T,3,3] in pixels, world_to_camera
    [T,4,4]), depth: depth and known [T,H,W], fill: rgb; docs/architecture.md lists them all.

    Raises UserError without such an item, for a deleted artifact, and for frames beyond its end.
    """
    rows = manifest(dataset, stage, store=store)
    made = rows[rows["status"].isin(["ok", "reused"])]
    found = made[made["item"] == item]
    if found.empty:
        known = sorted(set(made["item"]))
        more = ", …" if len(known) > SHOWN else ""
        raise UserError(
            f"dataset {dataset!r} has no finished {stage} of item {item!r}; "
            + (f"choose one of {', '.join(known[:SHOWN])}{more}" if known else "none is finished")
        )
    row, opened = found.iloc[-1], ArtifactStore(configured_place("store", store))
    try:
        artifact = opened.open(stage, row["key"])
        return _read(artifact, opened, row["parent_keys"], frames)
    except ArtifactError as error:
        raise UserError(f"{stage} of {item}: {error}; run the job again") from None


def _read(
    artifact: Artifact, store: ArtifactStore, parents: Any, frames: range | None
) -> dict[str, NDArray[Any]]:
    length = artifact.frames().frames
    picked = np.arange(length) if frames is None else np.array(frames, dtype=np.int64)
    if not picked.size or picked.min() < 0 or picked.max() >= length:
        raise UserError(f"{artifact.stage}: it has frames 0 to {length - 1}, and not all of {frames}")
    rendered = store.whole("render", parents) if artifact.stage == "fill" else {}
    if rendered:
        read = read_filled(artifact, next(iter(rendered.values())), picked)
    else:
        read = read_frames(artifact, picked)
    if "cameras.npz" in artifact.names():
        cameras = artifact.read_npz("cameras.npz")
        read |= {name: cameras[name][picked] for name in PER_FRAME if name in cameras}
    return read
