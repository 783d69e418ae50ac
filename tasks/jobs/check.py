"""What of a job can be known to fail before any of its work is done: a wrong setting costs seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import IngestConfig, RecaptureConfig
from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.clips.edit_masks import find_first_frame, find_mask
from recapture.tasks.clip.base_files import base_sources
from recapture.tasks.clip.body_points import shown_moments
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.clip.source_cameras import has_cameras
from recapture.tasks.clip.subject import find_subject
from recapture.tasks.clip.trajectory_file import find_trajectory_files
from recapture.tasks.engine.model_revision import model_path
from recapture.tasks.jobs.ingest import frame_range

SHOWN = 5


def misfits(items: Sequence[ClipParams], config: IngestConfig) -> tuple[str, ...]:
    """Return why clips cannot be filmed along their trajectories, each reason with its item.

    Raises UserError if that is so for every item.
    """
    reasons = [f"{one.name}: {reason}" for one in items if (reason := _misfit(one, config))]
    if items and len(reasons) == len(items):
        more = f"\n  and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise UserError(
            "no clip can be filmed along any trajectory:\n  " + "\n  ".join(reasons[:SHOWN]) + more
        )
    return tuple(reasons)


def _misfit(one: ClipParams, config: IngestConfig) -> str:
    """Return why a clip cannot be filmed along its trajectory; empty if nothing speaks against it."""
    trajectory, clip = one.path, one.clip
    try:
        frames = len(frame_range(clip, config))
    except ValueError as error:
        return str(error)
    if trajectory.freeze_frame is not None and trajectory.freeze_frame >= frames:
        return f"freeze_frame is {trajectory.freeze_frame}; the clip has frames 0 to {frames - 1}"
    without = not has_cameras(clip) and not one.estimated
    if trajectory.stabilise_seconds is not None and without:
        return "the clip has no cameras, so there is no motion to stabilise; provide cameras"
    if one.file and trajectory.relative_to == "world" and without:
        return "relative_to is world, and the clip has no cameras; provide them, or use source or first"
    try:
        if trajectory.subject is not None and trajectory.subject.uri is not None:
            find_subject(trajectory.subject.uri, clip)
        moments = shown_moments(trajectory.time, frames, float(Fraction(clip.fps)))
    except ValueError as error:
        return str(error)
    fits = (frames, clip.frames) if moments is None else (len(moments),)
    frames, held = fits[0], one.file.cameras if one.file else None
    if held is not None and held not in fits and not trajectory.fit_length:
        return (
            f"the file {trajectory.file!r} has {held} cameras for {frames} frames; give one per frame, or "
            "set fit_length to stretch it"
        )
    return ""


def check_named_files(config: RecaptureConfig, job: str) -> None:
    """Raise UserError for a model or a trajectory file of a job that does not exist, without any clip.

    job: recapture, inpaint or preview.
    """
    if job != "inpaint":
        find_trajectory_files(config.trajectories, config.store)
    if job != "preview" and config.fill.method != "classical":
        base_sources(config.fill)
    named: dict[str, str | None] = {}
    if config.depth.source != "given":
        named["depth.model"] = config.depth.model
    if config.mask.select.wanted and config.mask.select.of_model:
        named["mask.select.model"] = config.mask.select.model
    if job != "preview":
        learned = config.measure.learned.model_dump()
        named["caption.model"] = config.caption.model if config.caption.of_model else None
        named |= {f"measure.learned.{name}": path for name, path in learned.items()}
    for setting, path in named.items():
        if path is not None and not Path(model_path(setting, path)).exists():
            raise UserError(f"{setting}: {path!r} does not exist; name a local model")


def check_files_of_masks(config: RecaptureConfig, clips: Sequence[Clip]) -> None:
    """Raise UserError if no clip at all has the mask or the first frame that the settings promise."""
    mask = config.mask
    finders: Sequence[tuple[str | None, Callable[[str, Clip], str]]] = (
        (mask.uri, find_mask),
        (mask.first_frame, find_first_frame),
    )
    for uri, find in finders:
        if uri is not None and (reason := next(_missing(uri, find, clips), "")):
            raise UserError(f"{reason}, and neither does any other clip have one" if clips[1:] else reason)


def _missing(uri: str, find: Callable[[str, Clip], str], clips: Sequence[Clip]) -> Iterator[str]:
    """Yield the reason why the first clip has no such file, unless any clip has one."""
    reason = ""
    for clip in clips:
        try:
            find(uri, clip)
        except ClipError as error:
            reason = reason or str(error)
        except OSError as error:
            message = f"{uri} cannot be read: {error}; check the setting"
            raise UserError(without_credentials(message)) from None
        else:
            return
    yield reason
