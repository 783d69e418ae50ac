"""Compiled blocks against the plain ones; settings that a device does not have."""

import pytest
import torch

from recapture.models.wan.load import load_base
from recapture.models.wan.lora import add_lora, train_only
from recapture.models.wan.speed import speed_up

BACKEND = "aot_eager_decomp_partition"  # what inductor is given, without a compiler of C++


def gradients(transformer):
    config, random = transformer.config, torch.Generator().manual_seed(3)
    inputs = torch.randn(1, config.in_channels, 3, 4, 6, generator=random)
    text = torch.randn(1, 16, config.text_dim, generator=random)
    output = transformer(inputs, torch.tensor([300.0]), text).sample
    return [output, *torch.autograd.grad(output.square().sum(), train_only(transformer).values())]


@pytest.mark.parametrize("budget", [1.0, 0.3])
def test_compiled_blocks_compute_the_same(folders, budget):
    base = load_base(folders["inpaint"])
    add_lora(base.transformer, rank=2)
    plain = gradients(base.transformer)
    speed_up(base.transformer, compile_blocks=True, activation_budget=budget, backend=BACKEND)
    for found, expected in zip(gradients(base.transformer), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "cudnn"}, "runs on CUDA, not on cpu"),
        ({"attention": "sage"}, "use one of native, cudnn, flash"),
        ({"activation_budget": 1.5}, "use 0 to 1"),
        ({"activation_budget": 0.5}, "compile them"),
    ],
)
def test_settings_that_cannot_be_are_refused(folders, settings, message):
    with pytest.raises(ValueError, match=message):
        speed_up(load_base(folders["t2v"]).transformer, **settings)
