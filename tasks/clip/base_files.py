"""The files of the base that the settings name, and the hash of them all for content keys."""

from __future__ import annotations

import hashlib

from recapture.conf.errors import UserError
from recapture.conf.fill import MODEL_FILES, FillConfig
from recapture.conf.section import EMBEDDED
from recapture.datasets.store.keys import canonical_json
from recapture.models.wan.sources import Named, Sources, find_sources
from recapture.models.wan.tensor_files import CheckpointError
from recapture.tasks.engine.model_revision import file_revision, model_path, once


def named_base(config: FillConfig) -> Named:
    """Return what the settings name of a base."""
    named = {name: getattr(config, name) for name in MODEL_FILES}
    return Named.of(model_path("fill.base", named.pop("base")), parts=named.pop("base_parts"), **named)


def base_sources(config: FillConfig) -> Sources:
    """Return every file of the base. Raises UserError that names what is missing, and the way out."""
    named = named_base(config)
    return once(("sources", named), lambda: _sources(named))


def base_revision(config: FillConfig) -> str:
    """Return the hash of the base: of every file that is loaded and of nothing else, whatever their names."""
    # Asked for each clip, so by the identity of the settings, which are kept beside the answer.
    return once(("base", id(config)), lambda: (config, _known_revision(config)))[1]


def _known_revision(config: FillConfig) -> str:
    sources = base_sources(config)
    return once(("base", sources), lambda: _revision(sources))


def local_model_paths(config: FillConfig) -> dict[str, str]:
    """Return the paths of a base that the settings name: setting -> path, without the embedded base."""
    named = {f"fill.{name}": getattr(config, name) for name in MODEL_FILES}
    return {setting: path for setting, path in named.items() if path not in (None, EMBEDDED)}


def _sources(named: Named) -> Sources:
    try:
        return find_sources(named)
    except CheckpointError as error:
        raise UserError(f"fill.{error}") from None


def _revision(sources: Sources) -> str:
    described: dict[str, object] = {
        part: sorted(file_revision(str(file)) for file in files) for part, files in sources.files().items()
    }
    described |= {"boundary_ratio": sources.boundary_ratio, "expand_timesteps": sources.expand_timesteps}
    return hashlib.sha256(canonical_json(described).encode()).hexdigest()
