"""A directory of LPIPS weights in AlexNet's shape: few channels, drawn at random."""

from pathlib import Path

import torch
from safetensors.torch import save_file

_LAYERS = {0: (3, 11), 3: (4, 5), 6: (4, 3), 8: (4, 3), 10: (4, 3)}  # channels taken in, side of the filter


def write_alex(folder: Path) -> str:
    """Write the two files and return the directory."""
    generator = torch.Generator().manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for layer, (taken, side) in _LAYERS.items():
        weights[f"features.{layer}.weight"] = torch.randn(4, taken, side, side, generator=generator) / side
        weights[f"features.{layer}.bias"] = torch.randn(4, generator=generator) / 10
    save_file(weights, folder / "backbone.safetensors")
    heads = {f"lin{n}.model.1.weight": torch.rand(1, 4, 1, 1, generator=generator) for n in range(5)}
    save_file(heads, folder / "heads.safetensors")
    return str(folder)
