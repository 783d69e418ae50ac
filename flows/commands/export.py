"""`recapture export`: the point cloud, depth, cameras and videos of finished clips, for other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.cameras.cameras import write_bytes
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.storage import open_filesystem
from recapture.flows.commands.export_sources import ClipSources, StoredClips
from recapture.tasks.clip.export_nerfstudio import write_nerfstudio_view
from recapture.tasks.clip.export_ply import write_points, write_view
from recapture.tasks.clip.exported_view import ExportedView, filmed_view, source_view, units_of, world_of
from recapture.tasks.clip.source_cameras import pivot_depth

RECORD = "export.json"  # written last: with it, the export of a clip is whole
AXES = "world_to_camera with OpenCV axes (x right, y down, z forward), pixel centres at +0.5"


@dataclass(frozen=True)
class ExportOptions:
    """What to write, and where. every: each n-th frame."""

    to: str
    output: str
    clips: str = "*"
    trajectories: Sequence[str] = ("*",)
    every: int = 1


def export_dataset(config: RecaptureConfig, options: ExportOptions) -> int:
    """Export the clips of a dataset; print a line per clip and return how many could not be exported.

    Raises UserError for an unknown format, dataset, clip or trajectory, and for `every` below 1.
    """
    write = _WRITERS.get(options.to)
    if write is None:
        raise UserError(f"--to {options.to}: it is not written; choose one of {', '.join(_WRITERS)}")
    if options.every < 1:
        raise UserError(f"--every {options.every}: give a whole number from 1 on")
    stored = StoredClips(config.store, config.dataset.name)
    clips = stored.clips(options.clips)
    if tuple(options.trajectories) != ("*",):
        stored.check_trajectories(clips, options.trajectories)
    failures = 0
    for clip in clips:
        try:
            sources = stored.open(clip, options.trajectories)
            lines = _export_clip(config.dataset.name, sources, options, write)
        except (ValueError, ArtifactError) as error:
            failures += 1
            lines = [f"clip {clip!r}: not exported: {error}"]
        print(without_credentials("\n".join(lines)))
    return failures


def _export_clip(dataset: str, sources: ClipSources, options: ExportOptions, write: _Write) -> list[str]:
    """Write one clip; return what to print. Raises ValueError if its folder has files."""
    folder = f"{options.output.rstrip('/')}/{sources.clip}"
    filesystem, path = open_filesystem(folder)
    if filesystem.exists(f"{path}/{RECORD}") or filesystem.exists(f"{path}/source"):
        raise ValueError(f"{folder} holds an earlier export; delete it, or choose another --output")
    source = source_view(sources.inputs)
    views = [source] + [filmed_view(name, source, *made) for name, made in sources.filmed.items()]
    about = {
        "clip": sources.clip,
        "world": world_of(sources.inputs, source),
        "cameras": AXES,
        "units": units_of(sources.inputs),
    }
    shown = [view.name + ("" if view.complete else " (not filled: holes are grey)") for view in views]
    lines = [f"{folder}: {options.to}, {len(source)} frames, {', '.join(shown)}"]
    lines += write(folder, sources, views, about, options)
    lines += [
        f"  trajectory {name!r} left out: it was filmed from other frames, depth or cameras, or behind a "
        "mask, or is no longer in the store; run the job again to have it too"
        for name in sources.left_out
    ]
    written = {"dataset": dataset, "to": options.to, "every": options.every, **about, "keys": sources.keys()}
    write_bytes(f"{folder}/{RECORD}", json.dumps(written, indent=1).encode())
    return lines


def _comments(about: Mapping[str, str]) -> list[str]:
    return [f"{name}: {' '.join(value.split())}" for name, value in about.items()]


def _folder_of(folder: str, view: ExportedView, views: Sequence[ExportedView]) -> str:
    return f"{folder}/source" if view is views[0] else f"{folder}/trajectories/{view.name}"


def _write_ply(
    folder: str,
    sources: ClipSources,
    views: Sequence[ExportedView],
    about: Mapping[str, str],
    options: ExportOptions,
) -> list[str]:
    source = views[0]
    points = write_points(f"{folder}/source", source, _comments(about), options.every)
    for view in views:
        write_view(_folder_of(folder, view, views), view)
    return [f"  {len(source.numbers(options.every))} clouds of {points} points together"]


def _write_nerfstudio(
    folder: str,
    sources: ClipSources,
    views: Sequence[ExportedView],
    about: Mapping[str, str],
    options: ExportOptions,
) -> list[str]:
    lines = []
    for view in views:
        place = _folder_of(folder, view, views)
        written = write_nerfstudio_view(
            place,
            view,
            _comments(about),
            pivot_depth=pivot_depth(sources.inputs),
            every=options.every,
        )
        lines.append(
            f"  nerfstudio-data --data {place} --depth-unit-scale-factor {written.depth_unit:.9g}"
            + (
                f"  ({written.too_far:.2%} of known depth is too far for 16 bits: 0)"
                if written.too_far
                else ""
            )
        )
    return lines


_Write = Callable[[str, ClipSources, Sequence[ExportedView], Mapping[str, str], ExportOptions], list[str]]
_WRITERS: Mapping[str, _Write] = {"ply": _write_ply, "nerfstudio": _write_nerfstudio}
