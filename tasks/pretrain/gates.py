"""The gates of pre-training: scores that a part must reach on held-out scenes before others build on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recapture.conf.errors import UserError
from recapture.conf.pretrain import GatesConfig, PretrainConfig


class GateFailed(UserError):
    """A part of the base is not good enough to build on."""


@dataclass(frozen=True)
class Gate:
    """A bound on a score of a part, and the value reached."""

    part: str
    name: str
    side: str  # '>=' or '<='
    bound: float
    value: float

    @property
    def met(self) -> bool:
        """Return whether the value meets the bound; NaN does not."""
        return self.value >= self.bound if self.side == ">=" else self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.part}/{self.name} is {self.value:.4g}, needed {self.side} {self.bound:g}"


def gate_bounds(config: GatesConfig, part: str) -> dict[str, tuple[str, float]]:
    """Return the gates of a part: score -> side and bound. 'vae' has none, because 'refine' finishes it."""
    return {
        "vae": {},
        "refine": {
            "classic/psnr": (">=", config.vae_psnr),
            "classic/chroma_r2": (">=", config.vae_chroma_r2),
            "wide/psnr": (">=", config.vae_psnr),
            "wide/chroma_r2": (">=", config.vae_chroma_r2),
        },
        "sharpen": {
            f"{variety}/{name}": (">=", bound)
            for variety in ("classic", "wide")
            for name, bound in (
                ("psnr", config.vae_psnr),
                ("chroma_r2", config.vae_chroma_r2),
                ("sharpness", config.vae_sharpness),
            )
        },
        "inpainter": {
            "hole_gain": (">=", config.hole_gain),
            "colour_accuracy": (">=", config.colour_accuracy),
        },
        "depth": {f"{variety}/abs_rel": ("<=", config.depth_abs_rel) for variety in ("classic", "wide")},
        "features": {
            f"{metric}/ordered": (">=", config.features_ordered)
            for metric in ("distance", "view", "frechet_image", "frechet_clip")
        },
    }[part]


def part_gates(config: GatesConfig, part: str, scores: Mapping[str, float]) -> list[Gate]:
    """Return the gates of a part with the scores that it reached."""
    bounds = gate_bounds(config, part).items()
    return [Gate(part, name, side, bound, scores[name]) for name, (side, bound) in bounds]


def missed(gates: Sequence[Gate]) -> list[Gate]:
    """Return the gates that are not met."""
    return [gate for gate in gates if not gate.met]


def check(config: PretrainConfig, part: str, scores: Mapping[str, float]) -> None:
    """Raise GateFailed, naming every missed gate of the part, unless gates.enforce is false."""
    failed = missed(part_gates(config.gates, part, scores))
    if failed and config.gates.enforce:
        raise GateFailed(
            f"pretrain: gate failed: {'; '.join(map(str, failed))}. Remove {config.work}/{part}.* and train "
            f"with more {part}.steps, lower the bound under gates, or continue with gates.enforce=false"
        )


def gate_table(gates: Sequence[Gate]) -> str:
    """Return a Markdown table of gates: bound, value, met or not."""
    rows = []
    for gate in gates:
        verdict = "met" if gate.met else "not met"
        rows.append(f"| {gate.name} | {gate.side} {gate.bound:g} | {gate.value:.4g} | {verdict} |")
    return "\n".join(["| gate | bound | reached | |", "|---|---|---|---|", *rows])
