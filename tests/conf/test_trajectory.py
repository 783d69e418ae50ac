"""A trajectory that cannot be filmed is refused when the configuration is read."""

import pytest

from recapture.conf.errors import ConfigError
from recapture.conf.load import load_config
from recapture.conf.presets import AMOUNTS
from recapture.conf.section import Section
from recapture.conf.trajectory import POSE_PARTS, TrajectoryConfig
from recapture.models.geometry.trajectories import PARTS, PRESETS


def test_the_configuration_knows_the_presets_and_pose_parts_of_the_library():
    assert {name: amount or "none" for name, amount in AMOUNTS.items()} == {
        name: preset.amount for name, preset in PRESETS.items()
    }
    assert POSE_PARTS == PARTS


def test_sections_can_be_gone_through_as_mappings_as_prefect_does_with_parameters():
    every, left = set(), [Section]
    while left:
        every |= set(found := left.pop().__subclasses__())
        left += found
    assert {one.__name__ for one in every} >= {"TimeConfig", "TrajectoryConfig"}
    # dict() calls what is named `keys`
    assert [one.__name__ for one in every if "keys" in one.model_fields] == []
    time = TrajectoryConfig(preset="static", time={"mode": "reverse"}).time
    assert dict(time)["mode"] == "reverse"


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        (
            "{preset: orbit_rigth}",
            r"trajectories\.0\.preset: 'orbit_rigth' is unknown; did you mean 'orbit_right'\?",
        ),
        ("{preset: sideways_and_up}", "choose one of static, pan_left, .*spiral"),
        ("{preset: orbit_left, distance: 0.3}", "takes angle_degrees, not distance; write angle_degrees"),
        ("{preset: dolly_in, angle_degrees: 20}", "takes distance, not angle_degrees; write distance"),
        ("{preset: static, distance: 0.3}", "takes no amount, not distance; leave out distance"),
        ("{file: a.json, angle_degrees: 20}", "angle_degrees is the amount of a preset, and none is given"),
        ("{preset: orbit_left, angle_degrees: .nan}", r"trajectories\.0\.angle_degrees: .*finite"),
        ("{preset: dolly_in, distance: 1}", "would pass the pivot; stay below 1"),
        ("{preset: dolly_out, distance: -1.5}", "would pass the pivot; stay below 1"),
        ("{preset: zoom_out, distance: -1}", "takes a distance above -1"),
        ("{preset: left, freeze_frame: 3}", "freeze_frame is for mode bullet_time, not gradual"),
        (
            "{preset: left, mode: bullet_time, freeze_frame: -1}",
            r"freeze_frame: .*greater than or equal to 0",
        ),
        ("{preset: left, mode: direct, easing: smooth}", "easing 'smooth' does not apply: mode direct"),
        ("{file: a.npz, easing: smooth}", "easing 'smooth' does not apply: file fixes every camera"),
        ("{preset: left, interpolation: linear}", "interpolation is for keyframes, and none are given"),
        ("{file: a.npz, file_format: opencv, file_camera: b}", "a file of opencv holds one camera"),
        ("{preset: orbit_left, angle_degrees: 400}", "less than or equal to 360"),
        ("{preset: orbit_left, angle_degrees: yes}", "YAML reads this as true or false"),
        ("{stabilise_seconds: 1, fit_length: true}", "fit_length is for a trajectory file"),
        ("{stabilise_seconds: 1, mode: direct}", "mode 'direct' does not apply to it"),
        ("{preset: orbit_left, keyframes: [{at: 0}]}", "exactly one of preset, keyframes"),
        ("{file: a.npz, scale: 0}", r"scale: .*greater than 0"),
        ("{keyframes: []}", r"trajectories\.0\.keyframes: .*at least 1"),
        ("{keyframes: [{at: 0, yaw: 3}]}", r"key 0 has unknown parts \['yaw'\]; a key has 'at' and any of"),
        ("{keyframes: [{phi: 3}]}", "key 0 has no 'at'"),
        ("{keyframes: [{at: 2}]}", "key 0: 'at' must be between 0 and 1"),
        ("{keyframes: [{at: 0.5}, {at: 0.5}]}", "'at' must increase from key to key"),
        ("{keyframes: [{at: 1, z: 0.7, r: 0.4}]}", r"key 0: r \+ z must stay below 1"),
    ],
)
def test_a_trajectory_that_cannot_be_filmed_is_one_message(trajectory, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(arguments=["--trajectories", f"[{trajectory}]"])
    assert len(str(caught.value).splitlines()) == 3  # a heading, the message, and where it was read from


@pytest.mark.parametrize(("preset", "amount"), AMOUNTS.items())
def test_every_preset_takes_its_own_amount_or_none_at_all(preset, amount):
    assert TrajectoryConfig(preset=preset).label == preset
    if amount:
        assert TrajectoryConfig(preset=preset, **{amount: 0.25}).label == f"{preset}_0.25"
