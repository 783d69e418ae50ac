"""Read a clip's files again, to find out whether they are still those that a scan has read."""

from __future__ import annotations

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.file_clip import Place, read_clip
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.layouts import LAYOUTS
from recapture.datasets.readers.views import read_view


def content_now(clip: Clip) -> str:
    """Return the content hash that a scan would give the clip now; a procedural scene cannot change.

    Raises ValueError or OSError if its files cannot be used any more.
    """
    if clip.kind == "scene":
        return clip.content_hash
    folder, _, name = clip.uri.rpartition("/")
    if clip.kind in LAYOUTS:
        return read_view(LAYOUTS[clip.kind], clip.id, clip.uri, Asked(Folders(clip.uri))).content_hash
    given = {
        "caption": clip.caption or " ",  # it is no part of the hash
        "depth_uri": clip.depth_uri,
        "known_uri": clip.known_uri,
        "cameras_uri": clip.cameras_uri,
        "objects_uri": clip.objects_uri,
    }
    place = Place(folder, name, clip.kind)
    return read_clip(clip.id, place, Asked(Folders(folder)), given).content_hash
