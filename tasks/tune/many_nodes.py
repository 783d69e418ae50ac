"""One training by processes on several nodes: a gang in the bundles that the stage's worker has reserved.

One node has its own mechanism in one_node.py, which needs no Ray. Ray Train is not used: it would add a
dependency, and its checkpoints and retries would duplicate those of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
import torch.distributed
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.heartbeat import beat, seconds_since_beat
from recapture.conf.redact import without_credentials
from recapture.conf.tune import TuneConfig
from recapture.models.training.parallel import mean_over_workers
from recapture.tasks.clip.base_files import local_model_paths
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item, Resources, WorkerLost
from recapture.tasks.engine.threads import set_threads, thread_count
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.one_node import is_consequence
from recapture.tasks.tune.train_adapter import Trained, TrainsAdapters

if TYPE_CHECKING:
    from recapture.tasks.engine.ray_gang import Gang


SETUPS = 3  # attempts to start the processes of one training


def spread(resources: Resources, tune: TuneConfig) -> Resources:
    """Return a training's resources, in one bundle per process if it may be placed on several nodes.

    Raises UserError if the GPUs cannot be divided evenly.
    """
    if tune.placement == "node" or tune.workers == 1:
        return resources
    if resources.gpus % tune.workers:
        raise UserError(
            f"tune.workers is {tune.workers}, but execution.resources.tune.gpus is {resources.gpus:g}; "
            f"set it to 0, or to a multiple of {tune.workers}"
        )
    return replace(resources, bundles=tune.workers)


class Ranks:
    """The processes of a stage's trainings, each with the base loaded."""

    def __init__(self, stage: TrainsAdapters) -> None:
        self._stage = replace(stage)  # without the models that a setup has loaded
        self._gang: Gang | None = None

    def start(self, tries: int = SETUPS) -> Gang:
        """Return the processes; if there are none, start them and have each load the base.

        Raises UserError outside a worker of the Ray executor, or if a node lacks a model or the store;
        WorkerLost if they die at every attempt; TimeoutError.
        """
        if self._gang is None or not self._gang.alive:
            try:
                self._gang = self._loaded()
            except WorkerLost:
                if tries == 1:
                    raise
                return self.start(tries - 1)  # Ray takes a while to detect a lost node
        return self._gang

    def _loaded(self) -> Gang:
        from recapture.tasks.engine.ray_gang import Gang, own_bundles

        if (group := own_bundles()) is None:
            raise UserError(
                "tune.placement cluster needs Ray; set execution.executor ray, or tune.placement node"
            )
        key = f"seen-{uuid4().hex}"
        proof = Checkpoint(self._stage.store, self._stage.name, key)
        try:
            proof.save(b"", [])
            gang = Gang(Rank, group, self._stage.resources, self._stage)
            gang.all("load", key, seconds=RetryPolicy.setup_seconds)
        finally:
            proof.forget()
        return gang

    def train(self, item: Item) -> Trained:
        """Train an item's adapter; raises the error of any process, and WorkerLost."""
        gang = self.start()
        trained = gang.all("train", item, gang.first("open_meeting"))[0]
        assert isinstance(trained, Trained)
        return trained


class Rank:
    """One process of a training, on any node."""

    def __init__(self, stage: TrainsAdapters, number: int) -> None:
        self._stage, self._number = stage, number

    def load(self, proof: str) -> None:
        """Load the base; raises UserError if this node lacks a model, or cannot read a checkpoint."""
        from recapture.tasks.engine.ray_gang import node_address

        beat()
        set_threads(thread_count(Resources(self._stage.resources.cpus / self._stage.resources.bundles)))
        node = node_address()
        if Checkpoint(self._stage.store, self._stage.name, proof).load() is None:
            raise UserError(
                f"node {node} cannot read what another node writes to store "
                f"{without_credentials(self._stage.store)!r}; name one that all nodes share"
            )
        for setting, path in local_models(self._stage).items():
            if not Path(path).exists():
                raise UserError(
                    f"node {node} has no {setting} {path!r}; give an absolute path that exists on all nodes"
                )
        self._stage.load()

    def silence(self) -> float:
        """Return the seconds since the last progress; called while it works."""
        return seconds_since_beat()

    def open_meeting(self) -> tuple[str, int]:
        """Return host and port where the processes of one training meet; this process keeps them open."""
        from recapture.tasks.engine.ray_gang import node_address

        host, workers = node_address(), self._stage.resources.bundles
        self._meeting = torch.distributed.TCPStore(host, 0, workers, is_master=True, wait_for_workers=False)
        return host, self._meeting.port

    def train(self, item: Item, meeting: tuple[str, int]) -> Trained | None:
        """Train an item's adapter together with the other processes; the first returns it."""
        workers = self._stage.resources.bundles
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # of the previous item
        with _lost_as_worker_lost():
            store = self._meeting if self._number == 0 else torch.distributed.TCPStore(*meeting, workers)
            torch.distributed.init_process_group(
                "nccl" if self._stage.resources.gpus > 0 else "gloo",
                store=store,
                rank=self._number,
                world_size=workers,
            )
        trained = self._stage.train(item, (self._number, workers), _reduce)
        return trained if self._number == 0 else None


def local_models(stage: TrainsAdapters) -> dict[str, str]:
    """Return the models that a training reads from the disk of its node: setting -> path."""
    start = {} if stage.config.start is None else {"tune.start": stage.config.start}
    return local_model_paths(stage.fill) | start


def _reduce(gradients: Sequence[Tensor]) -> None:
    with _lost_as_worker_lost():
        mean_over_workers(gradients)


@contextmanager
def _lost_as_worker_lost() -> Iterator[None]:
    """Turn the error of a process that others have left into WorkerLost."""
    try:
        yield
    except RuntimeError as error:
        if not is_consequence(error):
            raise
        raise WorkerLost(f"a process of a training lost the others: {error}") from error
