"""Delivery of finished adapters to where `fill.adapter` reads them, of the curve and of sheets."""

from __future__ import annotations

import json
from collections.abc import Mapping

from PIL import Image

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.storage import open_filesystem, put_file, remove_tree
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.tasks.clip.adapter_files import CLIPS
from recapture.tasks.clip.sheets import figure_png, png_bytes
from recapture.tasks.tune.summary import TuneSummary, curve_figure


def deliver_adapters(outputs: str, adapters: Mapping[str, Artifact]) -> str:
    """Replace `outputs`/adapter/ and return its URL; adapters: clip id, or "" for all clips -> artifact."""
    filesystem, root = open_filesystem(f"{outputs}/adapter")
    remove_tree(filesystem, root)  # a clip's adapter of an earlier tuning would take precedence
    for clip_id, artifact in adapters.items():
        folder = f"{root}/{CLIPS}/{clip_id}" if clip_id else root
        filesystem.makedirs(folder, exist_ok=True)
        put_file(filesystem, f"{folder}/{FILE_NAME}", artifact.read_bytes(FILE_NAME))
    return f"{outputs}/adapter"


def deliver_report(outputs: str, summary: TuneSummary, sheets: Mapping[str, Image.Image]) -> None:
    """Write `outputs`/tuning/: curve.png, curve.json, summary.md, and CLIP.png with base beside tuned."""
    files = {
        "curve.png": figure_png(curve_figure(summary)),
        "curve.json": json.dumps(summary.table(), indent=1).encode(),
        "summary.md": summary.markdown().encode(),
    }
    files |= {f"{clip_id}.png": png_bytes(sheet) for clip_id, sheet in sheets.items()}
    filesystem, root = open_filesystem(f"{outputs}/tuning")
    for name, content in files.items():
        path = f"{root}/{name}"
        filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        put_file(filesystem, path, content)
