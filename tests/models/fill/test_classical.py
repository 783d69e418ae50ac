from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.crossing_box import crossing_box
from support.surface import SURFACE, render

from recapture.datasets.scenes.layout import SourceCamera
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.models.fill.classical import ClassicalFiller, fill_classical
from recapture.models.fill.propagate import propagate_static, static_pixels
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.metrics.image import psnr

FRAMES, SIDE = 13, 96


@pytest.fixture(scope="module")
def clip():
    """A box crosses a bricked room before a camera that sways; it is viewed from half a unit aside."""
    scene = crossing_box(SourceCamera(position_sway=(0.15, 0, 0)))
    intrinsics, cameras = source_cameras(scene, FRAMES, SIDE, SIDE)
    times = torch.arange(FRAMES).float()
    seen = render_scene(scene, intrinsics, cameras, times, SIDE, SIDE)
    known = torch.ones(FRAMES, SIDE, SIDE, dtype=torch.bool)
    source = SourceView(seen.video, seen.depth, known, intrinsics, cameras, torch.arange(FRAMES))
    step = torch.eye(4)
    step[0, 3] = 0.5
    moved = step @ cameras
    made = render(seen.video, seen.depth, intrinsics, cameras, intrinsics, moved, known=known)
    view = RenderedView(made.video, made.visible, made.depth, made.stretch, intrinsics, moved)
    truth = render_scene(scene, intrinsics, moved, times, SIDE, SIDE)
    return SimpleNamespace(
        source=source, view=view, truth=truth.video, truth_depth=truth.depth, object_id=seen.object_id
    )


def test_visible_pixels_are_returned_bit_for_bit_and_no_hole_is_left(clip):
    filled = fill_classical(clip.view, clip.source, surface=SURFACE)
    seen = clip.view.visible[:, None].expand_as(filled)
    assert torch.equal(filled[seen], clip.view.video[seen])
    assert 0.02 < float((~clip.view.visible).float().mean()) < 0.5
    assert torch.isfinite(filled).all() and filled.abs().max() <= 1
    still_grey = (filled == 0).all(1) & ~clip.view.visible
    assert not still_grey.any()


def test_what_another_frame_saw_is_taken_from_there(clip):
    # holes in known pixels, one region of each frame in turn, so that the truth is the render itself
    visible = clip.view.visible.clone()
    rows, columns = slice(10, 40), slice(20, 60)
    visible[4:8, rows, columns] = False
    source = replace(clip.source, known=clip.source.known.clone())
    view = replace(
        clip.view,
        video=torch.where(visible[:, None], clip.truth, 0.0),
        depth=torch.where(visible, clip.truth_depth, torch.inf),
        visible=visible,
    )
    hole = torch.zeros_like(visible)
    hole[4:8, rows, columns] = True
    taken = psnr(fill_classical(view, source, surface=SURFACE), clip.truth, hole)
    invented = psnr(fill_classical(view, source, propagate=False, surface=SURFACE), clip.truth, hole)
    assert taken > 25
    assert taken > invented + 5


def test_filling_from_other_frames_is_nearer_to_the_truth_than_inpainting_alone(clip):
    holes = ~clip.view.visible
    taken = psnr(fill_classical(clip.view, clip.source, surface=SURFACE), clip.truth, holes)
    invented = psnr(fill_classical(clip.view, None, surface=SURFACE), clip.truth, holes)
    grey = psnr(clip.view.video, clip.truth, holes)
    assert taken > invented > grey


def test_moving_pixels_are_not_static_and_the_room_mostly_is(clip):
    frames = torch.arange(4, 9)
    static = static_pixels(clip.source, frames)
    moving = clip.object_id[frames] == 1
    assert moving.float().mean() > 0.02
    assert float(static[moving].float().mean()) < 0.05
    assert float(static[~moving].float().mean()) > 0.8


def test_nothing_is_static_where_no_other_frame_exists(clip):
    one = clip.source.at(torch.tensor([3]))
    assert not static_pixels(one, torch.tensor([0])).any()


