"""The result of one check of `recapture doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What a check has found; the way out is empty if there is nothing to do."""

    check: str
    status: Literal["ok", "warn", "fail"]
    message: str
    way_out: str = ""
