"""The flow schedulers a base is sampled with; all are diffusers' own, with Wan's settings."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

SchedulerName = Literal["euler", "unipc", "dpm++"]
CLASSES = {
    "euler": FlowMatchEulerDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
    "dpm++": DPMSolverMultistepScheduler,
}


def make_scheduler(name: SchedulerName, shift: float = 3.0) -> Any:
    """A flow scheduler: Euler, UniPC (order 2) or DPM-Solver++ (2M), with time shift `shift` > 0.

    Wan2.1 uses UniPC with shift 3 at 480p and 5 at 720p. The grids differ: at equal steps Euler's last sigma
    is near 0 (its constructor shifts sigma_min, and `set_timesteps` shifts it again), that of the others is
    about shift / (steps + shift - 1). In algebra use `scheduler.sigmas[i]`: timesteps are cut to integers.
    """
    if name not in CLASSES or not shift > 0:
        raise ValueError(
            f"sampling: no scheduler {name!r} with shift {shift};"
            f" use one of {', '.join(get_args(SchedulerName))} and a positive shift"
        )
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    return CLASSES[name](prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def scheduler_from_config(config: Mapping[str, Any]) -> Any:
    """The scheduler that a base's scheduler_config.json describes, if it is one of `CLASSES` on a flow.

    Raises ValueError for another class, or for a UniPC or DPM-Solver++ that does not predict a flow.
    """
    by_class = {cls.__name__: cls for cls in CLASSES.values()}
    name = config.get("_class_name")
    if name not in by_class:
        raise ValueError(f"sampling: scheduler {name!r} is not one of {', '.join(by_class)}")
    if name != FlowMatchEulerDiscreteScheduler.__name__ and not (
        config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction"
    ):
        raise ValueError(f"sampling: this {name} does not predict a flow; Wan needs use_flow_sigmas")
    return by_class[name].from_config(dict(config))
