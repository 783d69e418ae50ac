import math

import numpy as np
import pytest
import torch
import yaml

from recapture.datasets.cameras.files import read_cameras, write_cameras
from recapture.models.geometry.cameras import camera_centres, default_intrinsics, rigid, rotation_degrees
from recapture.models.geometry.trajectories import PRESETS, explicit_path, keyframe_path, preset_path

FRAMES, PIVOT = 5, 4.0
CENTRE = (32.0, 24.0)  # of the 48x64 picture


def source(moving=False):
    """Return the source camera: at the origin, or turning and travelling."""
    intrinsics = default_intrinsics(48, 64).double().expand(FRAMES, 3, 3).clone()
    if not moving:
        return intrinsics, torch.eye(4).double().expand(FRAMES, 4, 4).clone()
    travel = torch.arange(FRAMES).double()[:, None] * torch.tensor([0.1, 0.02, -0.05]).double()
    return intrinsics, rigid(rotation_degrees("y", torch.linspace(0, 30, FRAMES)), travel)


def pixel(path, point, frame=-1):
    """Project a world point (x, y, z) with one camera of the path: (u, v, depth)."""
    seen = (path.world_to_camera[frame] @ torch.tensor([*point, 1.0]).double())[:3]
    u, v, z = (path.intrinsics[frame] @ seen).tolist()
    return u / z, v / z, z


def last(preset, **amount):
    return preset_path(preset, *source(), PIVOT, **amount)


def centre(path):
    return camera_centres(path.world_to_camera)[-1].tolist()


PIVOT_POINT = (0.0, 0.0, PIVOT)


# Which way the pivot moves in the image when the camera turns: the other way.
@pytest.mark.parametrize(
    ("preset", "u", "v"), [("pan_right", -1, 0), ("pan_left", 1, 0), ("tilt_up", 0, 1), ("tilt_down", 0, -1)]
)
def test_turning_moves_the_pivot_the_other_way_and_leaves_the_camera_in_place(preset, u, v):
    path = last(preset, angle_degrees=10.0)
    shift = math.tan(math.radians(10.0)) * float(path.intrinsics[-1, 0, 0])
    assert pixel(path, PIVOT_POINT)[:2] == pytest.approx((CENTRE[0] + u * shift, CENTRE[1] + v * shift))
    assert centre(path) == pytest.approx((0, 0, 0), abs=1e-12)


SINE, RISE = PIVOT * math.sin(math.radians(20)), PIVOT * (1 - math.cos(math.radians(20)))


@pytest.mark.parametrize("name", ["orbit", "arc"])
@pytest.mark.parametrize(
    ("side", "x", "y"), [("right", SINE, 0), ("left", -SINE, 0), ("up", 0, -SINE), ("down", 0, SINE)]
)
def test_orbits_swing_to_their_side_with_the_pivot_centred_at_its_distance(name, side, x, y):
    path = last(f"{name}_{side}", angle_degrees=20.0)
    assert centre(path) == pytest.approx((x, y, RISE))
    for frame in range(FRAMES):
        assert pixel(path, PIVOT_POINT, frame) == pytest.approx((*CENTRE, PIVOT))


@pytest.mark.parametrize(
    ("preset", "x", "y"), [("right", 0.8, 0), ("left", -0.8, 0), ("up", 0, -0.8), ("down", 0, 0.8)]
)
def test_travel_goes_to_its_side_without_turning(preset, x, y):
    path = last(preset, distance=0.2)
    assert centre(path) == pytest.approx((x, y, 0.0))
    assert torch.equal(path.world_to_camera[-1, :3, :3], torch.eye(3).double())
    focal = float(path.intrinsics[-1, 0, 0])
    moved = (CENTRE[0] - focal * x / PIVOT, CENTRE[1] - focal * y / PIVOT)
    assert pixel(path, PIVOT_POINT)[:2] == pytest.approx(moved)


@pytest.mark.parametrize(("preset", "depth"), [("dolly_in", 3.2), ("dolly_out", 4.8)])
def test_dolly_changes_the_pivots_depth_and_not_the_lens(preset, depth):
    path = last(preset, distance=0.2)
    assert pixel(path, PIVOT_POINT) == pytest.approx((*CENTRE, depth))
    assert torch.equal(path.intrinsics, source()[0])


