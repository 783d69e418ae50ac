"""Muon against singular values, AdamW against torch's own."""

import pytest
import torch
from torch import nn

from recapture.models.pretraining.optimizer import MuonAdamW, as_matrices, from_matrices, orthogonalise


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_lengths(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    u2, s2, vh2 = torch.linalg.svd(orthogonalise(matrices), full_matrices=False)
    assert s2.min() > 0.6 and s2.max() < 1.3
    assert torch.allclose(u2 @ vh2, u @ vh, atol=1e-3)


def test_every_time_tap_of_a_convolution_is_a_matrix_of_its_own():
    stack = torch.randn(2, 4, 3, 5, 2, 2)
    matrices = as_matrices(stack)
    assert matrices.shape == (2, 5, 4, 12)
    assert torch.equal(matrices[1, 3], stack[1, :, :, 3].flatten(1))
    assert torch.equal(from_matrices(matrices, (4, 3, 5, 2, 2)), stack)
    plain = torch.randn(2, 4, 6)
    assert torch.equal(from_matrices(as_matrices(plain), (4, 6)), plain)


def test_what_is_no_matrix_is_stepped_as_torchs_adamw_steps_it():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(7)), None
    theirs = nn.Parameter(ours.detach().clone())
    optimizer = MuonAdamW({"a": ours}, lambda name, p: False, weight_decay=0.02, clip=1e9)
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.02)
    for _ in range(5):
        gradient = torch.randn(7)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step(0.01)
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_muon_step_has_the_size_of_an_adamw_step_and_the_norm_is_told_before_clipping():
    weight = nn.Parameter(torch.zeros(32, 64))
    optimizer = MuonAdamW({"w": weight}, lambda name, p: True)
    weight.grad = torch.randn(32, 64, generator=torch.Generator().manual_seed(1)) * 50
    norm = optimizer.step(0.1)
    assert norm == pytest.approx(float(weight.grad.norm() * norm), rel=1e-4), "clipped to norm 1"
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.2)
