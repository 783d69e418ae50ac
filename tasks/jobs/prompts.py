"""Prompts that replace the captions of clips."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import replace

import fsspec
import yaml
from pydantic import TypeAdapter, ValidationError

from recapture.conf.errors import UserError
from recapture.conf.mask import MaskConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.clips.share import Share

_PROMPTS = TypeAdapter(dict[str, str])


def with_prompts(
    clips: Sequence[Clip], config: MaskConfig, known: Collection[str], share: Share | None = None
) -> list[Clip]:
    """Return the clips with their entry of mask.prompts, else mask.prompt, as caption if either is set.

    known: ids of all clips of the dataset, selected or not; with a share, of all clips in it. Raises
    UserError for a file that is not a mapping of ids to prompts, or names a clip that the dataset does not
    have; clips of other shares are not known here, and may be named.
    """
    by_id = {} if config.prompts is None else _read(config.prompts)
    for clip_id in by_id:
        if clip_id not in known and (share is None or share.holds(clip_id)):
            near = difflib.get_close_matches(clip_id, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove or correct it"
            raise UserError(f"mask.prompts {config.prompts!r}: the dataset has no clip {clip_id!r}; {hint}")
    prompts = {clip.id: by_id.get(clip.id, config.prompt) for clip in clips}
    return [clip if (prompt := prompts[clip.id]) is None else replace(clip, caption=prompt) for clip in clips]


def _read(uri: str) -> dict[str, str]:
    try:
        with fsspec.open(uri, "rb") as stream:
            return _PROMPTS.validate_python(yaml.safe_load(stream.read()))
    except ValidationError as error:
        raise UserError(
            f"mask.prompts {uri!r} must map clip ids to prompts ({error.errors()[0]['msg']}), one per line, "
            "for example  bmx/003: a blue sphere"
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"mask.prompts {uri!r} cannot be read: {reason}; give a YAML or JSON file") from error
