"""Photographs from installed packages, as textures of procedural scenes. Nothing is downloaded.

Sources and licences, as the packages state them:

scikit-image (`skimage/data`): brick, grass and gravel (CC0Textures and the like, CC0), chelsea (CC0, Stéfan
van der Walt), coffee (CC0, Rachel Michetti), retina (CC0), rocket (SpaceX, public domain), coins and
immunohistochemistry (no known restrictions); for worlds also astronaut and hubble_deep_field (NASA, public
domain), camera (CC0, Lav Varshney), clock_motion (public domain, Stefan van der Walt) and cell (CC0).
matplotlib (`mpl-data/sample_data`): grace_hopper (United States Navy, public domain).
scikit-learn (`sklearn/datasets/images`): china by danielbuechele, flower by vultilion (both CC BY 2.0).
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

# package, file, and the square crop: left, top, side in pixels
_CROPS = (
    ("sklearn", "datasets/images/china.jpg", (0, 0, 427)),
    ("sklearn", "datasets/images/china.jpg", (213, 0, 427)),
    ("sklearn", "datasets/images/china.jpg", (190, 110, 256)),
    ("sklearn", "datasets/images/flower.jpg", (40, 0, 427)),
    ("sklearn", "datasets/images/flower.jpg", (213, 90, 300)),
    ("skimage", "data/brick.png", (0, 0, 512)),
    ("skimage", "data/grass.png", (0, 0, 512)),
    ("skimage", "data/gravel.png", (0, 0, 512)),
    ("skimage", "data/gravel.png", (128, 128, 256)),
    ("skimage", "data/chelsea.png", (0, 0, 300)),
    ("skimage", "data/chelsea.png", (151, 0, 300)),
    ("skimage", "data/coffee.png", (0, 0, 400)),
    ("skimage", "data/coffee.png", (200, 0, 400)),
    ("skimage", "data/coins.png", (40, 0, 303)),
    ("skimage", "data/ihc.png", (0, 0, 512)),
    ("skimage", "data/ihc.png", (200, 200, 256)),
    ("skimage", "data/retina.jpg", (420, 420, 570)),
    ("skimage", "data/rocket.jpg", (170, 0, 427)),
)
# Further crops, only of the variety "world".
_MORE_CROPS = (
    ("skimage", "data/astronaut.png", (0, 0, 512)),
    ("skimage", "data/astronaut.png", (90, 0, 256)),
    ("skimage", "data/camera.png", (0, 0, 512)),
    ("skimage", "data/camera.png", (0, 256, 256)),
    ("skimage", "data/hubble_deep_field.jpg", (0, 0, 872)),
    ("skimage", "data/hubble_deep_field.jpg", (300, 300, 400)),
    ("skimage", "data/clock_motion.png", (50, 0, 300)),
    ("skimage", "data/cell.png", (0, 60, 550)),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (0, 0, 512)),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (0, 88, 512)),
)
Collection = Literal["first", "gallery"]
COUNTS: dict[Collection, int] = {"first": len(_CROPS), "gallery": len(_CROPS) + len(_MORE_CROPS)}
_LEVELS = 9  # of the mip pyramid: from 256 pixels to one


@lru_cache(maxsize=4)
def photographs(size: int = 256, collection: Collection = "first") -> Tensor:
    """Return the photographs, uint8 [P, 3, size, size], always in the same order.

    collection: "first" is that of wide scenes; "gallery", that of worlds, has more.

    Raises: ImportError if scikit-image or scikit-learn is missing, FileNotFoundError if a package no longer
    ships a file.
    """
    pictures = []
    crops = _CROPS if collection == "first" else _CROPS + _MORE_CROPS
    for package, name, (left, top, side) in crops:
        with Image.open(_folder(package) / name) as picture:
            square = picture.convert("RGB").crop((left, top, left + side, top + side))
            pictures.append(np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        project = {"matplotlib": "matplotlib", "skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise ImportError(
            f"photographs: {project} is not installed; the pattern 'photographed' needs its images"
        )
    return Path(found.origin).parent


@lru_cache(maxsize=4)
def atlas(device: torch.device, dtype: torch.dtype, collection: Collection = "first") -> Tensor:
    """Return the pyramids of all photographs, [3, P * levels, S, S] in [0, 1].

    Every level has the full size, so that one trilinear lookup blends pixels and levels.
    """
    full = photographs(collection=collection).to(device=device, dtype=torch.float32) / 255
    side = full.shape[-1]
    levels = [full]
    for level in range(1, _LEVELS):
        small = functional.avg_pool2d(full, 2**level)
        levels.append(functional.interpolate(small, size=(side, side), mode="bilinear", align_corners=False))
    return torch.stack(levels, dim=1).flatten(0, 1).transpose(0, 1).contiguous().to(dtype)


def photograph_colour(
    u: Tensor,  # [...] in widths of a photograph, mirrored at every whole number
    v: Tensor,  # [...] in heights, downwards
    footprint: Tensor,  # [...] widths that a pixel covers
    choice: Tensor,  # [...] in [0, 1), which photograph
    collection: Collection = "first",
) -> Tensor:
    """Return the colours [..., 3] in [0, 1] of photographs at (u, v), averaged over about the footprint."""
    pyramid = atlas(u.device, u.dtype, collection)
    depth, side, count = pyramid.shape[1], pyramid.shape[-1], COUNTS[collection]
    level = torch.log2((footprint * side).clamp_min(1)).clamp_max(_LEVELS - 1)
    layer = (choice * count).floor().clamp(0, count - 1) * _LEVELS + level
    x, y = ((1 - (torch.remainder(at, 2) - 1).abs()) * side - 0.5 for at in (u, v))
    grid = torch.stack([x / (side - 1), y / (side - 1), layer / (depth - 1)], dim=-1) * 2 - 1
    colour = functional.grid_sample(
        pyramid[None], grid.reshape(1, 1, 1, -1, 3), align_corners=True, padding_mode="border"
    )
    return colour.reshape(3, -1).T.reshape(*u.shape, 3)