@pytest.mark.parametrize(("preset", "factor"), [("zoom_in", 1.25), ("zoom_out", 1 / 1.25)])
def test_zoom_changes_the_focal_length_only(preset, factor):
    path = last(preset, distance=0.25)
    intrinsics, world_to_camera = source()
    assert torch.equal(path.world_to_camera, world_to_camera)
    intrinsics[-1, 0, 0] *= factor
    intrinsics[-1, 1, 1] *= factor
    torch.testing.assert_close(path.intrinsics[-1], intrinsics[-1])
    torch.testing.assert_close(path.intrinsics[0], source()[0][0])


@pytest.mark.parametrize(("preset", "nearer"), [("dolly_zoom_in", True), ("dolly_zoom_out", False)])
def test_dolly_zoom_keeps_the_pivots_size_while_the_camera_travels(preset, nearer):
    path = last(preset, distance=0.3)
    width = float(source()[0][0, 0, 0]) / PIVOT
    for frame in range(FRAMES):
        left, right = (pixel(path, (side, 0.0, PIVOT), frame) for side in (-0.5, 0.5))
        assert right[0] - left[0] == pytest.approx(width)
    depth = pixel(path, PIVOT_POINT)[2]
    assert depth == pytest.approx(PIVOT * (0.7 if nearer else 1.3))
    background = (pixel(path, (1.0, 0.0, 3 * PIVOT))[0] - CENTRE[0]) * 3
    assert (background < width) == nearer


@pytest.mark.parametrize(("preset", "y"), [("crane_up", -1), ("crane_down", 1)])
def test_crane_rises_or_sinks_and_keeps_the_pivot_centred(preset, y):
    path = last(preset, distance=0.5)
    assert centre(path) == pytest.approx((0, y * 0.5 * PIVOT, 0), abs=1e-12)
    for frame in range(FRAMES):
        assert pixel(path, PIVOT_POINT, frame)[:2] == pytest.approx(CENTRE)


def test_spiral_passes_above_left_below_and_right_and_keeps_the_pivot_centred():
    path = last("spiral", distance=0.3)
    for frame in range(FRAMES):
        assert pixel(path, PIVOT_POINT, frame)[:2] == pytest.approx(CENTRE)
    quarters = camera_centres(path.world_to_camera)[:, :2] / PIVOT
    expected = [(0, 0), (0, -0.075), (-0.15, 0), (0, 0.225), (0.3, 0)]  # y points down
    torch.testing.assert_close(quarters, torch.tensor(expected).double(), atol=1e-7, rtol=0)


def test_static_is_the_source_itself():
    intrinsics, world_to_camera = source(moving=True)
    path = preset_path("static", intrinsics, world_to_camera, PIVOT)
    torch.testing.assert_close(path.world_to_camera, world_to_camera, atol=1e-12, rtol=0)
    assert torch.equal(path.intrinsics, intrinsics)


def test_every_preset_has_a_sign_test_above():
    tested = {"static", "pan_left", "pan_right", "tilt_up", "tilt_down", "left", "right", "up", "down"}
    tested |= {f"{name}_{side}" for name in ("orbit", "arc") for side in ("left", "right", "up", "down")}
    tested |= {f"{name}_{way}" for name in ("zoom", "dolly", "dolly_zoom") for way in ("in", "out")}
    assert set(PRESETS) == tested | {"crane_up", "crane_down", "spiral"}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_gradual_paths_start_at_the_source_and_end_where_direct_ones_are_throughout(preset):
    cameras = source(moving=True)
    gradual = preset_path(preset, *cameras, PIVOT)
    direct = preset_path(preset, *cameras, PIVOT, mode="direct")
    torch.testing.assert_close(gradual.world_to_camera[0], cameras[1][0], atol=1e-12, rtol=0)
    torch.testing.assert_close(gradual.world_to_camera[-1], direct.world_to_camera[-1])
    torch.testing.assert_close(gradual.intrinsics[-1], direct.intrinsics[-1])
    assert gradual.source_frame.tolist() == direct.source_frame.tolist() == list(range(FRAMES))
    offset = direct.world_to_camera @ torch.linalg.inv(cameras[1])
    torch.testing.assert_close(offset, offset[:1].expand_as(offset), atol=1e-9, rtol=0)


