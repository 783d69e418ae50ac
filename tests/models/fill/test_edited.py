"""What is replaced, seen by a new camera: its hole, and the order in which holes are filled."""

from dataclasses import replace

import pytest
import torch
from support import tiny_base as tiny
from support.filler import wan_filler
from support.surface import SURFACE

from recapture.models.fill.classical import fill_classical
from recapture.models.fill.compositing import Compositing
from recapture.models.fill.edited import RIM, fill_edited, replaced_in
from recapture.models.fill.view import RenderedView, hide
from recapture.models.geometry.rasterize import Rendered
from recapture.models.wan.load import load_base

CAPTION = {"caption": "a red ball", "seed": 1}


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    base = load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "inpaint", "inpaint"))
    return wan_filler(base, steps=2, guidance_scale=1.0, compositing=Compositing("feather", 1))


@pytest.fixture
def view():
    """Five frames of 32 x 48 with a hole at the right border."""
    random = torch.Generator().manual_seed(0)
    video = torch.rand(5, 3, 32, 48, generator=random) * 2 - 1
    visible = torch.ones(5, 32, 48, dtype=torch.bool)
    visible[1:, :, 40:] = False
    depth = torch.full((5, 32, 48), 2.0)
    intrinsics = torch.tensor([[40.0, 0, 24], [0, 40.0, 16], [0, 0, 1]]).expand(5, 3, 3)
    known, cameras = torch.ones_like(visible), (intrinsics, torch.eye(4).expand(5, 4, 4))
    whole = RenderedView(video, known, depth, torch.ones_like(depth), *cameras)
    return hide(whole, ~visible)


@pytest.fixture
def edit():
    edit = torch.zeros(5, 32, 48, dtype=torch.bool)
    edit[:, 8:20, 6:20] = True
    return edit


def test_marked_surfaces_become_holes_with_what_hole_there_is_beside_them():
    random = torch.Generator().manual_seed(1)
    visible = torch.rand(3, 24, 24, generator=random) < 0.6
    mark = (torch.rand(3, 24, 24, generator=random) < 0.03).float() * 0.2
    video = torch.where(visible[:, None], torch.rand(3, 4, 24, 24, generator=random) - 0.5, 0.0)
    video[:, 3] = mark * visible
    depth = torch.where(visible, torch.rand(3, 24, 24, generator=random) + 1, torch.inf)
    stretch = torch.where(visible, 2.0, 1.0)
    found, edit = replaced_in(Rendered(video, visible, depth, stretch))
    for t in range(3):
        for y in range(24):
            for x in range(24):
                marked = bool(visible[t, y, x]) and float(mark[t, y, x]) > 0
                near = (
                    t,
                    slice(max(0, y - RIM), y + RIM + 1),
                    slice(max(0, x - RIM), x + RIM + 1),
                )
                beside = bool((visible[near] & (mark[near] > 0)).any())
                shown = bool(visible[t, y, x]) and not marked
                assert bool(found.visible[t, y, x]) == shown
                assert bool(edit[t, y, x]) == (beside and not shown)
                assert torch.equal(found.video[t, :, y, x], video[t, :3, y, x] if shown else torch.zeros(3))
                assert float(found.depth[t, y, x]) == (float(depth[t, y, x]) if shown else float("inf"))
                assert float(found.stretch[t, y, x]) == (2.0 if shown else 1.0)


def test_the_edit_is_filled_first_beside_a_fill_without_a_model_and_then_the_rest(filler, view, edit):
    found = fill_edited(filler, view, edit, **CAPTION)
    masked = hide(view, edit)
    prefilled = fill_classical(masked, None, surface=SURFACE, propagate=False)
    first = hide(replace(view, video=prefilled, visible=torch.ones_like(view.visible)), edit)
    drawn = filler.fill_both(first, **CAPTION).video
    second = masked.video.clone()
    for t, y, x in torch.nonzero(edit).tolist():
        second[t, :, y, x] = drawn[t, :, y, x]
    expected = filler.fill_both(replace(view, video=second, visible=masked.visible | edit), **CAPTION)
    assert torch.equal(found.video, expected.video) and torch.equal(found.unpasted, expected.unpasted)
    assert torch.equal(
        found.video[view.visible[:, None].expand_as(view.video)][:10], view.video.flatten()[:10]
    )
    assert not torch.equal(found.video, filler.fill_both(masked, **CAPTION).video)


def test_one_kind_of_hole_is_filled_in_one_go(filler, view, edit):
    none = torch.zeros_like(edit)
    assert torch.equal(
        fill_edited(filler, view, none, **CAPTION).video, filler.fill_both(view, **CAPTION).video
    )
    whole = replace(view, visible=torch.ones_like(view.visible))
    alone = fill_edited(filler, whole, edit, **CAPTION)
    assert torch.equal(alone.video, filler.fill_both(hide(whole, edit), **CAPTION).video)
