"""The CPUs and GPUs of one worker of a stage, where the settings name none."""

from __future__ import annotations

import os

import torch

from recapture.conf.schema import RecaptureConfig
from recapture.tasks.engine.stage import Resources
from recapture.tasks.jobs.baselines import CLASSICAL

# Of a GPU: depth and render are of one kind, so that one warm pool serves both beside the fill. What is
# measured is measured on CPUs, which a fill leaves idle (benchmarks/simulated_workers.md).
SHARES = {"fill": 0.8, "depth": 0.2, "render": 0.2, "enlarge": 0.2}
OF_MOTION = {"heads": 0.2, "motion_examples": 0.2}  # the stages of a motion transfer
OF_MOTION |= {"motion_tune": 0.8, "transfer_base": 0.8, "transfer": 0.8}
HELPER = 0.2  # of a GPU: a stage of the same kind, if a model does its work


def stage_resources(config: RecaptureConfig, stage: str) -> Resources:
    """Return the resources of one worker of a stage.

    Where the settings name none for any stage and this machine has a GPU, fill and one helper share each.
    """
    wanted = config.execution.resources.get(stage)
    if wanted is not None:
        return Resources(wanted.cpus, wanted.gpus)
    share = _share(config, stage)
    if config.execution.resources or not share or not _gpu_here(config):
        return Resources()
    return Resources(1, share)


def _share(config: RecaptureConfig, stage: str) -> float:
    """Return the share of a GPU that a stage takes by itself."""
    if stage == "fill" and config.fill.method == CLASSICAL:
        return 0.0
    by_model = {"caption": config.caption.of_model, "select": config.mask.select.of_model}
    return (SHARES | OF_MOTION).get(stage, HELPER if by_model.get(stage) else 0.0)


def _gpu_here(config: RecaptureConfig) -> bool:
    """Return whether the job works on this machine, and it has a GPU."""
    elsewhere = config.execution.ray_address is not None or "RAY_ADDRESS" in os.environ
    return torch.cuda.device_count() > 0 and not (config.execution.executor == "ray" and elsewhere)
