"""Recapture: film ordinary single-camera videos again along new camera trajectories.

`results`, `manifest`, `measurements` and `curve` return what jobs have made as pandas DataFrames.
"""

TYPE_CHECKING = False  # as in typing, which takes longer to import than the rest of this file
if TYPE_CHECKING:
    from recapture.flows.dataframes import curve, manifest, measurements, results

__version__ = "0.1.0"
__all__ = ["__version__", "curve", "manifest", "measurements", "results"]


def __getattr__(name: str) -> object:
    """Import pandas at the first use of a function that needs it."""
    if name in __all__:
        from recapture.flows import dataframes

        return getattr(dataframes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
