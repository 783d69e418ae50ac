import pytest
import torch

from recapture.models.depth.ground_plane import ground_plane_depth

INTRINSICS = torch.tensor([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])


def test_every_ground_pixel_lies_on_one_plane_at_the_camera_height():
    depth = ground_plane_depth(96, 128, INTRINSICS, horizon=0.3, camera_height=1.5, far=12).double()
    v, u = torch.meshgrid(torch.arange(96).double() + 0.5, torch.arange(128).double() + 0.5, indexing="ij")
    points = torch.stack([(u - 64) / 100 * depth, (v - 48) / 100 * depth, depth], -1)[depth < 11.9]
    normal = torch.linalg.lstsq(points, torch.ones(len(points), 1).double()).solution.flatten()
    assert len(points) > 1000
    assert float((points @ normal - 1).abs().max()) < 1e-5
    assert 1 / float(normal.norm()) == pytest.approx(1.5, abs=1e-5)


def test_the_plane_vanishes_at_the_stated_horizon_and_a_wall_stands_above():
    depth = ground_plane_depth(96, 128, INTRINSICS, horizon=0.3, far=1e6)
    assert (depth[: int(0.3 * 96)] == depth[0, 0]).all()
    rows = depth[40:, 0].double()
    # disparity of a plane is affine in the row; its zero is the horizon
    disparity = 1 / rows
    slope = disparity[1] - disparity[0]
    assert 40.5 - float(disparity[0] / slope) == pytest.approx(0.3 * 96, abs=1e-3)


def test_depth_is_positive_bounded_and_never_grows_downwards():
    depth = ground_plane_depth(64, 64, torch.tensor([[50.0, 0, 32], [0, 50, 32], [0, 0, 1]]))
    assert depth.min() > 0 and depth.max() == pytest.approx(12)
    assert (depth[1:] <= depth[:-1]).all()


def test_an_impossible_prior_is_refused_with_its_values():
    with pytest.raises(ValueError, match=r"horizon=1\.5"):
        ground_plane_depth(64, 64, INTRINSICS, horizon=1.5)
