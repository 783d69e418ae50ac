"""A stage that writes a few bytes, so that what is measured is everything around it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.engine.stage import Item, PlannedStage


@dataclass
class SmallFile(PlannedStage[None]):
    """A stage that writes a few bytes; its `setup` takes `setup_seconds`."""

    setup_seconds: float = 0.0
    name: ClassVar[str] = "small_file"

    def setup(self) -> None:
        """Wait."""
        time.sleep(self.setup_seconds)

    def run(
        self, item: Item[None], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        """Write the file."""
        output.write_bytes("x.bin", item.name.encode())
        return {}
