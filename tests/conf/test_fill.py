"""What of the fill's settings fits together."""

import pytest

from recapture.conf.fill import VELOCITY_SOLVERS, FillConfig, InverseConfig
from recapture.models.inverse.measurement import EncoderMask, PixelMask
from recapture.models.inverse.solvers import SOLVERS


def test_every_solver_and_mask_of_the_library_can_be_named():
    from typing import get_args

    assert set(get_args(InverseConfig.model_fields["solver"].annotation)) == set(SOLVERS)
    masks = {*get_args(PixelMask), *get_args(EncoderMask)} - {"source_probe"}
    assert set(get_args(InverseConfig.model_fields["mask"].annotation)) == masks


def test_those_that_leave_the_steps_to_the_scheduler_are_known():
    own = {name for name, recipe in SOLVERS.items() if recipe.transition == "velocity"}
    assert own == set(VELOCITY_SOLVERS)


def test_a_solver_that_takes_eulers_steps_refuses_another_scheduler():
    for solver in SOLVERS:
        settings = {"method": "inverse", "scheduler": "unipc", "inverse": {"solver": solver}}
        if solver in VELOCITY_SOLVERS:
            FillConfig.model_validate(settings)
        else:
            with pytest.raises(ValueError, match="takes Euler's steps"):
                FillConfig.model_validate(settings)
