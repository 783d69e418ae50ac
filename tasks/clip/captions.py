"""The caption of a clip: its own, or the one that was written for it; and what is kept of an answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.file_clip import MAX_CAPTION
from recapture.datasets.store.artifact import Artifact

CAPTION = "caption"  # the stage
SILENT = "classical"  # the way to fill that takes no caption
_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode categories that show nothing, or reorder text


def caption_of(clip: Clip, inputs: Mapping[str, Artifact]) -> str:
    """Return the caption that was written for a clip, if one was; else its own."""
    return str(inputs[CAPTION].meta["caption"]) if CAPTION in inputs else clip.caption


def caption_record(clip: Clip, inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return the caption of a result and where it is from, for its files and MLflow.

    origin: given (with the clip, or as mask.prompt), written, none, or unused, by a fill that takes none; by:
    the directory of the captioner that wrote it, or embedded.
    """
    if inputs["fill"].meta["method"] == SILENT:
        return {"text": "", "origin": "unused", "by": None}
    text = caption_of(clip, inputs)
    written = inputs[CAPTION].meta["by"] if CAPTION in inputs else None
    origin = "none" if not text else "given" if written is None else "written"
    return {"text": text, "origin": origin, "by": written if text else None}


def clean(text: str, limit: int = MAX_CAPTION) -> tuple[str, int]:
    """Return an answer as one printable line, and how many characters were cut to keep it within the limit.

    Control, formatting and unassigned characters become spaces, as does what could not be decoded; a caption
    is never part of a path, and what shows it escapes it.
    """
    normal = unicodedata.normalize("NFC", text)
    shown = (" " if unicodedata.category(one) in _CONTROL or one == "\ufffd" else one for one in normal)
    line = " ".join("".join(shown).split())
    if len(line) <= limit:
        return line, 0
    kept = line[:limit].rsplit(" ", 1)[0] if " " in line[:limit] else line[:limit]
    return kept, len(line) - len(kept)
