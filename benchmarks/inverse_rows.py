"""The rows of inverse.py's stages: what is sampled how, on which scenes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recapture.models.inverse.measurement import Fill
from recapture.models.inverse.solvers import SOLVERS

CEILING = "truth through the VAE (ceiling)"
PIXEL_MASKS = ("trilinear", "binary", "nearest_and", "min_pool", "area")
ENCODER_MASKS = ("two_fill", "source_probe", "mask_encode", "leak_ratio", "fill_variance")
BINARY, CONTINUOUS = "binary", "mask_encode"
FRESH: dict[str, Any] = {"transition": "ddim", "eta": 1.0}


@dataclass(frozen=True)
class Row:
    """One way to sample: a mask and a solver, on top of the base's own inpainting input or alone."""

    name: str
    kind: str | None = None  # None: no solver; with settings, fresh noise at each step all the same
    solver: str = "replacement"
    native: bool = False
    channel_mean: bool = False
    fill: Fill = "pull_push"
    settings: dict[str, Any] = field(default_factory=dict)


def mask_rows() -> list[Row]:
    return [
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
        *(
            Row(
                f"{kind}{', channel mean' if mean else ''}, {label}",
                kind,
                channel_mean=mean,
                fill="telea",
                settings=settings,
            )
            for label, settings in (("velocity", {}), ("fresh noise", FRESH))
            for kind in (*PIXEL_MASKS, *ENCODER_MASKS)
            for mean in ((False, True) if kind in ENCODER_MASKS else (False,))
        ),
        Row("fill_variance as Wiener, velocity", "fill_variance", "wiener", fill="telea"),
        Row("fill_variance as Wiener, fresh noise", "fill_variance", "wiener", fill="telea", settings=FRESH),
    ]


def setting_rows() -> list[Row]:
    ours = {"kind": CONTINUOUS, "channel_mean": True, "fill": "telea"}
    fills: tuple[Fill, ...] = ("pull_push", "telea", "grey", "mean")
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
            for kind, mean in (("area", False), (CONTINUOUS, True))
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
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
    ]


def solver_rows() -> list[Row]:
    masks = ((BINARY, False, BINARY), ("area", False, "area"))
    latent = [name for name, recipe in SOLVERS.items() if name != "wiener" and not recipe.pixels]
    return [
        Row("native", native=True),
        *(
            Row(f"{solver}, {label}", kind, solver, False, mean)
            for kind, mean, label in masks
            for solver in latent
        ),
        Row("vision_xl, in pixels", BINARY, "vision_xl"),
        Row("psld, in pixels", BINARY, "psld"),
        Row("native + renoised, area (default)", "area", "renoised", True),
    ]


def report_rows() -> list[Row]:
    ours = {"kind": CONTINUOUS, "channel_mean": True, "settings": FRESH}
    return [
        Row("native", native=True),
        Row("native, fresh noise", native=True, settings=FRESH),
        Row("alone: binary", "binary", settings=FRESH),
        Row("native + binary", "binary", native=True, settings=FRESH),
        Row("alone: area", "area", settings=FRESH),
        Row("native + area", "area", native=True, settings=FRESH),
        Row(f"native + {CONTINUOUS}, channel mean", **ours, native=True),
    ]


STAGES = {
    "masks": (mask_rows, range(200, 208), 1, (30.0,)),
    "settings": (setting_rows, range(200, 224), 3, (30.0,)),
    "solvers": (solver_rows, range(24), 3, (30.0,)),
    "report": (report_rows, range(24), 3, (10.0, 20.0, 30.0, 45.0)),
}
