"""A tiny dataset in the layout of DAVIS."""

from pathlib import Path

import numpy as np
from PIL import Image


def davis_like(root: Path, names: tuple[str, ...], frames: int = 3) -> Path:
    """Write sequences of a few pictures with object ids; return the root."""
    for place, name in enumerate(names):
        for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            there = root / folder / "480p" / name
            there.mkdir(parents=True)
            for index in range(frames):
                channels = (8, 12, 3) if folder == "JPEGImages" else (8, 12)
                picture = np.full(channels, 10 * index + place, np.uint8)
                Image.fromarray(picture).save(there / f"{index:05d}.{suffix}")
    return root
