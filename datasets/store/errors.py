"""Errors of the artifact store."""

from __future__ import annotations


class ArtifactError(ValueError):
    """An artifact is missing or damaged; the message names stage, key, file and the way out."""


class ArtifactMissing(ArtifactError):
    """The artifact does not exist."""


class ArtifactDamaged(ArtifactError):
    """A committed artifact differs from what was written."""

    def __init__(self, stage: str, key: str, message: str) -> None:
        super().__init__(message)
        self.stage, self.key = stage, key
