"""Read a folder tree as a dataset: video files, folders of frames, and scenes files, with their sidecars.

Sidecars of NAME.mp4, or of a folder NAME that holds frames, are NAME.txt (caption), NAME.depth.npz,
NAME.known.npz, NAME.objects.npz and NAME.cameras.npz or .json. A folder of frames may hold fps.txt. A folder
that contains a video is not a folder of frames: its pictures are taken for thumbnails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import fsspec

from recapture.datasets.clips.clip import Clip, ClipError, ClipKind, Rejected, validate_clip_id
from recapture.datasets.media.pictures import FRAME_SUFFIXES
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers import scenes
from recapture.datasets.readers.file_clip import Place, read_clip
from recapture.datasets.readers.folders import Folders, place_of
from recapture.datasets.readers.unread import Found, Unread
from recapture.datasets.readers.walk import Visit, is_text, rejected, walk

SCENES_FILES = ("scenes.yaml", "scenes.yml", "scenes.json")
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2", ".!qb", ".tmp")


def read_folder(uri: str, folders: Folders, own: Sequence[str] = ()) -> Iterator[Found]:
    """Yield every clip below a folder, in no particular order, and every entry that should be one but is not.

    own: folders that the job writes to; they are left out.
    Raises: FileNotFoundError or NotADirectoryError if uri itself is not a folder.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.exists(path):
        raise FileNotFoundError(f"{uri!r} does not exist")
    if not fs.isdir(path):
        raise NotADirectoryError(f"{uri!r} is not a folder")
    for visit in walk(folders, own):
        if isinstance(visit, Visit):
            yield from _clips(visit)
        else:
            yield visit


def read_file(folders: Folders) -> Iterator[Found]:
    """Yield a single video file as a dataset of one clip, named by its stem."""
    folder, _, name = folders.root.rpartition("/")
    yield _unread("", Place(folder, name, "video"))


def read_listed(
    uri: str, clip_id: str, given: Mapping[str, str | None], folders: Folders
) -> Unread | Rejected:
    """Return a video file or a folder of frames that a list names; `given` is that of read_clip."""
    try:
        validate_clip_id(clip_id)
        fs, path = fsspec.core.url_to_fs(uri)
        uri = place_of(fs, path)
        folder, _, name = uri.rpartition("/")
        if folders.entry(uri) is None:
            raise ClipError(f"{uri!r} does not exist; correct the list")
        kind: ClipKind = "video" if name.lower().endswith(VIDEO_SUFFIXES) else "frames"
        return Unread(clip_id, uri, partial(read_clip, clip_id, Place(folder, name, kind), given=given))
    except Exception as error:  # one bad entry must not stop the others
        return Rejected.because(clip_id, uri, error)


def _clips(visit: Visit) -> Iterator[Clip | Unread | Rejected]:
    """Yield the clips directly in a folder; folders called like a video are none, and not entered."""
    shown = [entry for entry in visit.listing.entries if not entry.name.startswith(".")]
    if not shown:
        reason = "the folder is empty; put a video or frames into it, or remove it"
        yield rejected(visit.inside or _name(visit.uri), visit.uri, reason)
    videos = [entry for entry in shown if entry.name.lower().endswith(VIDEO_SUFFIXES)]
    visit.enter = [entry for entry in visit.enter if entry not in videos]
    for entry in videos:
        if entry.kind in ("file", "folder") and is_text(entry.name):
            yield _unread(visit.inside, Place(visit.uri, entry.name, "video"))
    for entry in shown:
        if entry.name in SCENES_FILES and entry.kind == "file":
            yield from scenes.read_scenes_file(f"{visit.uri}/{entry.name}", visit.inside)
        elif _is_unfinished(entry.name.lower()):
            reason = "it is an unfinished download; finish it, or remove it"
            place = f"{visit.inside}/{entry.name}".lstrip("/")
            yield rejected(place, f"{visit.uri}/{entry.name}", reason)
    if not videos and any(entry.name.lower().endswith(FRAME_SUFFIXES) for entry in shown):
        folder, _, name = visit.uri.rpartition("/")
        yield _unread(visit.inside.rpartition("/")[0], Place(folder, name, "frames"))


def _unread(inside: str, place: Place) -> Unread:
    clip_id = f"{inside}/{place.stem}".lstrip("/")
    return Unread(clip_id, place.uri, partial(read_clip, clip_id, place))


def _is_unfinished(name: str) -> bool:
    ending = next((ending for ending in UNFINISHED if name.endswith(ending)), None)
    return ending is not None and name.removesuffix(ending).endswith(VIDEO_SUFFIXES)


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
