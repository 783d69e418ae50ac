"""Three lines of theta, phi and r: a camera on a sphere about the scene, as in TrajectoryCrafter and others.

Nothing in such a file identifies its dialect, so the caller declares it. Here +theta raises the camera, +phi
swings it to its right (degrees), and +r moves it towards the pivot (as a fraction of the pivot's depth).

theta_phi_r  TrajectoryCrafter (arXiv 2503.05638): theta, phi, r with these signs
phi_theta_r  phi, theta, r with these signs, the order of CogNVS
viewcrafter  ViewCrafter (arXiv 2409.02048): phi, theta, r, where +theta lowers the camera and -r approaches
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from recapture.datasets.cameras.cameras import CameraFileError, read_bytes, write_bytes

# The meaning of each line in order, and the factor that converts it to our signs.
ANGLE_FORMATS: dict[str, tuple[tuple[str, float], ...]] = {
    "theta_phi_r": (("theta", 1.0), ("phi", 1.0), ("r", 1.0)),
    "phi_theta_r": (("phi", 1.0), ("theta", 1.0), ("r", 1.0)),
    "viewcrafter": (("phi", 1.0), ("theta", -1.0), ("r", -1.0)),
}
_LINEAR_UP_TO = 3  # values per line; more are joined by a spline


@dataclass(frozen=True)
class Angles:
    """Key values, spaced evenly over the video; the parts may have different numbers of them."""

    theta: tuple[float, ...]  # degrees
    phi: tuple[float, ...]  # degrees
    r: tuple[float, ...]  # fraction of the pivot's depth

    def at_frames(self, frames: int) -> dict[str, np.ndarray]:
        """Return each part at every frame [T]: linear for up to three values, else PCHIP through all of them.

        The public implementations smooth longer lines and miss their inner values; this one meets them.
        """
        progress = np.linspace(0.0, 1.0, frames)
        parts = {}
        for name, values in (("theta", self.theta), ("phi", self.phi), ("r", self.r)):
            at = np.linspace(0.0, 1.0, len(values))
            if len(values) <= _LINEAR_UP_TO:
                parts[name] = np.interp(progress, at, values)
            else:
                parts[name] = PchipInterpolator(at, values)(progress)
        return parts


def read_angles(uri: str, dialect: str) -> Angles:
    """Read three lines of finite numbers; raises CameraFileError for anything else."""
    try:
        text = read_bytes(uri).decode()
    except UnicodeDecodeError as error:
        raise CameraFileError(f"trajectory {uri!r}: it is not text; write three lines of numbers") from error
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    names = ", ".join(name for name, _ in ANGLE_FORMATS[dialect])
    if len(lines) != 3:
        raise CameraFileError(
            f"trajectory {uri!r}: it has {len(lines)} lines with numbers, {dialect} has three: {names}"
        )
    parts = {}
    for (name, factor), words in zip(ANGLE_FORMATS[dialect], lines, strict=True):
        parts[name] = tuple(factor * _number(uri, name, word) for word in words)
    return Angles(**parts)


def write_angles(uri: str, angles: Angles, dialect: str) -> None:
    """Write the three lines of a dialect."""
    lines = []
    for name, factor in ANGLE_FORMATS[dialect]:
        lines.append(" ".join(f"{factor * value:.17g}" for value in getattr(angles, name)))
    write_bytes(uri, ("\n".join(lines) + "\n").encode())


def _number(uri: str, name: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise CameraFileError(f"trajectory {uri!r}: {name} has {word[:40]!r}; write finite numbers")
    return value
