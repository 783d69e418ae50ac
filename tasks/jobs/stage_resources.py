"""What one worker of a stage gets of the machine."""

from __future__ import annotations

import os

import torch

from recapture.conf.schema import RecaptureConfig
from recapture.tasks.engine.stage import Resources
from recapture.tasks.jobs.baselines import CLASSICAL

# Of a GPU: depth and render are of one kind, so that one warm pool serves both beside the fill. What is
# measured is measured on CPUs, which a fill leaves idle (benchmarks/simulated_workers.md).
SHARES = {"fill": 0.8, "depth": 0.2, "render": 0.2, "enlarge": 0.2}


def stage_resources(config: RecaptureConfig, stage: str) -> Resources:
    """Return the resources of one worker of a stage.

    Where the settings name none for any stage and this machine has a GPU, fill and one helper share each.
    """
    wanted = config.execution.resources.get(stage)
    if wanted is not None:
        return Resources(wanted.cpus, wanted.gpus)
    if config.execution.resources or stage not in SHARES or not _gpu_here(config):
        return Resources()
    return Resources() if stage == "fill" and config.fill.method == CLASSICAL else Resources(1, SHARES[stage])


def _gpu_here(config: RecaptureConfig) -> bool:
    """Return whether the job works on this machine, and it has a GPU."""
    elsewhere = config.execution.ray_address is not None or "RAY_ADDRESS" in os.environ
    return torch.cuda.device_count() > 0 and not (config.execution.executor == "ray" and elsewhere)
