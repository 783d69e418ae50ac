import pytest
import torch
from support import tiny_base as tiny

from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.wan.load import load_base


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Tiny bases of every layout, and Wan2.2's with two transformers."""
    root = tmp_path_factory.mktemp("bases")
    made = {
        "t2v": tiny.write_tiny_base(root / "t2v", "t2v"),
        "inpaint": tiny.write_tiny_base(root / "inpaint", "inpaint"),
        "vace": tiny.write_tiny_base(root / "vace", "vace"),
        "wan22": tiny.write_tiny_base(root / "wan22", "inpaint", two=True),
    }
    return {name: load_base(folder) for name, folder in made.items()}


@pytest.fixture(scope="session")
def vae(bases):
    return bases["t2v"].vae


@pytest.fixture()
def clip():
    """A random smooth video [9, 3, 32, 48] in [-1, 1] and a hole that grows from frame 2 on."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(9, 3, 8, 12, generator=generator) * 2 - 1
    video = torch.nn.functional.interpolate(coarse, (32, 48), mode="bilinear")
    visible = torch.ones(9, 32, 48, dtype=torch.bool)
    for t in range(2, 9):
        visible[t, 4 : 6 + 2 * t, 14 : 20 + 3 * t] = False
    return video, visible


@pytest.fixture()
def measure():
    """Makes a random measurement of a shape, under a mask: 'zero', 'one', 'binary' or 'soft'."""

    def make(mask, shape=(1, 16, 3, 4, 6), seed=0, variance=None, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(shape, generator=generator, dtype=dtype)
        uniform = torch.rand(shape, generator=generator, dtype=dtype)
        choice = torch.rand(shape, generator=generator)
        weights = {
            "zero": torch.zeros_like(uniform),
            "one": torch.ones_like(uniform),
            "binary": (choice < 0.6).to(dtype),
            "soft": torch.where(choice < 0.3, 0.0, torch.where(choice < 0.6, 1.0, uniform)).to(dtype),
        }[mask]
        if variance is None:
            variance = torch.where(weights > 0, 1 - weights, float("inf")).to(dtype)
        return LatentMeasurement(latents, weights, variance)

    return make
