"""The suite, which shares and batches its work, gives the values of the definitions, however it is fed."""

import dataclasses

import numpy as np
import pytest
import torch
from support.slow_metrics import slow_scores
from support.surface import SURFACE, render

from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.pull_push import pull_push
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.metrics.suite import Suite, measure
from recapture.models.metrics.threads import over_threads


def clip(seed, frames, height, width, aside=0.4):
    """Return source, view, truth and its depth of a procedural scene, `aside` units to the right."""
    scene = sample_scene(seed)
    intrinsics, cameras = source_cameras(scene, frames, height, width)
    times = torch.arange(frames).float()
    shot = render_scene(scene, intrinsics, cameras, times, height, width)
    step = torch.eye(4)
    step[0, 3] = -aside
    moved = step @ cameras
    truth = render_scene(scene, intrinsics, moved, times, height, width)
    known = torch.isfinite(shot.depth)
    made = render(shot.video, shot.depth, intrinsics, cameras, intrinsics, moved, known=known)
    view = RenderedView(made.video, made.visible, made.depth, made.stretch, intrinsics, moved)
    source = SourceView(shot.video, shot.depth, known, intrinsics, cameras, torch.arange(frames))
    return source, view, truth.video, truth.depth


def noisy(video, strength=0.1, seed=0):
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(seed))
    return (video + strength * noise).clamp(-1.2, 1.2)  # beyond the range, which metrics cut


CLIPS = {
    "square, holes at a side": lambda: clip(0, 9, 80, 80),
    "wide, odd sides": lambda: clip(3, 5, 75, 141),
    "tall, no truth": lambda: (*clip(5, 4, 120, 68)[:2], None, None),
    "one frame": lambda: clip(1, 1, 64, 80),
    "two frames, one without holes": lambda: one_without_holes(*clip(2, 2, 64, 64)),
    "no hole at all": lambda: without_holes(*clip(2, 3, 64, 64)),
    "nothing known": lambda: nothing_known(*clip(2, 3, 64, 64)),
    "frames in another order": lambda: reordered(*clip(4, 9, 64, 96)),
    "flat pictures": lambda: flat(*clip(4, 3, 64, 64)),
}


def without_holes(source, view, truth, depth):
    view = dataclasses.replace(view, visible=torch.ones_like(view.visible), video=truth, depth=depth)
    return source, view, truth, depth


def one_without_holes(source, view, truth, depth):
    visible = view.visible.clone()
    visible[1] = True
    return source, dataclasses.replace(view, visible=visible), truth, depth


def nothing_known(source, view, truth, depth):
    nothing = torch.zeros_like(view.visible)
    view = dataclasses.replace(view, visible=nothing, depth=torch.full_like(view.depth, torch.inf))
    return dataclasses.replace(source, known=nothing), view, truth, None


def reordered(source, view, truth, depth):
    order = torch.tensor([0, 0, 2, 4, 6, 8, 8, 5, 3])
    return dataclasses.replace(source, source_frame=order), view, truth, depth


def flat(source, view, truth, depth):
    return dataclasses.replace(source, video=torch.zeros_like(source.video)), view, truth, depth


@pytest.mark.parametrize("name", CLIPS)
def test_every_value_is_that_of_the_definition(name):
    source, view, truth, truth_depth = CLIPS[name]()
    given = {"surface": SURFACE, "pivot_depth": 3.0, "seam_pixels": 12}
    given |= {"truth": truth, "truth_depth": truth_depth}
    results = {
        "filled": pull_push(view.video, view.visible),
        "noisy": noisy(source.video),
        "copied": source.video[source.source_frame],
    }
    for result in results.values():
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = slow_scores(result, source, view, **given)
        found = measure(result, source, view, **given)
        same = {metric: value for metric, value in expected.items() if np.isfinite(value)}
        assert found.keys() == same.keys()
        for metric, value in same.items():
            assert found[metric] == pytest.approx(value, rel=1e-3, abs=1e-3), metric


def in_parts(results, source, view, truth, truth_depth, parts):
    """Measure a clip part by part, each with the source frames that the suite asks for."""
    shows = source.source_frame
    suite = Suite(shows, len(source.video), surface=SURFACE, pivot_depth=3.0)
    start = 0
    for size in parts:
        part = slice(start, start + size)
        first, last = suite.sources(start, start + size)
        cut = source.at(torch.arange(first, last))
        suite.add(
            {name: video[part] for name, video in results.items()},
            dataclasses.replace(cut, source_frame=shows[part] - first),
            RenderedView(
                *(value[part] for value in (view.video, view.visible, view.depth, view.stretch)),
                *(view.intrinsics[part], view.world_to_camera[part]),
            ),
            first=first,
            truth=None if truth is None else truth[part],
            truth_depth=None if truth_depth is None else truth_depth[part],
        )
        start += size
    return suite.scores()


def test_values_do_not_depend_on_the_parts_nor_on_what_else_is_measured():
    source, view, truth, depth = clip(0, 26, 48, 64)  # more frames than poses are found for
    results = {"noisy": noisy(truth), "filled": pull_push(view.video, view.visible)}
    whole = in_parts(results, source, view, truth, depth, [26])
    assert "sync_margin_db" in whole["noisy"]
    for parts in ([16, 9, 1], [1] * 26, [5, 21]):
        for name, scores in in_parts(results, source, view, truth, depth, parts).items():
            assert scores == pytest.approx(whole[name], rel=1e-6, abs=1e-6), (name, parts)
    for name, result in results.items():
        alone = measure(
            result, source, view, surface=SURFACE, truth=truth, truth_depth=depth, pivot_depth=3.0
        )
        assert alone == pytest.approx(whole[name], rel=1e-6, abs=1e-6)


def test_values_do_not_depend_on_the_number_of_threads():
    source, view, truth, depth = clip(6, 7, 72, 96)
    given = {"surface": SURFACE, "truth": truth, "truth_depth": depth, "pivot_depth": 3.0}
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(measure(noisy(truth), source, view, **given))
    torch.set_num_threads(before)
    assert found[0] == pytest.approx(found[1], rel=1e-6, abs=1e-6)


def test_frames_left_out_are_an_error_and_not_a_mean_over_the_rest():
    source, view, truth, depth = clip(0, 6, 48, 64)
    with pytest.raises(ValueError, match="4 of 6 frames were given"):
        in_parts({"copied": source.video}, source, view, truth, depth, [4])


def test_threads_keep_the_order_and_raise_what_an_item_raises():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    assert over_threads(lambda n: n * n, list(range(20))) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        over_threads(lambda n: 1 / n, [1, 0, 2])
    torch.set_num_threads(before)
