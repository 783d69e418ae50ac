"""Filling of a clip that is held in memory, as the stage `fill` does it; see docs/python.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.fill import MODEL_FILES, FillConfig
from recapture.conf.load import section_from
from recapture.conf.section import EMBEDDED
from recapture.conf.speed import SpeedConfig
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.propagate import propagate_static, static_clouds
from recapture.models.fill.view import Filler, RenderedView, SourceView
from recapture.models.fill.windows import Window, join_windows, windows
from recapture.models.wan.load import Base
from recapture.tasks.clip.adapter_files import adapter_files
from recapture.tasks.clip.adapters import Adapters, remarks_on
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.jobs.fill import diffusion_filler, open_base, open_filler
from recapture.tasks.jobs.in_memory import Filmed
from recapture.tasks.jobs.reference import Reference, check_reference

OF_BASE = {*MODEL_FILES, "adapter", "adapter_scale", "adapters", "precision", "vae_precision", "memory"}


def load_base(
    base: str | Path = EMBEDDED, *, device: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Base:
    """Load a base of the Wan family, ready for `fill`; nothing is downloaded.

    base: as `fill.base`: embedded, a directory, or a .safetensors or .gguf file. device: such as "cuda".
    settings: further ones of the section `fill` that concern the base: where its other parts are, `adapter`,
    `precision`, `speed`, `memory`.

    Raises UserError or CheckpointError (ValueErrors) for files that are missing, damaged or no base, for an
    adapter that does not fit and for settings that do not concern the base.
    """
    given = dict(settings or {})
    if stray := sorted({name.split(".")[0] for name in given} - OF_BASE - {"speed"}):
        raise UserError(f"load_base: {stray[0]} is no setting of a base; give it to recapture.fill")
    config = section_from(FillConfig, {"method": "base"} | given | {"base": str(base)})
    loaded = open_base(config, torch.device(device))
    if config.chosen_adapters:
        shared = adapter_files(config).shared
        remarks_on(config, shared)  # raises UserError for what the base does not take
        Adapters(loaded).use(shared)
    return loaded


def fill(
    filmed: Filmed,
    base: Base | None = None,
    *,
    caption: str = "",
    seed: int = 0,
    settings: Mapping[str, Any] | FillConfig | None = None,
) -> NDArray[np.uint8]:
    """Fill the holes of a filmed clip; return the whole new view, uint8 [T,H,W,3].

    filmed: from `render`. base: from `load_base`; None: loaded for this call as the settings say, unless
    `method` is classical. caption: what is to be seen; seed: of the noise. settings: of the section `fill`.

    Raises UserError for settings that are wrong, that concern the base while one is given, or that need a job
    (`packing`). The result is that of the stage `fill`, to the bit on the same machine.
    """
    config = section_from(FillConfig, settings)
    if config.packing.frames:
        raise UserError("fill: packing needs the other trajectories of a job; use recapture.run")
    if base is not None:
        _check_base_is_meant(config)
    device = filmed.source.video.device if base is None else base.device
    if base is None:
        check_reference(config)
        base = None if config.method == "classical" else _own_base(config, device)
    surface = filmed.surface
    filler: Filler = (
        open_filler(config, surface, device, seed)
        if base is None
        else diffusion_filler(config, base, surface, seed)
    )
    view, source = _placed(filmed, device)
    if config.propagate and config.propagate_by == "cloud":
        source = replace(source, clouds=static_clouds(source, surface))
    reference = Reference(config, device)
    spans = windows(len(filmed.rgb), config.window, config.overlap)

    def filled(span: Window) -> Tensor:
        part, seen = _part(view, source, span)
        if not isinstance(filler, DiffusionFiller):
            return filler.fill(part, seen, caption=caption, seed=seed)
        by = config.propagate_by
        gathered = propagate_static(part, seen, surface=surface, by=by) if config.propagate else part
        kept = kept_pixels(part, gathered, seen)
        shown = reference.of(seen)
        whole = filler.fill_both(gathered, caption=caption, seed=seed, kept=kept, reference=shown)
        return whole.unpasted if config.compositing == "none" else whole.video

    return to_frames(torch.cat(list(join_windows(spans, map(filled, spans), config.overlap))))


def _own_base(config: FillConfig, device: torch.device) -> Base:
    settings = config.model_dump(include=OF_BASE - {"base"}, exclude_defaults=True)
    return load_base(config.base, device=str(device), settings={**settings, "speed": config.speed.exact()})


def _check_base_is_meant(config: FillConfig) -> None:
    """Raise UserError for settings that would not be used because a base is given."""
    if config.method == "classical":
        raise UserError("fill: method classical uses no base, and one is given; leave one of them out")
    unused = sorted(config.model_dump(include=OF_BASE, exclude_defaults=True))
    if config.speed.exact() != SpeedConfig():
        unused.append("speed")
    if unused:
        raise UserError(
            f"fill: {unused[0]} concerns the base, which is given; give it to recapture.load_base"
        )


def _placed(filmed: Filmed, device: torch.device) -> tuple[RenderedView, SourceView]:
    """Return a filmed clip as a view, and its source, on the device."""
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in vars(filmed.source).items() if isinstance(value, Tensor)
    }
    source = replace(filmed.source, **moved)
    assert source.pose_group is not None
    view = RenderedView(
        to_video(filmed.rgb, device),
        torch.from_numpy(filmed.visible).to(device),
        torch.from_numpy(filmed.depth).to(device),
        torch.from_numpy(filmed.stretch).to(device),
        torch.from_numpy(filmed.intrinsics).to(device),
        torch.from_numpy(filmed.world_to_camera).to(device),
        source.pose_group[source.source_frame],
    )
    return view, source


def _part(view: RenderedView, source: SourceView, span: Window) -> tuple[RenderedView, SourceView]:
    """Return the frames of a window, and the range of source frames that they show."""
    picked = torch.tensor(span.indices(), device=view.video.device)
    shown = source.source_frame[picked]
    first, last = int(shown.min()), int(shown.max())
    part = RenderedView(**{name: value[picked] for name, value in vars(view).items()})
    seen = source.at(torch.arange(first, last + 1, device=shown.device))
    return part, replace(seen, source_frame=shown - first, clouds=source.clouds)
