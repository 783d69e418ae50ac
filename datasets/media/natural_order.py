"""Natural order of numbered names: frame_9 before frame_10."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which runs of digits count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
