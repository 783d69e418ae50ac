"""The clips of a dataset that a job works on."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.clips.share import Share
from recapture.datasets.readers.scan import located, scan
from recapture.datasets.store.outage import InputsAway, has_content
from recapture.datasets.store.storage import UNREACHABLE
from recapture.tasks.jobs.own_folders import own_folders
from recapture.tasks.jobs.prompts import with_prompts

REJECTED_SHOWN = 10


def chosen_clips(config: RecaptureConfig) -> tuple[list[Clip], list[Rejected]]:
    """Return the clips that the configuration selects, with their prompts, and the unreadable ones.

    Raises UserError if the dataset cannot be read or no clip remains, InputsAway if its storage fails.
    """
    share = None if config.dataset.share is None else Share.parse(config.dataset.share)
    own = own_folders(config)
    try:
        found, rejected = scan(
            config.dataset.uri, config.dataset.kind, store=config.store, own=own, share=share
        )
    except (OSError, ValueError) as error:
        message = f"dataset {config.dataset.uri!r} cannot be read: {error}; check dataset.uri"
        raise UserError(without_credentials(message)) from None
    if found and rejected and not has_content(located(config.dataset.uri)):
        uri = without_credentials(config.dataset.uri)
        raise InputsAway(f"dataset {uri!r} went away while it was scanned; {UNREACHABLE}")
    rejected = [replace(item, error=without_credentials(item.error)) for item in rejected]
    wanted = [clip for clip in found if fnmatch.fnmatchcase(clip.id, config.dataset.where)]
    clips = wanted[: config.dataset.limit]
    if not clips:
        uri = without_credentials(config.dataset.uri)
        raise UserError(
            f"dataset {uri!r} has no clip to work on{_in_share(config)}: {len(found)} could be read, of "
            f"which {len(wanted)} match dataset.where={config.dataset.where!r}; {len(rejected)} could not be "
            "read" + "".join(f"\n  {clip.id}: {clip.error}" for clip in rejected[:REJECTED_SHOWN])
        )
    ids = {clip.id for clip in found} | {clip.id for clip in rejected}
    return with_prompts(clips, config.mask, ids, share), rejected


def _in_share(config: RecaptureConfig) -> str:
    return "" if config.dataset.share is None else f" in dataset.share={config.dataset.share}"
