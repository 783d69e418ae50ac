"""What of the fill's settings fits together."""

from itertools import product
from typing import get_args

import pytest
import torch

from recapture.conf.fill import FillConfig
from recapture.conf.inverse import (
    BLENDING_SOLVERS,
    DDIM_SOLVERS,
    OWN_STARTS,
    VELOCITY_SOLVERS,
    InverseConfig,
)
from recapture.conf.schema import RecaptureConfig
from recapture.conf.speed import SpeedConfig
from recapture.models.inverse.measurement import EncoderMask, LatentMeasurement, PixelMask
from recapture.models.inverse.solvers import SOLVERS, make_solver


def test_every_solver_and_mask_of_the_library_can_be_named():
    assert set(get_args(InverseConfig.model_fields["solver"].annotation)) == set(SOLVERS)
    masks = {*get_args(PixelMask), *get_args(EncoderMask)} - {"source_probe"}
    assert set(get_args(InverseConfig.model_fields["mask"].annotation)) == masks


def test_those_that_leave_the_steps_to_the_scheduler_are_known():
    own = {name for name, recipe in SOLVERS.items() if recipe.transition == "velocity"}
    assert own == set(VELOCITY_SOLVERS)


def test_transitions_and_starts_of_the_solvers_are_known():
    ddim = {name for name, recipe in SOLVERS.items() if recipe.transition == "ddim"}
    blending = {name for name, recipe in SOLVERS.items() if recipe.consistency is None}
    starts = {name: recipe.start for name, recipe in SOLVERS.items() if recipe.start}
    assert (ddim, blending, starts) == (set(DDIM_SOLVERS), set(BLENDING_SOLVERS), OWN_STARTS)


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_a_solver_does_not_have_is_refused_with_the_settings_and_not_by_every_clip(solver):
    """The library's own refusals are the twin."""
    given = {"transition": (None, "velocity", "ddim"), "eta": (None, 0.0, 0.5), "start": (None, 0.0, 0.3)}
    measurement = LatentMeasurement(*torch.ones(2, 1, 16, 2, 4, 4))
    for values in product(*given.values(), (0.2, 1.0)):
        settings = dict(zip([*given, "stop"], values))
        try:
            make_solver(solver, measurement, pixels=object(), **settings)
            usable = True
        except ValueError:
            usable = False
        try:
            InverseConfig(solver=solver, **settings)
        except ValueError:
            assert not usable, settings
        else:
            assert usable, settings


def test_a_solver_that_takes_eulers_steps_refuses_another_scheduler():
    for solver in SOLVERS:
        settings = {"method": "inverse", "scheduler": "unipc", "inverse": {"solver": solver}}
        if solver in VELOCITY_SOLVERS:
            FillConfig.model_validate(settings)
        else:
            with pytest.raises(ValueError, match="needs Euler steps"):
                FillConfig.model_validate(settings)


def test_kernels_that_take_half_precision_ask_for_it():
    with pytest.raises(ValueError, match="needs half precision"):
        FillConfig(speed=SpeedConfig(attention="cudnn"))
    FillConfig(speed=SpeedConfig(attention="cudnn"), precision="bfloat16")


def test_masks_that_compare_encodings_of_the_clip_ask_for_a_fine_vae():
    given = {"method": "inverse", "vae_precision": "bfloat16"}
    for mask in get_args(InverseConfig.model_fields["mask"].annotation):
        settings = given | {"inverse": {"mask": mask}}
        if mask in get_args(EncoderMask) and mask != "mask_encode":
            with pytest.raises(ValueError, match="is too coarse"):
                FillConfig.model_validate(settings)
        else:
            FillConfig.model_validate(settings)


def test_content_keys_know_nothing_of_speed():
    plain = FillConfig().keyed()
    assert "speed" not in plain
    fast = FillConfig(speed=SpeedConfig(attention="cudnn", compile_blocks=True), precision="bfloat16")
    assert fast.keyed() == plain | {"precision": "bfloat16"}


def test_a_budget_for_activations_needs_compiled_blocks():
    tune = {"training": {"activation_budget": 0.5}}
    with pytest.raises(ValueError, match=r"set fill\.speed\.compile_blocks"):
        RecaptureConfig.model_validate({"tune": tune})
    RecaptureConfig.model_validate({"tune": tune, "fill": {"speed": {"compile_blocks": True}}})


def test_the_guidance_of_a_second_transformer_needs_guidance():
    assert FillConfig(guidance_scale=4.0, guidance_scale_2=3.0).guidance_scale_2 == 3.0
    with pytest.raises(ValueError, match=r"fill\.guidance_scale_2 3 needs guidance"):
        FillConfig(guidance_scale_2=3.0)
