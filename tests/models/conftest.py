"""One procedural clip, filmed from its own camera and along an orbit of it, with everything known exactly."""

from types import SimpleNamespace

import pytest
import torch
from support.surface import render

from recapture.datasets.scenes.render import co_visible, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.view import RenderedView, SourceView

FRAMES, SIDE, ANGLE = 13, 112, 25.0


def orbit(world_to_camera, pivot, degrees):
    """Cameras [T, 4, 4] turned by 0...degrees about the point at depth `pivot` before each source camera."""
    turned = []
    for angle, pose in zip(
        torch.linspace(0, degrees, len(world_to_camera)).deg2rad().double(), world_to_camera
    ):
        cos, sin = float(angle.cos()), float(angle.sin())
        offset = torch.eye(4, dtype=torch.float64)
        offset[:3, :3] = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        centre = torch.tensor([0, 0, pivot], dtype=torch.float64)
        offset[:3, 3] = centre - offset[:3, :3] @ centre
        turned.append((offset @ pose.double()).float())
    return torch.stack(turned)


@pytest.fixture(scope="session")
def filmed():
    scene = sample_scene(0)
    intrinsics, world_to_camera = source_cameras(scene, FRAMES, SIDE, SIDE)
    times = torch.arange(FRAMES).float()
    seen = render_scene(scene, intrinsics, world_to_camera, times, SIDE, SIDE)
    pivot = float(seen.depth[0].median())
    cameras = orbit(world_to_camera, pivot, ANGLE)

    def film(world_to_camera, at=times):
        return render_scene(scene, intrinsics, world_to_camera, at, SIDE, SIDE)

    truth = film(cameras)
    known = torch.ones(FRAMES, SIDE, SIDE, dtype=torch.bool)
    source = SourceView(seen.video, seen.depth, known, intrinsics, world_to_camera, torch.arange(FRAMES))
    made = render(seen.video, seen.depth, intrinsics, world_to_camera, intrinsics, cameras, known=known)
    view = RenderedView(made.video, made.visible, made.depth, made.stretch, intrinsics, cameras)
    exact = co_visible(scene, intrinsics, cameras, intrinsics, world_to_camera, times, SIDE, SIDE)
    return SimpleNamespace(
        source=source,
        view=view,
        truth=truth.video,
        truth_depth=truth.depth,
        pivot=pivot,
        co_visible=exact,
        part_of_the_way=film(orbit(world_to_camera, pivot, 0.4 * ANGLE)).video,
        three_frames_late=film(cameras, (times - 3).clamp_min(0)).video,
    )
