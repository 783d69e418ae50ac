"""What readers find in a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.walk import LeftOut


@dataclass(frozen=True)
class Unread:
    """An entry that should be a clip, and the function that reads it; it raises the reason if it is none."""

    id: str
    uri: str
    read: Callable[[Asked], Clip]


Found = Clip | Unread | Rejected | LeftOut
