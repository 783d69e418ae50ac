"""The folders that a job writes to, which are no part of its dataset."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from recapture.conf.schema import DatasetConfig
from recapture.datasets.readers.folders import is_below, real_place
from recapture.datasets.readers.scan import is_computed, located
from recapture.datasets.store.marker import mark


class Writing(Protocol):
    """Settings of a job that writes."""

    @property
    def dataset(self) -> DatasetConfig: ...
    @property
    def store(self) -> str: ...
    @property
    def outputs(self) -> str: ...
    @property
    def state(self) -> str: ...


def own_folders(config: Writing) -> list[str]:
    """Return the folders that a scan of the job's dataset leaves out.

    Of store, outputs and state that hold the dataset itself, only the part that videos are written to.
    """
    dataset = located(config.dataset.uri)
    if is_computed(dataset):
        return []
    top = real_place(dataset)
    return [inner if is_below(top, real_place(outer)) else outer for outer, inner in _written(config)]


def mark_own_folders(config: Writing) -> None:
    """Mark the folders that videos are written to, so that scans of other jobs leave them out too."""
    for _, inner in _written(config):
        with suppress(OSError):  # such as the state of a job whose MLflow is elsewhere
            mark(inner)


def _written(config: Writing) -> list[tuple[str, str]]:
    return [
        (config.store, f"{config.store.rstrip('/')}/objects"),
        (config.outputs, f"{config.outputs.rstrip('/')}/{config.dataset.name}"),
        (config.state, f"{config.state.rstrip('/')}/mlflow-artifacts"),
    ]
