"""The references and targets of a motion transfer, and which reference is for which target."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.readers.scan import scan
from recapture.tasks.jobs.chosen_clips import chosen_clips
from recapture.tasks.jobs.own_folders import own_folders
from recapture.tasks.transfer.params import plain
from recapture.tasks.transfer.truth import meant_for

APART = "reference"  # in front of the id of a reference that a target has as well
SHOWN = 5


@dataclass(frozen=True)
class Chosen:
    """The clips of a transfer."""

    references: tuple[Clip, ...]
    targets: tuple[Clip, ...]
    pairs: tuple[tuple[Clip, Clip], ...]  # (reference, target)
    rejected: tuple[Rejected, ...]

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Return all clips, each once."""
        return tuple({clip.id: clip for clip in (*self.references, *self.targets)}.values())


def chosen(config: RecaptureConfig) -> Chosen:
    """Return the clips that the settings name.

    transfer.reference is first looked for among the ids of the dataset, as a glob; its other clips are then
    the targets. Else it is a dataset of its own, and every clip of the dataset is a target. Raises UserError
    if there is no reference or no target.
    """
    wanted = config.transfer.reference
    if wanted is None:
        raise UserError(
            "nothing says whose motion is transferred; set transfer.reference to a clip id of the dataset, "
            "or to the path or URI of a video or a dataset"
        )
    clips, rejected = chosen_clips(config)
    references = [clip for clip in clips if fnmatch.fnmatchcase(clip.id, wanted)]
    if references:
        targets = [clip for clip in clips if clip not in references]
        if not targets:
            raise UserError(
                f"transfer.reference {wanted!r} matches every clip of the dataset, so there is no target; "
                "name fewer, or name a dataset of targets in dataset.uri"
            )
    else:
        references, more = _elsewhere(config, wanted, {clip.id: clip for clip in clips})
        targets, rejected = clips, [*rejected, *more]
    _refuse_twins(references)
    pairs = [
        (reference, target) for reference in references for target in targets if meant_for(reference, target)
    ]
    if not pairs:
        raise UserError(
            "none of the targets is for any of the references: those of MotionScenes are for their own "
            "reference alone; name the same category and reference in both"
        )
    return Chosen(tuple(references), tuple(targets), tuple(pairs), tuple(rejected))


def _elsewhere(
    config: RecaptureConfig, uri: str, taken: dict[str, Clip]
) -> tuple[list[Clip], list[Rejected]]:
    """Return the references of a dataset of their own; one with the id of a target gets another."""
    try:
        found, rejected = scan(uri, store=config.store, own=own_folders(config))
    except (OSError, ValueError) as error:
        message = (
            f"transfer.reference {uri!r} matches no clip of the dataset "
            f"({', '.join(sorted(taken)[:SHOWN])}), and cannot be read as one: {error}; name a clip id, a "
            "video or a dataset"
        )
        raise UserError(without_credentials(message)) from None
    kept = [clip for clip in found if fnmatch.fnmatchcase(clip.id, config.transfer.reference_where)]
    if not kept:
        raise UserError(
            without_credentials(
                f"transfer.reference {uri!r} has no clip to use: {len(found)} could be read, none of which "
                f"matches transfer.reference_where {config.transfer.reference_where!r}; "
                f"{len(rejected)} could not be read"
            )
        )
    apart = [
        clip
        if clip.id not in taken or taken[clip.id].content_hash == clip.content_hash
        else replace(clip, id=f"{APART}/{clip.id}")
        for clip in kept
    ]
    return apart, rejected


def _refuse_twins(references: Sequence[Clip]) -> None:
    """Raise UserError for references whose folders would have the same name."""
    seen: dict[str, str] = {}
    for clip in references:
        first = seen.setdefault(plain(clip.id).casefold(), clip.id)
        if first != clip.id:
            raise UserError(
                f"references {first!r} and {clip.id!r} would have the same folder {plain(clip.id)!r}; rename "
                "one of them"
            )
