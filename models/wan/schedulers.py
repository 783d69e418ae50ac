"""The flow schedulers a base is sampled with; all are diffusers' own, with Wan's settings."""

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


def make_scheduler(name: SchedulerName, shift: float) -> Any:
    """Make a flow scheduler: Euler, UniPC (order 2) or DPM-Solver++ (2M), with time shift `shift` > 0.

    Wan2.1 uses UniPC with shift 3 at 480p and 5 at 720p. The grids differ: at equal steps Euler's last sigma
    is near 0 (its constructor shifts sigma_min, and `set_timesteps` shifts it again), that of the others is
    about shift / (steps + shift - 1). In algebra use `scheduler.sigmas[i]`: timesteps are cut to integers.
    """
    if name not in CLASSES or not shift > 0:
        raise ValueError(
            f"sampling: there is no scheduler {name!r} with shift {shift};"
            f" use one of {', '.join(get_args(SchedulerName))} and a positive shift"
        )
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    return CLASSES[name](prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