def test_bullet_time_travels_about_one_frozen_frame():
    cameras = source(moving=True)
    path = preset_path("orbit_right", *cameras, PIVOT, mode="bullet_time", freeze_frame=3)
    assert path.source_frame.tolist() == [3] * FRAMES
    torch.testing.assert_close(path.world_to_camera[0], cameras[1][3], atol=1e-12, rtol=0)
    pivot = torch.linalg.inv(cameras[1][3]) @ torch.tensor([*PIVOT_POINT, 1.0]).double()
    for frame in range(FRAMES):
        assert pixel(path, pivot[:3].tolist(), frame) == pytest.approx((*CENTRE, PIVOT))
    middle = preset_path("orbit_right", *cameras, PIVOT, mode="bullet_time")
    assert middle.source_frame.tolist() == [2] * FRAMES


def test_smooth_easing_starts_and_ends_slowly_and_passes_the_middle():
    linear, smooth = (last("right", easing=easing) for easing in ("linear", "smooth"))
    a, b = (camera_centres(path.world_to_camera)[:, 0] for path in (linear, smooth))
    torch.testing.assert_close(a[[0, 2, 4]], b[[0, 2, 4]])
    assert b[1] < a[1] and b[3] > a[3]


KEYS = """
- {at: 0.0}
- {at: 0.5, phi: 20, z: 0.1}
- {at: 1.0, phi: 20, focal: 1.5, roll: 90}
"""


@pytest.mark.parametrize("interpolation", ["linear", "spline"])
def test_keyframes_from_yaml_are_passed_through(interpolation):
    path = keyframe_path(yaml.safe_load(KEYS), *source(), PIVOT, interpolation=interpolation)
    torch.testing.assert_close(path.world_to_camera[0], torch.eye(4).double(), atol=1e-12, rtol=0)
    assert camera_centres(path.world_to_camera)[2].tolist() == pytest.approx((SINE, 0, RISE + 0.1 * PIVOT))
    assert centre(path) == pytest.approx((SINE, 0, RISE))
    assert float(path.intrinsics[-1, 0, 0] / path.intrinsics[0, 0, 0]) == pytest.approx(1.5)
    # rolled clockwise, the world turns counter-clockwise: what was on the right is now up
    right = pixel(path, (0.5 * math.cos(math.radians(20)), 0.0, PIVOT + 0.5 * math.sin(math.radians(20))))
    assert right[0] == pytest.approx(CENTRE[0]) and right[1] < CENTRE[1] - 1


def test_splines_do_not_swing_beyond_their_keys_and_linear_is_straight():
    keys = [{"at": 0.0}, {"at": 0.5, "x": 0.2}, {"at": 1.0, "x": 0.2}]
    intrinsics = default_intrinsics(48, 64).double().expand(101, 3, 3)
    still = torch.eye(4).double().expand(101, 4, 4)
    spline, linear = (
        camera_centres(keyframe_path(keys, intrinsics, still, 1.0, interpolation=kind).world_to_camera)[:, 0]
        for kind in ("spline", "linear")
    )
    assert spline.max() <= 0.2 + 1e-12 and (spline.diff() >= -1e-12).all()
    torch.testing.assert_close(linear[:51], torch.linspace(0, 0.2, 51).double(), atol=1e-7, rtol=0)
    assert (spline - linear).abs().max() > 1e-3


def test_one_keyframe_holds_and_part_r_approaches_the_pivot():
    path = keyframe_path([{"at": 0.3, "r": 0.25}], *source(), PIVOT)
    assert camera_centres(path.world_to_camera).tolist() == [pytest.approx((0, 0, 1.0))] * FRAMES


