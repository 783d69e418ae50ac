"""Adapters of a base: which file is a clip's, and putting it into the base once, not for every clip."""

from __future__ import annotations

from pathlib import Path

from recapture.conf.load import UserError
from recapture.conf.schema import FillConfig
from recapture.datasets.keys import file_hash
from recapture.models.wan.load import Base
from recapture.models.wan.lora import FILE_NAME, load_adapter, remove_lora

CLIPS = "clips"  # folder of adapters by clip id, beside the dataset's


def adapter_file(config: FillConfig, clip_id: str) -> Path | None:
    """Return the file of a clip's adapter: its own where there is one, else the one for all clips.

    None without fill.adapter. Raises UserError where neither file is there.
    """
    if config.adapter is None:
        return None
    path = Path(config.adapter)
    own = path / CLIPS / clip_id / FILE_NAME
    file = own if own.is_file() else shared_adapter(config)
    if file is not None:
        return file
    raise UserError(
        f"fill.adapter: {path} has no adapter for clip {clip_id!r} and none for all clips ({FILE_NAME}); "
        "name a LoRA file, or a folder that `recapture train` has left"
    )


def shared_adapter(config: FillConfig) -> Path | None:
    """Return the file of the adapter for all clips, if there is one."""
    if config.adapter is None:
        return None
    path = Path(config.adapter)
    file = path if path.is_file() else path / FILE_NAME
    return file if file.is_file() else None


def adapter_identity(config: FillConfig, clip_id: str) -> dict[str, str]:
    """Return what of a clip's adapter enters the content key: the hash of its file; nothing without one."""
    file = adapter_file(config, clip_id)
    return {} if file is None else {"adapter": file_hash(str(file))}


class Adapters:
    """The adapter that a base carries, replaced when another is asked for."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._carried: tuple[Path, float] | None = None

    def use(self, file: Path | None, scale: float) -> None:
        """Make this the only adapter; None: the base itself. Raises AdapterError for one of another base."""
        wanted = None if file is None else (file, scale)
        if wanted == self._carried:
            return
        self._carried = None
        remove_lora(self._base.transformer)
        if file is not None:
            load_adapter(self._base.transformer, file, scale=scale)
        self._carried = wanted
