"""Errors of the artifact store."""

from __future__ import annotations


class ArtifactError(ValueError):
    """An artifact is missing or damaged; the message names stage, key, file and the way out."""


class ArtifactMissing(ArtifactError):
    """There is no such artifact."""


class ArtifactDamaged(ArtifactError):
    """A committed artifact is not as it was written."""

    def __init__(self, stage: str, key: str, message: str) -> None:
        super().__init__(message)
        self.stage, self.key = stage, key
