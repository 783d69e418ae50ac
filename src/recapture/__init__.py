"""Recapture: film ordinary single-camera videos again along new camera trajectories.

`configure`, `plan` and `run` carry out jobs. `results`, `manifest`, `measurements`, `curve` and `arrays` return
what jobs have made. `render`, `load_base` and `fill` work on a clip in memory. See docs/python.md.
"""

TYPE_CHECKING = False  # as in typing, which takes longer to import than the rest of this file
if TYPE_CHECKING:
    from recapture.flows.dataframes import curve, manifest, measurements, results
    from recapture.flows.jobs_in_python import configure, plan, run
    from recapture.flows.stored_arrays import arrays
    from recapture.tasks.jobs.in_memory import Filmed, render
    from recapture.tasks.jobs.in_memory_fill import fill, load_base

__version__ = "0.1.0"
__all__ = [
    "Filmed",
    "__version__",
    "arrays",
    "configure",
    "curve",
    "fill",
    "load_base",
    "manifest",
    "measurements",
    "plan",
    "render",
    "results",
    "run",
]
_HOMES = {
    **dict.fromkeys(("curve", "manifest", "measurements", "results"), "flows.dataframes"),
    **dict.fromkeys(("configure", "plan", "run"), "flows.jobs_in_python"),
    **dict.fromkeys(("Filmed", "render"), "tasks.jobs.in_memory"),
    **dict.fromkeys(("fill", "load_base"), "tasks.jobs.in_memory_fill"),
    "arrays": "flows.stored_arrays",
}


def __getattr__(name: str) -> object:
    """Import pandas, torch and the rest at the first use of a function that needs them."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
