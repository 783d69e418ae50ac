"""Bounds, what is missed, and what is said about it."""

import math

import pytest

from recapture.conf.pretrain import PARTS, PretrainConfig
from recapture.tasks.pretrain.gates import (
    Gate,
    GateFailed,
    check,
    gate_bounds,
    gate_table,
    missed,
    part_gates,
)

GOOD = {
    "vae": {},
    "refine": {"classic/psnr": 32, "classic/chroma_r2": 0.97, "wide/psnr": 40, "wide/chroma_r2": 1},
    "sharpen": {
        f"{variety}/{name}": bound
        for variety in ("classic", "wide")
        for name, bound in (("psnr", 32), ("chroma_r2", 0.97), ("sharpness", 0.9))
    },
    "inpainter": {"hole_gain": 2, "colour_accuracy": 0.8},
    "depth": {"classic/abs_rel": 0.12, "wide/abs_rel": 0},
    "features": {
        f"{metric}/ordered": 0.95 for metric in ("distance", "view", "frechet_image", "frechet_clip")
    },
}


@pytest.mark.parametrize(
    ("side", "value", "met"),
    [
        (">=", 2.0, True),
        (">=", 1.999, False),
        ("<=", 2.0, True),
        ("<=", 2.001, False),
        (">=", math.nan, False),
        ("<=", math.nan, False),
    ],
)
def test_a_gate_is_met_on_its_bound_and_never_by_a_value_that_is_no_number(side, value, met):
    assert Gate("part", "score", side, 2.0, value).met is met


@pytest.mark.parametrize("part", PARTS)
def test_scores_on_the_bounds_pass_and_each_score_just_outside_fails_alone(part):
    config = PretrainConfig()
    check(config, part, GOOD[part])
    for name, (side, bound) in gate_bounds(config.gates, part).items():
        worse = bound - 0.001 if side == ">=" else bound + 0.001
        gates = part_gates(config.gates, part, {**GOOD[part], name: worse})
        assert [gate.name for gate in missed(gates)] == [name]
        with pytest.raises(GateFailed, match=f"{part}/{name} is .* needed {side} {bound:g}"):
            check(config, part, {**GOOD[part], name: worse})


def test_every_missed_gate_is_named_in_one_line_with_the_ways_out():
    with pytest.raises(GateFailed) as failed:
        check(PretrainConfig(work="w"), "inpainter", {"hole_gain": 1.5, "colour_accuracy": 0.34375})
    text = str(failed.value)
    assert (
        "inpainter/hole_gain is 1.5, needed >= 2; inpainter/colour_accuracy is 0.3438, needed >= 0.8" in text
    )
    assert "Remove w/inpainter.*" in text and "inpainter.steps" in text and "gates.enforce=false" in text
    assert "\n" not in text


def test_bounds_come_from_the_settings_and_nothing_stops_where_they_are_not_enforced():
    lowered = PretrainConfig(gates={"hole_gain": 1.0, "colour_accuracy": 0.3})
    check(lowered, "inpainter", {"hole_gain": 1.5, "colour_accuracy": 0.34})
    check(PretrainConfig(gates={"enforce": False}), "inpainter", {"hole_gain": 0.0, "colour_accuracy": 0.0})


def test_the_table_has_a_row_a_gate():
    table = gate_table([Gate("a", "x", ">=", 32.0, 25.19), Gate("a", "y", "<=", 0.12, 0.0626)])
    assert table.splitlines()[2:] == ["| x | >= 32 | 25.19 | not met |", "| y | <= 0.12 | 0.0626 | met |"]
