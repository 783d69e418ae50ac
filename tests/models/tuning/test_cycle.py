"""The way back: closed forms at the identity, a true second view from procedural scenes, completed depth."""

from dataclasses import replace

import pytest
import torch
from support.surface import SURFACE, render

from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.tuning.cycle import (
    cycle_back,
    cycle_pair,
    cycle_quality,
    filled_depth,
    pseudo_pair,
    quality_weight,
    round_trip,
)
from recapture.models.tuning.pairs import Move, move_path

PIVOT = 3.0


def view_of(source, move):
    path = move_path(source, PIVOT, move)
    target = path.intrinsics.float(), path.world_to_camera.float()
    seen = render(source.video, source.depth, source.intrinsics, source.world_to_camera, *target)
    return RenderedView(seen.video, seen.visible, seen.depth, seen.stretch, *target)


def test_a_constant_error_at_the_sources_own_view_has_its_closed_form(source):
    view = view_of(source, Move(0.0, 0.0, 0.0))
    back = cycle_back(source, view, source.video * 0.5 + 0.1, filled_depth(view), SURFACE)
    same = cycle_back(source, view, source.video, filled_depth(view), SURFACE)
    assert (back.visible.all() and cycle_quality(source, same) > 100 - 1e-6) or same.visible.all()
    error = ((source.video * 0.5 - 0.1) / 2).square().mean((1, 2, 3))
    expected = float((-10 * torch.log10(error)).mean())
    assert cycle_quality(source, back) == pytest.approx(expected, abs=0.05)
    assert cycle_quality(source, same) > 60


def test_unknown_source_pixels_and_empty_returns_do_not_count(source):
    view = view_of(source, Move(0.0, 0.0, 0.0))
    back = cycle_back(
        source, view, torch.where(source.depth[:, None] < 3, -1.0, source.video), source.depth, SURFACE
    )
    away = replace(source, known=source.depth > 3)
    assert cycle_quality(away, back) > cycle_quality(source, back) + 20
    nothing = replace(back, visible=torch.zeros_like(back.visible))
    assert cycle_quality(source, nothing) != cycle_quality(source, nothing)  # NaN


def test_the_cycle_pair_has_the_real_source_as_its_target(source):
    view = view_of(source, Move(15.0, 0.0, 0.0))
    back = cycle_back(source, view, view.video, filled_depth(view), SURFACE)
    pair = cycle_pair(source, back, 15.0, 0.7)
    assert torch.equal(pair.target, source.video) and torch.equal(pair.degraded, back.video)
    assert not pair.degraded[(~pair.visible)[:, None].expand_as(pair.degraded)].any()
    assert not pair.visible.all() and pair.visible.float().mean() > 0.5
    assert (pair.kind, pair.angle, pair.weight) == ("cycle", 15.0, 0.7)


def test_a_pseudo_target_keeps_the_renders_own_pixels(source):
    view = view_of(source, Move(15.0, 0.0, 0.0))
    filled = torch.full_like(view.video, 0.3)
    pair = pseudo_pair(view, filled, 15.0, 0.25)
    known = view.visible[:, None].expand_as(filled)
    assert torch.equal(pair.target[known], view.video[known])
    assert (pair.target[~known] == 0.3).all() and torch.equal(pair.degraded, view.video)


def scene(angle):
    """A procedural source, its view by an orbit, and the true picture and depth there."""
    side, frames = 64, 5
    made = sample_scene(3, variety="classic")
    cameras = source_cameras(made, frames, side, side)
    times = torch.arange(frames, dtype=torch.float32)
    shot = render_scene(made, *cameras, times, side, side)
    source = SourceView(shot.video, shot.depth, torch.isfinite(shot.depth), *cameras, torch.arange(frames))
    view = view_of(source, Move(angle, 0.0, 0.0, direct=True))
    truth = render_scene(made, view.intrinsics, view.world_to_camera, times, side, side)
    return source, view, truth


def test_a_true_view_comes_back_as_the_source_and_a_false_one_does_not():
    source, view, truth = scene(15.0)
    good = cycle_quality(source, cycle_back(source, view, truth.video, truth.depth, SURFACE))
    shifted = cycle_back(source, view, truth.video.roll(4, 3), truth.depth, SURFACE)
    assert good > 27 and good > cycle_quality(source, shifted) + 5


def test_a_round_trip_is_its_steps_in_order(source):
    asked = []

    def fill(view):
        asked.append(view.visible)
        return torch.where(view.visible[:, None], view.video, 0.25)

    def predict_depth(video):
        asked.append(video)
        return 2.0 / view.depth.clamp_max(6.0) - 0.1

    move = Move(-12.0, 3.0, 0.0)
    view = view_of(source, move)
    trip = round_trip(source, PIVOT, move, fill, surface=SURFACE, predict_depth=predict_depth)
    filled = torch.where(view.visible[:, None], view.video, 0.25)
    assert torch.equal(trip.video, filled) and torch.equal(asked[1], filled)
    assert torch.equal(asked[0], view.visible) and not view.visible.all()
    depth = filled_depth(view, 2.0 / view.depth.clamp_max(6.0) - 0.1)
    back = cycle_back(source, view, filled, depth, SURFACE)
    assert torch.equal(trip.returned.video, back.video) and torch.equal(trip.returned.visible, back.visible)
    assert trip.quality == cycle_quality(source, back)
    still = round_trip(source, PIVOT, Move(0.0, 0.0, 0.0), fill, surface=SURFACE)
    assert still.quality > 60 and still.view.visible.all()


def test_a_depth_models_prediction_completes_the_holes_whatever_its_scale_and_shift():
    _, view, truth = scene(15.0)
    holes = ~view.visible
    assert holes.float().mean() > 0.05
    prediction = 3.0 / truth.depth + 0.2
    for kind, given in (("inverse", prediction), ("metric", truth.depth * 2.5)):
        depth = filled_depth(view, given, kind)
        assert torch.equal(depth[view.visible], view.depth[view.visible])
        ratio = depth[holes] / truth.depth[holes]
        assert 0.97 < float(ratio.median()) < 1.03
        inpainted = filled_depth(view)[holes] / truth.depth[holes]
        assert (ratio.log().abs().mean()) < inpainted.log().abs().mean() / 2
    unrelated = torch.rand(truth.depth.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filled_depth(view, unrelated), filled_depth(view))


def test_without_a_prediction_a_hole_beside_an_object_takes_the_background(source):
    view = view_of(source, Move(0.0, 0.0, 0.0))
    visible = view.visible.clone()
    visible[:, 10:20, 18:24] = False  # right of the square and partly under it
    gap = replace(view, visible=visible, depth=torch.where(visible, view.depth, torch.inf))
    depth = filled_depth(gap)
    assert (depth[0][~visible[0]] > 3.5).all() and torch.isfinite(depth).all()
    with pytest.raises(ValueError, match="no visible pixel"):
        filled_depth(replace(view, visible=torch.zeros_like(view.visible)))


def test_the_weight_of_self_made_data_is_a_ramp_over_a_gate():
    values = [quality_weight(q, 20.0, 24.0) for q in (10.0, 20.0, 21.0, 24.0, 30.0, float("nan"))]
    assert values == [0.0, 0.0, 0.25, 1.0, 1.0, 0.0]
    assert quality_weight(21.0, 20.0, 20.0) == 1.0
    with pytest.raises(ValueError, match="below the threshold"):
        quality_weight(1.0, 20.0, 10.0)
