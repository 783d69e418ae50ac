"""The rows of inverse.py's stages: how each is sampled, and on which scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recapture.models.inverse.measurement import Fill, MaskKind
from recapture.models.inverse.solvers import SOLVERS

PIXEL_MASKS: tuple[MaskKind, ...] = ("trilinear", "binary", "nearest_and", "min_pool", "area")
ENCODER_MASKS: tuple[MaskKind, ...] = (
    "two_fill",
    "source_probe",
    "mask_encode",
    "leak_ratio",
    "fill_variance",
)
BINARY: MaskKind = "binary"
CONTINUOUS: MaskKind = "mask_encode"
DEFAULT = "native + area"
FRESH: dict[str, Any] = {"transition": "ddim", "eta": 1.0}
LATENT = [name for name, recipe in SOLVERS.items() if name != "wiener" and not recipe.pixels]


@dataclass(frozen=True)
class Row:
    """One way to sample: a mask and a solver, on top of the base's own inpainting input or alone."""

    name: str
    kind: MaskKind | None = None  # None: no solver; with settings, fresh noise at each step all the same
    solver: str = "replacement"
    native: bool = False
    channel_mean: bool = False
    fill: Fill = "pull_push"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def held_to(self) -> tuple[str | None, bool, str]:
        """Return what the measurement depends on; rows for which it is equal share one."""
        return self.kind, self.channel_mean, self.fill


def mask_rows() -> list[Row]:
    """Return every mask under three consistencies, with the base's noise and with fresh noise."""
    masks: list[tuple[str, MaskKind, bool]] = [(kind, kind, False) for kind in (*PIXEL_MASKS, *ENCODER_MASKS)]
    masks += [(f"{kind}, channel mean", kind, True) for kind in ENCODER_MASKS]
    return [
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
        *(
            Row(f"{name}, {solver}, {label}", kind, solver, channel_mean=mean, settings=settings)
            for solver in ("replacement", "proximal", "cg")
            for label, settings in (("velocity", {}), ("fresh noise", FRESH))
            for name, kind, mean in masks
        ),
        Row("fill_variance, wiener, velocity", "fill_variance", "wiener"),
        Row("fill_variance, wiener, fresh noise", "fill_variance", "wiener", settings=FRESH),
    ]


def setting_rows() -> list[Row]:
    """Return fills of the holes and settings of our solver."""
    ours: dict[str, Any] = {"kind": CONTINUOUS, "channel_mean": True, "fill": "telea"}
    fills: tuple[Fill, ...] = ("pull_push", "telea", "grey", "mean")
    two: tuple[tuple[MaskKind, bool], ...] = (("area", False), (CONTINUOUS, True))
    solved: tuple[tuple[MaskKind, bool, tuple[int, ...]], ...] = (
        ("binary", False, (5,)),
        ("area", False, (1, 2, 3, 5, 10)),
        (CONTINUOUS, True, (2, 5)),
        ("leak_ratio", True, (5,)),
    )
    return [
        *(
            Row(
                f"{'native + ' if native else ''}{kind}, {fill}",
                kind,
                "replacement",
                native,
                mean,
                fill,
                FRESH,
            )
            for native in (False, True)
            for kind, mean in two
            for fill in fills
        ),
        *(Row(f"ddim eta {eta:g}", **ours, settings=FRESH | {"eta": eta}) for eta in (0.0, 0.5, 0.85, 1.0)),
        *(Row(f"eta 1, stop {stop:g}", **ours, settings=FRESH | {"stop": stop}) for stop in (0.6, 0.8)),
        *(
            Row(f"eta 1, floor {floor:g}", **ours, settings=FRESH | {"mask_floor": floor})
            for floor in (0.3, 0.6)
        ),
        Row("eta 1, proximal", **ours, solver="proximal", settings=FRESH | {"gamma": 20.0}),
        Row("native + velocity", **ours, native=True),
        Row("native + eta 1", **ours, native=True, settings=FRESH),
        Row("native + eta 1, stop 0.8", **ours, native=True, settings=FRESH | {"stop": 0.8}),
        *(Row(f"native + {solver}, area", "area", solver, True) for solver in LATENT),
        *(
            Row(f"native + langevin, area, noise {level:g}", "area", "langevin", True, settings=settings)
            for level in (0.01, 0.02, 0.05, 0.2, 0.4)
            for settings in ({"noise_level": level},)
        ),
        Row("native + langevin, binary", "binary", "langevin", True),
        *(
            Row(f"native + cg {steps}, {kind}, fresh noise", kind, "cg", True, mean, settings=settings)
            for kind, mean, counts in solved
            for steps in counts
            for settings in (FRESH | {"iterations": steps},)
        ),
        Row("cg 5, area, fresh noise", "area", "cg", settings=FRESH),
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
    ]


def solver_rows() -> list[Row]:
    """Return every solver, alone and on top of the native input."""
    return [
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
        *(
            Row(f"{'native + ' if native else ''}{solver}, {kind}", kind, solver, native)
            for native in (False, True)
            for kind in (BINARY, "area")
            for solver in LATENT
        ),
        Row("vision_xl, in pixels", BINARY, "vision_xl"),
        Row("native + vision_xl, in pixels", BINARY, "vision_xl", True),
        Row("psld, in pixels", BINARY, "psld"),
    ]


def report_rows() -> list[Row]:
    """Return what was chosen, and what it is compared with."""
    ours: dict[str, Any] = {"kind": CONTINUOUS, "channel_mean": True, "settings": FRESH}
    return [
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
        Row("alone: binary", "binary", settings=FRESH),
        Row("native + binary", "binary", native=True, settings=FRESH),
        Row("alone: area", "area", settings=FRESH),
        Row("native + langevin, binary", "binary", "langevin", True),
        Row("native + langevin, area", "area", "langevin", True),
        Row("alone: cg, area", "area", "cg", settings=FRESH),
        Row("native + cg, area", "area", "cg", native=True, settings=FRESH),
        Row(DEFAULT, "area", native=True, settings=FRESH),
        Row(f"native + {CONTINUOUS}, channel mean", **ours, native=True),
    ]


STAGES: dict[str, tuple[Callable[[], list[Row]], range, int, tuple[float, ...]]] = {
    "masks": (mask_rows, range(200, 224), 3, (30.0,)),
    "settings": (setting_rows, range(200, 224), 3, (30.0,)),
    "solvers": (solver_rows, range(24), 3, (30.0,)),
    "report": (report_rows, range(24), 3, (10.0, 20.0, 30.0, 45.0)),
}
