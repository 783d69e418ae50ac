import pytest
import torch

from recapture.models.training.noise_levels import draw_sigma
from recapture.models.training.seeds import generator

EVEN = torch.linspace(0, 1, 20000, dtype=torch.float64)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["uniform", "logit_normal"])
def test_noise_levels_follow_their_distribution(kind, shift):
    drawn = draw_sigma(20000, generator(0, 0, "cpu"), kind, shift).double()
    back = drawn / (shift - (shift - 1) * drawn)  # the shift undone
    if kind == "logit_normal":
        back = torch.special.ndtr(torch.logit(back))
    assert (back.sort().values - EVEN).abs().max() < 0.015  # Kolmogorov-Smirnov, p about 1e-4


def test_every_other_level_of_a_mix_is_uniform_and_not_shifted():
    mixed = draw_sigma(40000, generator(0, 0, "cpu"), "mixed", 3.0)[1::2].double()
    assert (mixed.sort().values - EVEN).abs().max() < 0.02
