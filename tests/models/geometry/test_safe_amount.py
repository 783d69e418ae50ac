"""The amount that is found is within its bound, was tried, and grows with the bound."""

import pytest
import torch
from support.surface import SURFACE

from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import nearest_surface
from recapture.models.geometry.safe_amount import CoarseScene, Strain, coarse_lens, largest_amount
from recapture.models.geometry.trajectories import preset_path


def growing(amount):
    return Strain(0.004 * abs(amount), 1 + 0.01 * abs(amount))


@pytest.mark.parametrize("most", [90.0, -90.0])
def test_the_amount_is_the_largest_step_within_the_bound(most):
    found = largest_amount(growing, most, Strain(0.2, 16))
    assert abs(found.amount) == pytest.approx(50, abs=90 / 128)
    assert found.strain == growing(found.amount)
    assert found.strain.within(Strain(0.2, 16))
    assert largest_amount(growing, most, Strain(0.9, 16)).amount == most
    assert largest_amount(growing, most, Strain(0.9, 1.3)).strain.stretch <= 1.3


def test_a_wider_bound_never_gives_less_even_where_holes_come_and_go():
    def wavy(amount):
        return Strain(0.004 * amount + 0.1 * float(torch.sin(torch.tensor(amount / 3))) + 0.1, 1.0)

    amounts = [largest_amount(wavy, 90, Strain(b / 100, 16)).amount for b in range(15, 50)]
    assert amounts == sorted(amounts)


def test_a_bound_below_the_smallest_amount_is_an_error_with_its_holes():
    with pytest.raises(
        ValueError, match=r"even 0\.703 gives a frame with 30\.0% holes .*bound\.hole_share 0\.1"
    ):
        largest_amount(lambda amount: Strain(0.3, 1.0), 90, Strain(0.1, 4))


def test_coarse_pixels_are_where_the_clips_pixels_are():
    lens = default_intrinsics(480, 640).double()
    ray = torch.tensor([0.1, -0.2, 1.0]).double()
    fine, coarse = lens @ ray, coarse_lens(lens, 3) @ ray
    # the coarse pixel i shows the pixel 3i + 1
    torch.testing.assert_close(3 * (coarse[:2] - 0.5) + 1.5, fine[:2])


def test_a_coarse_strain_is_near_that_of_every_pixel():
    height, width = 320, 480
    depth = torch.full((1, height, width), 4.0)
    depth[:, 100:220, 180:300] = 2.0
    lens, eye = default_intrinsics(height, width).double()[None], torch.eye(4).double()[None]
    scene = CoarseScene.of(depth, torch.ones(1, height, width, dtype=torch.bool), lens, eye)
    path = preset_path("orbit_right", lens, eye, 4.0, angle_degrees=20, mode="direct")
    target = (path.intrinsics, path.world_to_camera)
    strain = scene.strain(*target, SURFACE)
    _, stretch = nearest_surface(depth, lens, eye, *target, surface=SURFACE)
    assert scene.step == 2
    assert strain.hole_share == pytest.approx(float((stretch <= 0).double().mean()), abs=0.01)
    assert strain.stretch == pytest.approx(float(stretch[stretch > 0].double().quantile(0.95)), rel=0.02)


def test_what_a_mask_removes_is_no_hole_of_the_move():
    depth, lens, eye = (
        torch.full((1, 160, 240), 4.0),
        default_intrinsics(160, 240).double()[None],
        torch.eye(4),
    )
    known = torch.ones(1, 160, 240, dtype=torch.bool)
    known[:, 20:140, 40:200] = False
    eye = eye.double()[None]
    scene = CoarseScene.of(depth, known, lens, eye)
    assert scene.strain(lens, eye, SURFACE).hole_share == 0
    target = preset_path("orbit_right", lens, eye, 4.0, angle_degrees=20, mode="direct")
    moved = scene.strain(target.intrinsics, target.world_to_camera, SURFACE).hole_share
    whole = CoarseScene.of(depth, torch.ones_like(known), lens, eye)
    assert 0 < moved <= whole.strain(target.intrinsics, target.world_to_camera, SURFACE).hole_share + 0.02
