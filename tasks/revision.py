"""What a stage's model directory holds, as part of the content keys that depend on it."""

from __future__ import annotations

from recapture.conf.load import UserError
from recapture.datasets.keys import directory_hash


def model_revision(setting: str, folder: str) -> str:
    """Return the hash of a model directory; raise UserError naming the setting when there is none."""
    try:
        return directory_hash(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{setting}: {error}; name a local model directory") from error
