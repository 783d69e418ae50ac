"""The subject of a trajectory in one clip: found in masks, object maps, a followed box or the job's mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.subject import SubjectConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.clips.edit_masks import MASK_SUFFIXES, find_by_id, mask_hash, read_edit_mask, shrink
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.geometry.follow import follow_box
from recapture.models.geometry.subject import in_world, subject_place
from recapture.tasks.clip.scene_reader import read_depth
from recapture.tasks.clip.source_cameras import read_cameras
from recapture.tasks.clip.working_size import content_known

CHUNK = 16
POINT_REACH = 0.06  # of the shorter side: half the box that is followed for a point
CORE = 0.5  # of a box's sides: where its depth is taken, as its rim shows what is behind
WAYS_OUT = "set subject.uri, objects, box or point"


def find_subject(uri: str, clip: Clip) -> str:
    """Return the mask of a clip's subject below uri; raises ClipError if there is none, or more than one."""
    return find_by_id(uri, clip, MASK_SUFFIXES, "subject.uri", picture_folders=True)


def subject_hash(subject: SubjectConfig | None, clip: Clip) -> str | None:
    """Return the hash of a clip's mask of the subject; None where none is named, or it is unreadable."""
    if subject is None or subject.uri is None:
        return None
    try:
        return mask_hash(find_subject(subject.uri, clip))
    except (OSError, ValueError):
        return None  # which the stage then reports


def subject_points(subject: SubjectConfig, clip: Clip, inputs: Mapping[str, Artifact]) -> Tensor:
    """Return where the subject is in each frame that is processed: [T,3] in the world, NaN where unseen.

    inputs: ingest and depth, or the mask in place of both. Raises ValueError, which names the way out, if
    the clip has no subject, or more frames than `max_unseen_share` are without it.
    """
    ingest = inputs["ingest"]
    cameras = {name: torch.from_numpy(array) for name, array in read_cameras(inputs).items()}
    content, places = content_known(ingest), list[Tensor]()
    masks = _masks(subject, clip, ingest)
    for start in range(0, ingest.meta["frames"], CHUNK):
        frames = np.arange(start, min(start + CHUNK, ingest.meta["frames"]))
        read = read_depth(inputs, frames)
        for t, surface, known in zip(frames, read["depth"], read["known"]):
            mask = np.zeros(content.shape, dtype=bool)
            shown = next(masks)
            mask[: shown.shape[0], : shown.shape[1]] = shown
            usable = known if subject.way else surface > 0  # of a mask, known leaves out what it covers
            arrays = [
                torch.from_numpy(np.ascontiguousarray(one)) for one in (mask & content, surface, usable)
            ]
            places.append(subject_place(arrays[0], arrays[1], arrays[2], cameras["intrinsics"][t]))
    found = torch.stack(places)
    _check(subject, found)
    return in_world(found, cameras["world_to_camera"])


def _check(subject: SubjectConfig, found: Tensor) -> None:
    unseen = (~torch.isfinite(found).all(1)).double().mean()
    if unseen == 1:
        raise ValueError(
            f"subject.{subject.way or 'mask'} shows no subject with depth in any frame; {WAYS_OUT} so that "
            "it covers the body"
        )
    if unseen > subject.max_unseen_share:
        raise ValueError(
            f"the subject is out of the picture, or without depth, in {unseen:.0%} of the frames; choose a "
            "shorter part of the clip (ingest.start_seconds, max_seconds), or raise "
            f"subject.max_unseen_share ({subject.max_unseen_share:g})"
        )


def _masks(subject: SubjectConfig, clip: Clip, ingest: Artifact) -> Iterator[np.ndarray]:
    """Yield where the subject is in each processed frame, [height,width] bool of the content."""
    height, width = ingest.meta["content"]
    wanted = range(ingest.meta["first_frame"], ingest.meta["first_frame"] + ingest.meta["frames"])
    if subject.uri is not None:
        stored = find_subject(subject.uri, clip)
        return read_edit_mask(stored, clip, wanted, height, width, threshold=0.5, invert=False)
    if subject.objects is not None:
        return _objects(subject, clip, wanted, height, width)
    if subject.way in ("box", "point"):
        return _followed(subject, ingest, wanted)
    return _of_the_job(ingest)


def _objects(
    subject: SubjectConfig, clip: Clip, wanted: range, height: int, width: int
) -> Iterator[np.ndarray]:
    source, ids = open_clip(clip), subject.objects
    for start in range(wanted.start, wanted.stop, CHUNK):
        maps = source.objects(start, min(start + CHUNK, wanted.stop))
        if maps is None:
            raise ValueError(f"subject.objects is {ids}, and the clip has no object maps; {WAYS_OUT}")
        for one in maps:
            yield shrink(one > 0 if ids == "all" else np.isin(one, list(ids or ())), height, width)


def _of_the_job(ingest: Artifact) -> Iterator[np.ndarray]:
    """Yield what the job's mask covers: `lifted` before dilation where it has that, else `edit`."""
    for start in range(0, ingest.meta["frames"], CHUNK):
        read = ingest.frames().read(start, min(start + CHUNK, ingest.meta["frames"]))
        edit = read.get("lifted", read.get("edit"))
        if edit is None:
            raise ValueError(f"the trajectory is about a subject, and nothing says which; {WAYS_OUT}")
        yield from edit


def _followed(subject: SubjectConfig, ingest: Artifact, wanted: range) -> Iterator[np.ndarray]:
    """Yield the inner part of a box that is followed through the clip."""
    height, width = ingest.meta["content"]
    if subject.frame not in wanted:
        raise ValueError(
            f"subject.frame is {subject.frame}; the frames {wanted.start} to {wanted.stop - 1} are processed"
        )
    grey = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in _pictures(ingest)])
    boxes = follow_box(grey, _first_box(subject, height, width), subject.frame - wanted.start)
    for left, top, right, bottom in boxes:
        mask = np.zeros((height, width), dtype=bool)
        if np.isfinite(left):
            x, y = (left + right) / 2, (top + bottom) / 2
            w, h = CORE * (right - left) / 2, CORE * (bottom - top) / 2
            rows = slice(max(0, round(y - h)), max(round(y + h), round(y - h) + 1))
            mask[rows, max(0, round(x - w)) : max(round(x + w), round(x - w) + 1)] = True
        yield mask


def _first_box(subject: SubjectConfig, height: int, width: int) -> np.ndarray:
    sides = np.array([width, height, width, height])
    if subject.box is not None:
        return np.array(subject.box) * sides
    assert subject.point is not None
    reach = max(4.0, POINT_REACH * min(height, width))
    return np.array([*subject.point, *subject.point]) * sides + np.array([-reach, -reach, reach, reach])


def _pictures(ingest: Artifact) -> Iterator[np.ndarray]:
    height, width = ingest.meta["content"]
    for start in range(0, ingest.meta["frames"], CHUNK):
        stop = min(start + CHUNK, ingest.meta["frames"])
        yield from ingest.frames().read(start, stop, ["rgb"])["rgb"][:, :height, :width]
