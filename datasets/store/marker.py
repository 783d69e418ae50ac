"""Mark the folders that this product writes videos to, so that a scan does not take these for inputs."""

from __future__ import annotations

from recapture.datasets.store.storage import open_filesystem, put_file

MARKER = ".recapture"
_TEXT = b"This folder holds what recapture has written. A scan of a dataset above it leaves it out.\n"


def mark(url: str) -> None:
    """Write the marker into a folder, unless it is there."""
    filesystem, folder = open_filesystem(url)
    if not filesystem.exists(f"{folder}/{MARKER}"):
        put_file(filesystem, f"{folder}/{MARKER}", _TEXT)
