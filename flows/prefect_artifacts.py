"""What a job shows in Prefect besides its states: a progress bar, and a summary when it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from recapture.conf.redact import without_credentials

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0


class JobArtifacts:
    """Progress and summary of a job. An unreachable Prefect server is logged once and never stops the job."""

    def __init__(self, flow: str, description: str) -> None:
        self._flow, self._unreachable, self._updated = flow, False, 0.0
        self._description = description
        self._bar = self._ask(
            lambda: create_progress_artifact(0.0, key=f"{flow}-progress", description=description)
        )

    def progress(self, percent: float, now_at: Callable[[], str] = lambda: "") -> None:
        """Update the bar and the line below it, at most once per second; the end is always shown."""
        now = time.monotonic()
        if (
            self._bar is not None
            and not self._unreachable
            and (now - self._updated >= PAUSE_SECONDS or percent >= 100)
        ):
            self._updated = now
            text = ": ".join(part for part in (self._description, without_credentials(now_at())) if part)
            bar = cast(UUID, self._bar)
            self._ask(lambda: update_progress_artifact(artifact_id=bar, progress=percent, description=text))

    def summary(self, markdown: str) -> None:
        """Publish the summary."""
        text = without_credentials(markdown)
        self._ask(lambda: create_markdown_artifact(markdown=text, key=f"{self._flow}-summary"))

    def _ask(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            if not self._unreachable:
                kind = type(error).__name__
                logger.warning("Prefect's server does not answer (%s); the job goes on without its bar", kind)
            self._unreachable = True
            return None
