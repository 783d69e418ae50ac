"""Delivery of motion adapters to where `fill.adapter` reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.tasks.transfer.params import plain
from recapture.tasks.transfer.tune_stage import SPATIAL_FILE

MOTIONS = "motions"


def deliver_motions(outputs: str, tuned: Mapping[str, Artifact]) -> dict[str, str]:
    """Write `outputs`/motions/REFERENCE/ for every reference; return reference -> folder.

    An adapter of an earlier job with the same reference is replaced; others stay.
    """
    folders = {}
    for reference, artifact in tuned.items():
        filesystem, root = open_filesystem(f"{outputs}/{MOTIONS}/{plain(reference)}")
        files = {FILE_NAME: artifact.read_bytes(FILE_NAME)}
        files["curve.json"] = json.dumps(artifact.read_json("curve.json"), indent=1).encode()
        filesystem.makedirs(root, exist_ok=True)
        if SPATIAL_FILE in artifact.names():
            filesystem.makedirs(f"{root}/spatial", exist_ok=True)
            files[f"spatial/{FILE_NAME}"] = artifact.read_bytes(SPATIAL_FILE)
        for name, content in files.items():
            put_file(filesystem, f"{root}/{name}", content)
        folders[reference] = f"{outputs}/{MOTIONS}/{plain(reference)}"
    return folders
