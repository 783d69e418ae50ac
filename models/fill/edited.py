"""An edit seen by a new camera: a hole for something new, beside the holes of the move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.fill.classical import fill_classical
from recapture.models.fill.diffusion import DiffusionFiller, Filled
from recapture.models.fill.packed import FinishedView
from recapture.models.fill.view import RenderedView, hide
from recapture.models.geometry.rasterize import Rendered

RIM = 3  # pixels of hole beside what is replaced that it may reach into


def replaced_in(rendered: Rendered) -> tuple[Rendered, Tensor]:
    """Make holes of what is to be replaced, marked by a fourth channel of the video.

    What is replaced hides what is behind it. Returns also where it is seen, bool [T, H, W]: with the hole
    beside it, up to RIM pixels.
    """
    marked = rendered.visible & (rendered.video[:, 3] > 0)
    visible = rendered.visible & ~marked
    reach = max_pool2d(marked[:, None].float(), 2 * RIM + 1, 1, RIM)[:, 0] > 0
    return (
        Rendered(
            torch.where(visible[:, None], rendered.video[:, :3], 0.0),
            visible,
            torch.where(visible, rendered.depth, torch.inf),
            torch.where(visible, rendered.stretch, 1.0),
        ),
        reach & ~visible,
    )


def fill_edited(
    filler: DiffusionFiller,
    view: RenderedView,  # with what other frames saw of its holes
    edit: Tensor,  # [T, H, W] bool, what is replaced
    *,
    caption: str,
    seed: int,
    packed: Sequence[FinishedView] = (),
    kept: Tensor | None = None,  # [T, H, W] bool, as of `fill_both`
    reference: Tensor | None = None,  # [3, h, w], as of `fill_both`
) -> Filled:
    """Fill the edit first, every other hole after it; in one go where there is no other hole, or no edit.

    A base that meets both as one hole carries the background into it and does not read the prompt. So the
    edit is drawn into a video whose other holes are filled without a model (`fill_classical`), and those are
    then filled by the base beside the finished edit.
    """
    view = hide(view, edit)
    kept = view.visible if kept is None else kept & ~edit
    others = ~view.visible & ~edit
    given: dict[str, Any] = {"caption": caption, "seed": seed, "packed": packed, "reference": reference}
    if not others.any() or not edit.any():
        return filler.fill_both(view, kept=kept, **given)
    beside = fill_classical(view, None, surface=filler.surface, propagate=False)
    whole = torch.ones_like(view.visible)
    drawn = filler.fill_both(hide(replace(view, video=beside, visible=whole), edit), **given)
    known = view.visible | edit
    video = torch.where(known[:, None], torch.where(edit[:, None], drawn.video, view.video), 0.0)
    return filler.fill_both(replace(view, video=video, visible=known), kept=kept | edit, **given)
