"""The shapes of a base's transformers, from the headers of its files: what fits is known before a job."""

from __future__ import annotations

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.models.wan.adapter_fit import Shapes
from recapture.models.wan.original_keys import diffusers_names
from recapture.models.wan.sources import Part
from recapture.models.wan.tensor_files import CheckpointError
from recapture.tasks.clip.base_files import base_sources
from recapture.tasks.engine.model_revision import once


def base_shapes(config: FillConfig) -> dict[str, Shapes]:
    """Return transformer, transformer_2 -> shapes of its tensors by diffusers' names, read once per plan.

    Raises UserError for a base that cannot be read.
    """
    sources = base_sources(config)
    parts = {"transformer": sources.transformer, "transformer_2": sources.transformer_2}
    return {
        name: once(("shapes", part), lambda part=part: _shapes(part))  # type: ignore[misc]
        for name, part in parts.items()
        if part is not None
    }


def _shapes(part: Part) -> Shapes:
    try:
        stored = part.tensors().shapes
    except CheckpointError as error:
        raise UserError(f"fill.{error}") from None
    names = diffusers_names(list(stored))
    return {names[key]: tuple(shape) for key, shape in stored.items()}