def test_deep_in_a_hole_that_nobody_saw_every_frame_shows_the_same(clip):
    view = clip.view
    noise = 0.3 * torch.randn(view.video.shape, generator=torch.Generator().manual_seed(0))
    visible = torch.ones_like(view.visible)
    visible[:, 20:76, 20:76] = False
    cameras = {
        "intrinsics": view.intrinsics[:1].expand(FRAMES, -1, -1),
        "world_to_camera": view.world_to_camera[:1].expand(FRAMES, -1, -1),
    }
    still = replace(
        view,
        video=torch.where(visible[:, None], (view.video + noise).clamp(-1, 1), 0.0),
        depth=torch.where(visible, 5.0, torch.inf),
        visible=visible,
        **cameras,
    )
    inside = fill_classical(still, None, surface=SURFACE)[:, :, 34:62, 34:62]
    assert (inside - inside[:1]).abs().mean() < 0.02


def test_a_clip_without_holes_comes_back_as_it_is(clip):
    whole = replace(clip.view, video=clip.truth, visible=torch.ones_like(clip.view.visible))
    assert torch.equal(fill_classical(whole, clip.source, surface=SURFACE), clip.truth)


def test_everything_a_hole_is_filled_with_the_mean_colour_of_the_source(clip):
    nothing = torch.zeros_like(clip.view.visible)
    empty = replace(
        clip.view,
        video=torch.zeros_like(clip.truth),
        visible=nothing,
        depth=torch.full_like(clip.view.depth, torch.inf),
    )
    mean = clip.source.video.mean((0, 2, 3))
    alone = fill_classical(empty, clip.source, propagate=False, surface=SURFACE)
    torch.testing.assert_close(alone, mean[:, None, None].expand_as(alone), atol=1e-5, rtol=0)
    unknown = replace(clip.source, known=torch.zeros_like(clip.source.known))
    assert (fill_classical(empty, unknown, surface=SURFACE) == 0).all() and (
        fill_classical(empty, None, surface=SURFACE) == 0
    ).all()
    assert torch.isfinite(fill_classical(empty, clip.source, surface=SURFACE)).all()


def test_one_frame_that_knows_nothing_does_not_disturb_the_others(clip):
    visible = clip.view.visible.clone()
    visible[5] = False
    view = replace(clip.view, visible=visible, video=torch.where(visible[:, None], clip.view.video, 0.0))
    filled = fill_classical(view, None, surface=SURFACE)
    assert torch.isfinite(filled).all()
    seen = visible[:, None].expand_as(filled)
    assert torch.equal(filled[seen], view.video[seen])


def test_the_filler_gives_the_same_bytes_for_any_seed(clip):
    filler = ClassicalFiller(SURFACE)
    first = filler.fill(clip.view, clip.source, caption="a box", seed=1)
    assert torch.equal(first, filler.fill(clip.view, clip.source, caption="", seed=2))


def test_a_frozen_source_frame_can_be_filled_from_its_neighbours(clip):
    frozen = replace(clip.source, source_frame=torch.full((FRAMES,), 6))
    shown = frozen.at(frozen.source_frame)
    made = render(
        shown.video,
        shown.depth,
        shown.intrinsics,
        shown.world_to_camera,
        clip.view.intrinsics,
        clip.view.world_to_camera,
        known=shown.known,
    )
    view = replace(clip.view, video=made.video, visible=made.visible, depth=made.depth)
    filled = fill_classical(view, frozen, surface=SURFACE)
    seen = view.visible[:, None].expand_as(filled)
    assert torch.equal(filled[seen], view.video[seen]) and not torch.equal(filled, view.video)


def test_other_frames_are_rendered_with_the_given_settings(clip):
    """No surface shows where none may be stretched at all, and little where gentle slopes are torn."""
    plain, flat, torn = (
        propagate_static(clip.view, clip.source, surface=replace(SURFACE, **changes)).visible
        for changes in ({}, {"max_stretch": 1e-3}, {"break_ratio": 1e-3})
    )
    cracks_alone = propagate_static(clip.view, None, surface=SURFACE).visible
    assert torch.equal(flat, cracks_alone) and flat.sum() < plain.sum()
    assert torn.sum() < plain.sum()
