import pytest

from recapture.models.wan.schedulers import make_scheduler


def test_schedulers_that_make_no_flow_are_refused():
    with pytest.raises(ValueError, match="'ddim'"):
        make_scheduler("ddim", 3.0)
    with pytest.raises(ValueError, match="shift 0"):
        make_scheduler("euler", 0)


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


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_four_steps_at_shift_5_are_the_grid_that_distillation_adapters_were_made_on(name):
    """lightx2v distils on 1000, 750, 500 and 250 of 1000 times, each shifted by 5; docs/adapters.md."""
    scheduler = make_scheduler(name, 5.0)
    scheduler.set_timesteps(4)
    wanted = [5 * time / (1 + 4 * time) for time in (1.0, 0.75, 0.5, 0.25)]
    assert scheduler.sigmas[:4].tolist() == pytest.approx(wanted, abs=1e-3)
