"""Three lines of theta, phi and r: a camera on a sphere about the scene, as in TrajectoryCrafter and others.

Nothing in such a file identifies its dialect, so the caller declares it. Here +theta raises the camera, +phi
swings it to its right (degrees), and +r moves it towards the pivot (as a fraction of the pivot's depth).

theta_phi_r  TrajectoryCrafter (arXiv 2503.05638): theta, phi, r with these signs
phi_theta_r  phi, theta, r with these signs, the order of CogNVS
viewcrafter  ViewCrafter (arXiv 2409.02048): phi, theta, r, where +theta lowers the camera and -r approaches
postcam, inspatio  PostCam, InSpatio-World: theta, yaw, displacement, where +yaw swings to the left. With an
             angle anywhere, the displacement is how far the pivot is (1: at the pivot's depth), else how far
             the camera travels towards it
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from recapture.datasets.cameras.cameras import CameraFileError, read_bytes, write_bytes

# The meaning of each line in order, and the factor that converts it to our signs.
ANGLE_FORMATS: dict[str, tuple[tuple[str, float], ...]] = {
    "theta_phi_r": (("theta", 1.0), ("phi", 1.0), ("r", 1.0)),
    "phi_theta_r": (("phi", 1.0), ("theta", 1.0), ("r", 1.0)),
    "viewcrafter": (("phi", 1.0), ("theta", -1.0), ("r", -1.0)),
    "postcam": (("theta", 1.0), ("phi", -1.0), ("reach", 1.0)),
    "inspatio": (("theta", 1.0), ("phi", -1.0), ("reach", 1.0)),
}
SCALED = ("postcam", "inspatio")  # dialects whose distances are of another depth than the pivot's
_LINEAR_UP_TO = 3  # values per line; more are joined by a spline


@dataclass(frozen=True)
class Angles:
    """Key values, spaced evenly over the video; the parts may have different numbers of them."""

    theta: tuple[float, ...]  # degrees
    phi: tuple[float, ...]  # degrees
    r: tuple[float, ...]  # fraction of the pivot's depth
    reach: tuple[float, ...] = (1.0,)  # how far what the camera turns about is, as such a fraction

    def scaled(self, factor: float) -> Angles:
        """Return the angles with their distances multiplied."""
        if self.reach == (1.0,) and any(self.r):
            return replace(self, r=tuple(factor * value for value in self.r))
        return replace(self, reach=tuple(factor * value for value in self.reach))

    def at_frames(self, frames: int) -> dict[str, np.ndarray]:
        """Return each part at every frame [T]: linear for up to three values, else PCHIP through all of them.

        A reach of q is an approach r of 1 - q, made up for by a travel z of q - 1: the camera turns about the
        point at q.

        The public implementations smooth longer lines and miss their inner values; this one meets them.
        """
        progress = np.linspace(0.0, 1.0, frames)
        parts = {}
        lines = (("theta", self.theta), ("phi", self.phi), ("r", self.r), ("reach", self.reach))
        for name, values in lines:
            at = np.linspace(0.0, 1.0, len(values))
            if len(values) <= _LINEAR_UP_TO:
                parts[name] = np.interp(progress, at, values)
            else:
                parts[name] = PchipInterpolator(at, values)(progress)
        reach = parts.pop("reach")
        if self.reach != (1.0,):
            parts |= {"r": parts["r"] + 1 - reach, "z": reach - 1}
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
        parts[name] = tuple(factor * _number(uri, name, word) + 0.0 for word in words)  # -0 is 0
    if "reach" in parts:  # without a turn it is a way towards the pivot
        still = not any(parts["theta"] + parts["phi"])
        reach = parts.pop("reach")
        parts |= {"r": reach} if still else {"r": (0.0,), "reach": (1.0,) if set(reach) == {1.0} else reach}
    return Angles(**parts)


def write_angles(uri: str, angles: Angles, dialect: str) -> None:
    """Write the three lines of a dialect; raises CameraFileError for what it cannot say."""
    still = not any(angles.theta + angles.phi)
    reaches = any(name == "reach" for name, _ in ANGLE_FORMATS[dialect])
    if (not reaches and angles.reach != (1.0,)) or (reaches and not still and any(angles.r)):
        raise CameraFileError(
            f"trajectory {uri!r}: {dialect} cannot turn "
            + ("and approach in one path" if reaches else "about another point than the pivot")
            + "; write a file of cameras, such as cameras.npz of a preview"
        )
    lines = []
    for name, factor in ANGLE_FORMATS[dialect]:
        values = angles.r if name == "reach" and still else getattr(angles, name)
        lines.append(" ".join(f"{factor * value:.17g}" for value in values))
    write_bytes(uri, ("\n".join(lines) + "\n").encode())


def _number(uri: str, name: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise CameraFileError(f"trajectory {uri!r}: {name} has {word[:40]!r}; write finite numbers")
    return value
