"""Adapters of a base: which file belongs to a clip, and loading it only when it changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.load import Base
from recapture.models.wan.lora import load_adapter, remove_lora
from recapture.tasks.engine.model_revision import file_revision

CLIPS = "clips"  # folder of adapters by clip id, beside the dataset's adapter


def adapter_file(config: FillConfig, clip_id: str) -> Path | None:
    """Return the file of a clip's adapter: its own if it has one, else the one for all clips.

    None without fill.adapter. Raises UserError if neither file exists.
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
        "name a LoRA file, or a folder that `recapture train` has written"
    )


def shared_adapter(config: FillConfig) -> Path | None:
    """Return the file of the adapter for all clips, if there is one."""
    if config.adapter is None:
        return None
    path = Path(config.adapter)
    file = path if path.is_file() else path / FILE_NAME
    return file if file.is_file() else None


def adapter_identity(config: FillConfig, clip_id: str) -> dict[str, str]:
    """Return a clip's adapter as part of the content key: the hash of its file; empty without an adapter."""
    file = adapter_file(config, clip_id)
    return {} if file is None else {"adapter": file_revision(str(file))}


class Adapters:
    """The adapter loaded into a base, replaced when another is requested."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._carried: tuple[str, float] | None = None

    def use(self, file: Path | None, scale: float) -> None:
        """Load this adapter alone; None: the bare base. Raises AdapterError for one of another base."""
        if file is None:
            self.use_none()
        elif self._carried != (wanted := (str(file), scale)):
            self.use_none()
            load_adapter(self._base.transformer, file, scale=scale)
            self._carried = wanted

    def use_none(self) -> None:
        """Remove any adapter from the base."""
        remove_lora(self._base.transformer)
        self._carried = None

    def use_artifact(self, artifact: Artifact | None, scale: float) -> None:
        """Load the adapter that a training has stored, as `use` does for a file."""
        if artifact is None:
            self.use_none()
        elif self._carried != (wanted := (artifact.key, scale)):
            with local_adapter(artifact) as file:
                self.use(file, scale)
            self._carried = wanted


@contextmanager
def local_adapter(artifact: Artifact) -> Iterator[Path]:
    """Provide a training's adapter as a local file within this context."""
    with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
        path = Path(folder) / FILE_NAME
        path.write_bytes(artifact.read_bytes(FILE_NAME))
        yield path
