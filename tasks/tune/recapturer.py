"""Recapture of a clip by the base with an adapter, as a job would do it, and back to the source's cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recapture.conf.schema import DepthConfig, FillConfig, RenderConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.depth.load import DepthModel
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.tuning.cycle import RoundTrip, round_trip
from recapture.models.tuning.examples import check_trainable
from recapture.models.tuning.pairs import Move
from recapture.models.wan.load import Base
from recapture.tasks.clip.adapters import Adapters
from recapture.tasks.clip.base_files import base_revision
from recapture.tasks.engine.model_revision import model_revision
from recapture.tasks.jobs.depth import depth_model, keyed_depth
from recapture.tasks.jobs.fill import open_filler
from recapture.tasks.jobs.render import surface_settings


@dataclass(frozen=True)
class Recapture:
    """How videos are recaptured while tuning."""

    fill: FillConfig  # with the steps of tuning
    depth: DepthConfig
    render: RenderConfig
    estimate_depth: bool  # of filled pixels; else they take the background depth beside their hole
    scale: float = 1.0  # of the adapter


SAMPLING = (
    "steps",
    "guidance_scale",
    "negative_prompt",
    "scheduler",
    "shift",
    "noise_scale",
    "propagate",
    "propagate_by",
)
COMPOSITING = ("compositing", "feather")
# Estimates here take the scale of the source's depth.
OF_CLIPS = ("median_depth", "match_cameras", "edge_share", "max_unknown_share")


def base_settings(fill: FillConfig) -> dict[str, Any]:
    """Return the settings of the base in the keys of everything that is made with it."""
    vae = {} if fill.vae_precision == "float32" else {"vae_precision": fill.vae_precision}
    return {"base": base_revision(fill), "precision": fill.precision, **vae}


def sampling_settings(recapture: Recapture, *, adapted: bool) -> dict[str, Any]:
    """Return the settings of the sampling in the keys of everything that is recaptured.

    adapted: with an adapter, which has a scale.
    """
    used = recapture.fill.keyed()
    found: dict[str, Any] = {name: used[name] for name in (*SAMPLING, *COMPOSITING) if name in used}
    found["cycle_depth"] = "background"
    if adapted:
        found["scale"] = recapture.scale
    if recapture.estimate_depth:
        depth = keyed_depth(recapture.depth, "model")
        found["cycle_depth"] = {name: depth[name] for name in depth if name not in OF_CLIPS}
        found["depth"] = model_revision("depth.model", recapture.depth.model)
    return found


class Recapturer:
    """A base on a device, with the adapter that was requested last."""

    def __init__(self, settings: Recapture, device: torch.device) -> None:
        self._surface = surface_settings(settings.render)
        filler = open_filler(settings.fill, self._surface, device)
        assert isinstance(filler, DiffusionFiller)
        check_trainable(filler.base)
        self._filler, self._adapters, self._settings = filler, Adapters(filler.base), settings
        self._estimator: DepthModel | None = None
        if settings.estimate_depth:
            self._estimator = depth_model(settings.depth, device)

    @property
    def base(self) -> Base:
        """Return the base."""
        return self._filler.base

    def use(self, adapter: Artifact | None) -> None:
        """Use a training's adapter from now on; None: the bare base."""
        self._adapters.use_artifact(adapter, self._settings.scale)

    def round_trip(
        self, source: SourceView, pivot_depth: float, move: Move, *, caption: str, seed: int
    ) -> RoundTrip:
        """Recapture a window along a move, and film the result again from the source's cameras."""

        def fill(view: RenderedView) -> Tensor:
            whole = view
            if self._settings.fill.propagate:
                whole = propagate_static(
                    view, source, surface=self._surface, by=self._settings.fill.propagate_by
                )
            kept = kept_pixels(view, whole, source)
            return self._filler.fill_both(whole, caption=caption, seed=seed, kept=kept).video

        estimate = None if self._estimator is None else self._estimator.estimate
        kind = "inverse" if self._estimator is None else self._estimator.kind
        surface = self._surface
        return round_trip(source, pivot_depth, move, fill, surface=surface, predict_depth=estimate, kind=kind)

    def inpaint(self, degraded: Tensor, visible: Tensor, *, caption: str, seed: int) -> Tensor:
        """Fill the holes of a video [T,3,H,W], visible [T,H,W], without moving the camera."""
        depth = torch.full(visible.shape, torch.inf, device=visible.device)
        eye = torch.eye(4, device=visible.device).expand(len(visible), 4, 4)
        view = RenderedView(degraded, visible, depth, torch.ones_like(depth), eye[:, :3, :3], eye)
        return self._filler.fill_both(view, caption=caption, seed=seed).video
