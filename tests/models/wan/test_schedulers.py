import pytest
import torch

from recapture.models.wan.schedulers import make_scheduler, scheduler_from_config


def test_the_bases_own_scheduler_is_the_one_it_was_saved_with(bases):
    scheduler = scheduler_from_config(bases["inpaint"].scheduler_config)
    same = make_scheduler("unipc", 3.0)
    for made in (scheduler, same):
        made.set_timesteps(7)
    assert torch.equal(scheduler.sigmas, same.sigmas)


def test_schedulers_that_make_no_flow_are_refused():
    with pytest.raises(ValueError, match="'ddim'"):
        make_scheduler("ddim")
    with pytest.raises(ValueError, match="shift 0"):
        make_scheduler("euler", 0)
    with pytest.raises(ValueError, match="DDIMScheduler"):
        scheduler_from_config({"_class_name": "DDIMScheduler"})
    with pytest.raises(ValueError, match="does not predict a flow"):
        scheduler_from_config({"_class_name": "UniPCMultistepScheduler", "prediction_type": "epsilon"})


@pytest.mark.parametrize("name", ["euler", "unipc", "dpm++"])
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_noise_falls_from_all_to_none_and_more_shift_keeps_it_high_for_longer(name, shift):
    scheduler = make_scheduler(name, shift)
    scheduler.set_timesteps(10)
    sigmas = scheduler.sigmas.double()
    assert len(sigmas) == 11 and sigmas[0] > 0.999 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    middle = shift * 0.5 / (1 + (shift - 1) * 0.5)
    assert abs(float(sigmas[5]) - middle) < 0.06