def test_theta_lifts_phi_swings_right_pan_turns_right():
    up, right, pan = (
        keyframe_path([{"at": 0.0, part: 10.0}], *source(), PIVOT) for part in ("theta", "phi", "pan")
    )
    assert centre(up)[1] < -0.1 and centre(right)[0] > 0.1 and pixel(pan, PIVOT_POINT)[0] < CENTRE[0] - 1


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_explicit_cameras_from_a_file_are_taken_as_they_are_or_relative_to_the_source(tmp_path, suffix):
    file = str(tmp_path / f"path.{suffix}")
    own = rigid(rotation_degrees("x", torch.linspace(0, 9, FRAMES)), torch.rand(FRAMES, 3).double())
    write_cameras(file, own, 2 * default_intrinsics(48, 64).double().expand(FRAMES, 3, 3))
    cameras = source(moving=True)
    given, intrinsics = read_cameras(file)
    absolute = explicit_path(given, intrinsics, *cameras, relative=False)
    assert torch.equal(absolute.world_to_camera, own) and absolute.source_frame.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(absolute.intrinsics, 2 * default_intrinsics(48, 64).double().expand(5, 3, 3))
    relative = explicit_path(given, None, *cameras, relative=True)
    torch.testing.assert_close(relative.world_to_camera, own @ cameras[1])
    assert torch.equal(relative.intrinsics, cameras[0])


def changed(change):
    world_to_camera = source()[1]
    change(world_to_camera)
    return world_to_camera


@pytest.mark.parametrize(
    ("world_to_camera", "message"),
    [
        (changed(lambda w: w[2, 1].fill_(float("nan"))), "the camera file: .* not finite at frame 2"),
        (source()[1][:4], r"the camera file: world_to_camera is \[4, 4, 4\], expected \[5, 4, 4\]"),
        (changed(lambda w: w[1, :3, :3].mul_(2)), "frame 1 is not orthonormal .off by 3"),
        (changed(lambda w: w[3, 0, 0].neg_()), "frame 3 is left-handed"),
    ],
)
def test_unusable_explicit_cameras_are_refused_by_name_frame_and_value(world_to_camera, message):
    with pytest.raises(ValueError, match=message):
        explicit_path(world_to_camera, None, *source(), relative=False)


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("orbit", {}, "no preset is called 'orbit'; choose from static, pan_left"),
        ("pan_left", {"distance": 0.5}, "'pan_left' takes angle_degrees, not distance=0.5"),
        ("dolly_in", {"angle_degrees": 9.0}, "'dolly_in' takes distance, not angle_degrees=9"),
        ("static", {"distance": 0.5}, "'static' takes no amount, not distance=0.5"),
        ("pan_left", {"angle_degrees": math.nan}, "'pan_left': angle_degrees is nan; give a finite number"),
        ("dolly_in", {"distance": 1.2}, "travels 1.2 of the way to the pivot"),
        (
            "right",
            {"mode": "bullet_time", "freeze_frame": 5},
            "freeze_frame is 5; the clip has frames 0 to 4",
        ),
    ],
)
def test_unusable_preset_options_are_one_error_that_names_the_value(preset, options, message):
    with pytest.raises(ValueError, match=message):
        last(preset, **options)


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan, math.inf])
def test_a_pivot_that_is_not_in_front_is_refused(depth):
    with pytest.raises(ValueError, match=f"the pivot's depth is {depth}"):
        preset_path("left", *source(), depth)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "there is none"),
        ([{"phi": 1.0}], "key 0 has no 'at'"),
        ([{"at": 0.0, "yaw": 1.0}], r"key 0 has unknown parts \['yaw'\]"),
        ([{"at": 0.0}, {"at": 1.5}], "key 1 is .*1.5.*'at' must be within 0..1"),
        ([{"at": 0.0, "phi": np.nan}], "key 0 is .*nan.*every value finite"),
        ([{"at": 0.5}, {"at": 0.5}], r"'at' must grow from key to key, got \[0.5, 0.5\]"),
        ([{"at": 0.0, "focal": -1.0}], "focal factor falls to -1"),
    ],
)
def test_unusable_keyframes_are_one_error_that_names_the_key(keys, message):
    with pytest.raises(ValueError, match=message):
        keyframe_path(keys, *source(), PIVOT)
