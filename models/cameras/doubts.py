"""What explains a clip's picture and is not believed: travel without depth, and a lens far from the guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recapture.models.cameras.bundle import LENS_RANGE, Cameras, Problem
from recapture.models.cameras.points import FEWEST_TOLD, deviation, fitted_disparities, told_by_parallax

FREE = 20.0  # relative deviation of a disparity of which nothing is expected
FLAT = 0.05  # relative deviation up to which depth is right whatever else is
PLANE = (
    "it seems to travel, but a plane explains its parallax better than the depth does; taken as turning and "
    "zooming"
)
LENS = (
    f"its lens seems to be more than {LENS_RANGE:g} times as long or short as ingest.fov_degrees says, as "
    "that of a stabilised or cropped picture does; state ingest.fov_degrees if it is"
)


def depth_vouches(problem: Problem, cameras: Cameras, disparity: np.ndarray) -> bool:
    """Return whether the depth explains the parallax of cameras that travel better than a plane would.

    A disparity per point explains nearly every picture that grows or shrinks: a zoom is then the travel
    towards a plane. So disparities are found from the picture alone and compared with the predicted ones:
    where the camera travels, they differ from each other by more than they differ from the prediction. True
    where too few points tell theirs.
    """
    free = fitted_disparities(replace(problem, spread=FREE), cameras, disparity)
    told = told_by_parallax(problem, cameras, free) & np.isfinite(problem.prior)
    if told.sum() < FEWEST_TOLD:
        return True
    found, predicted = np.log(free[told]), np.log(problem.prior[told])
    return deviation(found - predicted) <= max(deviation(found), FLAT)


def at_limit(focal: np.ndarray, guess: float) -> bool:
    """Return whether focal lengths [T] are as far from the guess as an unknown lens may be."""
    return not 1.01 / LENS_RANGE < float(np.median(focal)) / guess < LENS_RANGE / 1.01
