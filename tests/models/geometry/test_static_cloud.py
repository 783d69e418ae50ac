from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.crossing_box import crossing_box
from support.surface import SURFACE

from recapture.datasets.scenes.layout import SourceCamera
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.models.geometry.static_cloud import Frames, key_frames, middle_out, static_cloud
from recapture.models.metrics.image import psnr

FRAMES, SIDE = 9, 64
CAMERAS = {"still": SourceCamera(), "moving": SourceCamera(position_sway=(0.4, 0, 0))}


def filmed(scene, cameras, frames=FRAMES):
    times = torch.arange(frames).float()
    return render_scene(scene, *cameras, times, SIDE, SIDE)


@pytest.fixture(scope="module", params=CAMERAS)
def clip(request):
    """A box crosses a bricked room; what the same cameras see of the room without it is known."""
    scene = crossing_box(CAMERAS[request.param])
    cameras = source_cameras(scene, FRAMES, SIDE, SIDE)
    seen = filmed(scene, cameras)
    empty = filmed(replace(scene, active=torch.zeros_like(scene.active)), cameras)
    frames = Frames(seen.video, seen.depth, torch.ones_like(seen.depth, dtype=torch.bool), *cameras)
    return SimpleNamespace(frames=frames, box=seen.object_id == 1, room=empty, still=request.param == "still")


def everywhere(cloud, frames, number):
    wanted = torch.ones(SIDE, SIDE, dtype=torch.bool)
    return cloud.seen_by(frames.intrinsics[number], frames.world_to_camera[number], wanted, 16.0)


def test_the_cloud_shows_the_room_without_the_box_that_crosses_it(clip):
    cloud = static_cloud(clip.frames, SURFACE)
    for number in (0, FRAMES // 2, FRAMES - 1):
        seen, box = everywhere(cloud, clip.frames, number), clip.box[number]
        assert seen.visible.float().mean() > 0.8
        assert (seen.visible & box).sum() > 0.55 * box.sum()  # what it hides here, other frames saw
        depth = clip.room.depth[number]
        right = (seen.depth / depth - 1).abs() < 0.02
        assert right[seen.visible].float().mean() > 0.95
        assert psnr(seen.video[None], clip.room.video[[number]], seen.visible[None]) > 28


def test_a_still_camera_sees_known_pixels_of_the_room_where_they_were(clip):
    if not clip.still:
        return
    seen = everywhere(static_cloud(clip.frames, SURFACE), clip.frames, 4)
    off = (seen.video - clip.room.video[4]).abs().amax(0)[seen.visible]
    assert off.quantile(0.75) < 2e-3  # the rest was beside the box, where colours are mixed


def test_wrong_depth_of_one_frame_does_not_enter(clip):
    wrong = clip.frames.depth.clone()
    wrong[5] *= 1.2
    exact, cloud = (static_cloud(clip.frames._replace(depth=d), SURFACE) for d in (clip.frames.depth, wrong))
    for number in (0, 8):
        seen, expected = (everywhere(one, clip.frames, number) for one in (cloud, exact))
        assert (seen.visible & expected.visible).sum() > 0.9 * expected.visible.sum()
        near = (seen.depth / clip.room.depth[number] - 1).abs() < 0.02
        assert near[seen.visible].float().mean() > 0.96


def test_frames_that_show_nothing_new_add_no_points():
    scene = crossing_box(SourceCamera())
    cameras = source_cameras(scene, 12, SIDE, SIDE)
    seen = filmed(scene, cameras, 12)
    known = torch.ones_like(seen.depth, dtype=torch.bool)
    cloud = static_cloud(Frames(seen.video, seen.depth, known, *cameras), SURFACE)
    assert 0.8 * SIDE**2 < len(cloud.place) < 1.1 * SIDE**2


def test_one_frame_alone_confirms_nothing(clip):
    assert not len(static_cloud(Frames(*(part[:1] for part in clip.frames)), SURFACE).place)


def test_unknown_pixels_and_unusable_depth_do_not_enter(clip):
    known = clip.frames.known.clone()
    known[:, :, : SIDE // 2] = False
    depth = clip.frames.depth.clone()
    depth[:, : SIDE // 4] = torch.inf
    depth[:, SIDE // 4] = torch.nan
    cloud = static_cloud(clip.frames._replace(known=known, depth=depth), SURFACE)
    assert torch.isfinite(cloud.place).all() and len(cloud.place) > 100
    if clip.still:
        seen = everywhere(cloud, clip.frames, 0)
        assert not seen.visible[:, : SIDE // 2 - 1].any() and not seen.visible[: SIDE // 4 - 1].any()


def test_key_frames_are_spread_evenly_over_groups_of_more_than_one_frame():
    groups = torch.tensor([0] * 300)
    assert key_frames(groups)[0].tolist() == [round(299 * step / 23) for step in range(24)]
    groups = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    assert {group: frames.tolist() for group, frames in key_frames(groups).items()} == {
        0: [0, 1, 2],
        2: [4, 5],
    }
    assert key_frames(torch.arange(5)) == {}


def test_frames_are_taken_from_the_middle_out():
    for count in (1, 2, 3, 7, 24):
        assert sorted(middle_out(count)) == list(range(count))
    assert middle_out(9) == [4, 2, 7, 1, 3, 6, 8, 0, 5]
