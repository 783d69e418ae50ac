"""A filler with Wan2.1's own settings, for tiny bases."""

from support.surface import SURFACE

from recapture.models.fill.compositing import Compositing
from recapture.models.fill.diffusion import DiffusionFiller

WAN = {
    "steps": 20,
    "guidance_scale": 5.0,
    "negative_prompt": "",
    "scheduler": "unipc",
    "shift": 3.0,
    "noise_scale": 1.0,
    "compositing": Compositing("feather", 4),
    "overlap": 8,
}


def wan_filler(base, **changes):
    return DiffusionFiller(base, SURFACE, **(WAN | changes))
