"""Shares of a dataset: which of several jobs works on a clip, by the hash of its id."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One of several shares of a dataset's clips; number: from 1.

    A clip's share depends on its id and the number of shares alone: clips that are added move no other.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share that "3/16" names: the third of sixteen."""
        number, _, of = text.partition("/")
        return cls(int(number), int(of))

    @property
    def folder(self) -> str:
        """Return its name in paths, such as 3-of-16."""
        return f"{self.number}-of-{self.of}"

    def holds(self, clip_id: str) -> bool:
        """Return whether a clip is in this share; ids that a scan takes for equal are in one share."""
        plain = unicodedata.normalize("NFC", clip_id).casefold()
        drawn = int.from_bytes(hashlib.sha256(plain.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        return drawn % self.of == self.number - 1
