"""Without cameras, other frames are used only where the picture stands still.

A clip without cameras has the identity for every pose. Propagation took that for a still camera: 6 to 13 % of
the holes of a pan were filled from other frames at the wrong place (7 to 8 dB there, where inpainting alone
has 15 to 22), and declared known. `pytest -s` prints the table.
"""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.crossing_box import crossing_box
from support.photo_scene import FRAMES, Motion, intrinsics, shoot

from recapture.conf.schema import RenderConfig
from recapture.datasets.scenes.layout import SourceCamera
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.propagate import propagate_static, static_pixels
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.stillness import StillStretches
from recapture.models.geometry.trajectories import preset_path
from recapture.tasks.jobs.render import surface_settings

SURFACE = surface_settings(RenderConfig())
MOTIONS = [
    Motion("pan 0.25", pan=0.25),
    Motion("pan 0.5", pan=0.5),
    Motion("pan 1", pan=1.0),
    Motion("dolly", dolly=0.05),
    Motion("truck", truck=0.05),
    Motion("hand shake", shake=0.3),
    Motion("still"),
]


def measured_groups(video):
    stretches = StillStretches()
    for frame in ((video.movedim(1, -1) + 1) * 127.5).round().byte().numpy():
        stretches.add(frame)
    return torch.tensor(stretches.groups)


def orbit(video, depth, lens, cameras, group, angle=20):
    path = preset_path("orbit_right", lens, cameras, 3.0, angle_degrees=angle)
    target = path.intrinsics, path.world_to_camera
    known = torch.isfinite(depth)
    made = render(video, depth, lens, cameras, *target, surface=SURFACE, known=known)
    view = RenderedView(made.video, made.visible, made.depth, made.stretch, *target, pose_group=group)
    source = SourceView(video, depth, known, lens, cameras, torch.arange(len(video)), group)
    return view, source


def hole_psnr(result, truth, view):
    error = ((result - truth) / 2).square().mean(1)[~view.visible].mean()
    return float(-10 * torch.log10(error))


@cache
def row(motion):
    """PSNR in holes, dB: with known cameras; without them as before, without propagation, and as it is."""
    lens, cameras = intrinsics(), motion.cameras()
    video, depth = shoot(lens, cameras)
    true = preset_path("orbit_right", lens, cameras, 3.0, angle_degrees=20)
    truth, _ = shoot(true.intrinsics, true.world_to_camera)
    known_view, known_source = orbit(video, depth, lens, cameras, None)
    still = torch.eye(4, dtype=torch.float64).expand(FRAMES, 4, 4)
    group = measured_groups(video)
    view, source = orbit(video, depth, lens, still, group)
    as_before = replace(view, pose_group=None), replace(source, pose_group=None)
    numbers = {
        "known": fill_classical(known_view, known_source, surface=SURFACE),
        "known, alone": fill_classical(known_view, None, surface=SURFACE),
        "before": fill_classical(*as_before, surface=SURFACE, propagate_by="frames"),
        "alone": fill_classical(as_before[0], None, surface=SURFACE),
        "now": fill_classical(view, source, surface=SURFACE),
    }
    scores = {name: hole_psnr(filled, truth, view) for name, filled in numbers.items()}
    print(motion.name, len(group.unique()), *(f"{name} {score:.2f}" for name, score in scores.items()))
    return SimpleNamespace(scores=scores, view=view, source=source)


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.name)
def test_without_cameras_a_fill_is_never_worse_than_without_propagation(motion):
    found = row(motion)
    assert found.scores["now"] >= found.scores["alone"] - 0.05
    if motion.name != "still":
        gathered = propagate_static(found.view, found.source, surface=SURFACE)
        cracks = propagate_static(found.view, None, surface=SURFACE)
        assert torch.equal(gathered.visible, cracks.visible) and torch.equal(gathered.video, cracks.video)


def test_the_fault_is_there_without_the_measurement_and_known_cameras_keep_their_gain():
    scores = row(MOTIONS[2]).scores
    assert scores["before"] < scores["alone"] - 2
    assert scores["known"] > scores["known, alone"] + 2


@pytest.fixture(scope="module")
def tripod():
    """A box crosses a bricked room before a still camera, of which nothing is known but the picture."""
    scene = crossing_box(SourceCamera())
    lens, cameras = source_cameras(scene, FRAMES, 96, 96)
    times = torch.arange(FRAMES).float()
    seen = render_scene(scene, lens, cameras, times, 96, 96)
    assert (cameras == cameras[0]).all()
    video = ((seen.video + 1) * 127.5).round() / 127.5 - 1
    return video, seen.depth, lens, cameras


def test_a_tripod_clip_without_cameras_is_filled_as_one_with_cameras(tripod):
    video = tripod[0]
    group = measured_groups(video)
    assert set(group.tolist()) == {0}
    view, source = orbit(*tripod, group)
    known_view, known_source = orbit(*tripod, None)
    gathered = propagate_static(view, source, surface=SURFACE)
    assert torch.equal(gathered.visible, propagate_static(known_view, known_source, surface=SURFACE).visible)
    alone = propagate_static(view, None, surface=SURFACE)
    assert (gathered.visible & ~alone.visible).sum() > 100
    filled = fill_classical(view, source, surface=SURFACE)
    assert torch.equal(filled, fill_classical(known_view, known_source, surface=SURFACE))


def test_only_frames_of_one_group_are_asked(tripod):
    """Half of the clip still, half unknown: the first half is filled as before, the second from itself."""
    group = torch.tensor([0] * 9 + list(range(1, FRAMES - 8)))
    view, source = orbit(*tripod, group)
    gathered = propagate_static(view, source, surface=SURFACE)
    alone = propagate_static(view, None, surface=SURFACE)
    assert torch.equal(gathered.visible[9:], alone.visible[9:])
    assert (gathered.visible[:9] & ~alone.visible[:9]).any()
    first = source.at(torch.arange(9))
    short = replace(view, **{n: getattr(view, n)[:9] for n in RenderedView.__dataclass_fields__})
    expected = propagate_static(short, first, surface=SURFACE)
    assert torch.equal(gathered.visible[:9], expected.visible)
    assert torch.equal(gathered.video[:9], expected.video)
    assert not static_pixels(source, torch.arange(9, FRAMES)).any()


def test_invented_background_is_shared_within_a_group_alone(tripod):
    video, depth, lens, cameras = tripod
    group = torch.tensor([0] * 9 + [1] * (FRAMES - 9))
    whole, _ = orbit(*tripod, group, angle=35)
    filled = fill_classical(whole, None, surface=SURFACE)
    for number in (0, 1):
        chosen = group == number
        part, _ = orbit(video, depth, lens, cameras, group, angle=35)
        part = replace(part, **{n: getattr(part, n)[chosen] for n in RenderedView.__dataclass_fields__})
        expected = fill_classical(replace(part, pose_group=None), None, surface=SURFACE)
        np.testing.assert_array_equal(filled[chosen].numpy(), expected.numpy())
