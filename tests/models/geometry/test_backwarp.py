import torch

from recapture.models.geometry.backwarp import back_warp, project_points


def warp(filmed, **changes):
    source, view = filmed.source, filmed.view
    arguments = {
        "video": source.video,
        "depth": source.depth,
        "known": source.known,
        "target_depth": filmed.truth_depth,
        "target_world_to_camera": view.world_to_camera,
    } | changes
    return back_warp(
        intrinsics=source.intrinsics,
        world_to_camera=source.world_to_camera,
        target_intrinsics=view.intrinsics,
        **arguments,
    )


def test_the_same_camera_gets_its_own_frame_back(filmed):
    source = filmed.source
    same = warp(filmed, target_depth=source.depth, target_world_to_camera=source.world_to_camera)
    assert float(same.co_visible.float().mean()) > 0.999
    difference = (same.video - source.video).abs().amax(1)[same.co_visible]
    assert float(difference.max()) < 1e-3


def test_co_visible_pixels_are_those_of_the_exact_visibility_and_look_like_the_truth(filmed):
    warped = warp(filmed)
    exact, found = filmed.co_visible, warped.co_visible
    assert float((found & ~exact).float().mean()) < 0.005
    assert float((found & exact).sum() / exact.sum()) > 0.93
    error = (warped.video - filmed.truth).abs().mean(1)[found]
    assert float(error.mean()) < 0.04
    assert float((filmed.source.video - filmed.truth).abs().mean(1)[found].mean()) > 0.15


def test_projection_equals_the_slow_path_of_one_pixel(filmed):
    depth = filmed.truth_depth[5]
    cameras = filmed.view.intrinsics[5], filmed.view.world_to_camera[5]
    other = filmed.source.intrinsics[5], filmed.source.world_to_camera[5]
    u, v, z = project_points(depth, *cameras, *other)
    for row, column in ((0, 0), (40, 77), (111, 3)):
        ray = torch.linalg.solve(cameras[0].double(), torch.tensor([column + 0.5, row + 0.5, 1]).double())
        point = torch.cat([ray * depth[row, column].double(), torch.ones(1).double()])
        there = other[1].double() @ torch.linalg.solve(cameras[1].double(), point)
        image = other[0].double() @ there[:3]
        expected = torch.stack([image[0] / image[2], image[1] / image[2], there[2]])
        torch.testing.assert_close(torch.stack([u, v, z])[:, row, column], expected, rtol=1e-9, atol=1e-9)


def test_unknown_source_pixels_and_unknown_target_depth_are_never_co_visible(filmed):
    known = filmed.source.known.clone()
    known[:, :, 56:] = False
    assert not warp(filmed, known=torch.zeros_like(known)).co_visible.any()
    half = warp(filmed, known=known)
    assert half.co_visible.any() and (half.co_visible & ~warp(filmed).co_visible).sum() == 0
    for useless in (float("inf"), float("nan"), 0.0, -1.0):
        nothing = warp(filmed, target_depth=torch.full_like(filmed.truth_depth, useless))
        assert not nothing.co_visible.any() and torch.isfinite(nothing.video).all()


def test_a_point_behind_the_source_camera_is_not_seen_by_it(filmed):
    behind = filmed.source.world_to_camera.clone()
    turn = torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    assert not warp(filmed, target_world_to_camera=turn @ behind).co_visible.any()
