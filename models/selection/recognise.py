"""Which model of masks a directory holds, and what it takes; one sentence if it is none that can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KNOWN = "SAM 2, SAM 2.1, SAM 3 or EdgeTAM in transformers layout"
BY_POINTS = {  # model type -> the class of transformers that takes points and boxes
    "sam2_video": "Sam2VideoModel",
    "edgetam_video": "EdgeTamVideoModel",
    "sam3_tracker_video": "Sam3TrackerVideoModel",
    "sam3_video": "Sam3TrackerVideoModel",  # from the same directory
}
BY_WORDS = {"sam3_video": "Sam3VideoModel"}


def read_config(model_dir: str) -> dict[str, Any]:
    """Return config.json of a directory of masks; runs and loads nothing. Raises ValueError for any other."""
    folder = Path(model_dir)
    file = folder / "config.json"
    if not file.is_file():
        missing = "has no config.json" if folder.is_dir() else "is not a directory"
        raise ValueError(f"masks: {model_dir!r} {missing}; set mask.select.model to a directory of {KNOWN}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"masks: {file} is no JSON ({error}); fetch the model again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in BY_POINTS:
        raise ValueError(
            f"masks: {model_dir!r} has the model type {kind!r}, which does not follow masks through a video; "
            f"set mask.select.model to a directory of {KNOWN}"
        )
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"masks: {model_dir!r} holds no safetensors; pickles (.pt, .bin) are not read: take the "
            "directory in transformers layout"
        )
    return config


def check_prompt(model_dir: str | None, *, words: bool) -> None:
    """Raise ValueError if a model, None: the embedded rule, does not take such a prompt."""
    kind = None if model_dir is None else read_config(model_dir)["model_type"]
    if words and kind not in BY_WORDS:
        what = "the embedded rule takes" if model_dir is None else f"{model_dir!r} ({kind}) takes"
        raise ValueError(
            f"masks: {what} boxes and points, no words; set mask.select.model to a directory of SAM 3, or "
            "give mask.select.box or mask.select.points"
        )
