"""The published layouts by kind; the first one that recognises a folder's names reads it."""

from __future__ import annotations

from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.colmap import COLMAP
from recapture.datasets.readers.davis import DAVIS
from recapture.datasets.readers.dycheck import DYCHECK
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.kubric4d import KUBRIC4D
from recapture.datasets.readers.motionbench import MOTIONBENCH
from recapture.datasets.readers.multicamvideo import MULTICAMVIDEO
from recapture.datasets.readers.nerfstudio import NERFSTUDIO
from recapture.datasets.readers.realestate10k import REALESTATE10K
from recapture.datasets.readers.views import Layout

LAYOUTS: dict[str, Layout] = {
    layout.kind: layout
    for layout in (
        *(NERFSTUDIO, COLMAP, DAVIS, KUBRIC4D, MULTICAMVIDEO, DYCHECK, REALESTATE10K, MOTIONBENCH),
    )
}


def recognised(folders: Folders) -> Layout | None:
    """Return the layout that the names in a folder identify, or None."""
    names = frozenset(Asked(folders).listed(folders.root))
    return next((layout for layout in LAYOUTS.values() if layout.recognise(names)), None)
