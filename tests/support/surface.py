"""Rendering as the configuration's defaults set it, except that surfaces of any stretch are seen."""

from dataclasses import replace

from recapture.conf.schema import RenderConfig
from recapture.models.geometry import rasterize
from recapture.tasks.jobs.render import surface_settings

SURFACE = replace(surface_settings(RenderConfig()), max_stretch=None)


def render(*clip_and_cameras, size=None, known=None, wanted=None, **changes):
    surface = replace(SURFACE, **changes)
    return rasterize.render(*clip_and_cameras, surface=surface, size=size, known=known, wanted=wanted)
