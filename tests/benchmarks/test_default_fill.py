"""The check of the default fill, on made-up numbers, and the families that it is made on."""

import sys
from itertools import product
from typing import Any

import default_fill
import pytest
import torch

from bench import families
from bench.compared_fills import ANGLES, MEMBRANE, Rows
from bench.default_check import compared, losses
from bench.families import HOLES, MOVED
from bench.tables import Run
from recapture.conf.fill import FillConfig

DEFAULT = f"inverse, {MEMBRANE}"


def made_up(**below: float) -> dict[Any, Any]:
    """Return scores of two scenes per family and angle: the default 1 dB above the classical fill in one and
    equal in the other, but `below` of FAMILY_ANGLE under it in both."""
    scores = {}
    for (family, angle), number in product(
        [*product(MOVED, ANGLES), *((shape, 0.0) for shape in HOLES)], (0, 1)
    ):
        gain = -below.get(f"{family}_{angle:g}", -number)
        classical = {"psnr_hole": 20.0, "psnr_seam": 25.0, "hole_share": 0.2}
        scores[family, angle, number] = {
            "classical": classical,
            DEFAULT: classical | {"psnr_hole": 20.0 + gain},
        }
    return scores


def test_a_default_that_is_nowhere_more_than_the_allowed_loss_below_passes() -> None:
    assert losses(compared(made_up(), DEFAULT)) == []
    assert losses(compared(made_up(wide_45=0.29, thin_0=0.29), DEFAULT)) == []


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("family", MOVED)
def test_a_loss_at_one_angle_of_one_family_is_named(family: str, angle: float) -> None:
    lost = losses(compared(made_up(**{f"{family}_{angle:g}": 0.31}), DEFAULT))
    assert lost == [f"{family} at {angle:g} degrees: 0.31 dB below the classical fill in holes"]


def test_a_loss_in_holes_of_one_shape_is_named() -> None:
    lost = losses(compared(made_up(dotted_0=2.0), DEFAULT))
    assert lost == ["dotted holes: 2.00 dB below the classical fill in holes"]


def test_what_was_not_measured_is_no_success() -> None:
    scores = made_up()
    del scores["outdoor", 60.0, 1][DEFAULT]
    assert losses(compared(scores, DEFAULT)) == ["outdoor at 60 degrees: not measured"]


@pytest.mark.parametrize(("below", "status"), [({}, 0), ({"cutout_5": 0.4}, 1)])
def test_the_command_exits_with_1_where_the_default_loses(
    below: dict[str, float], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(default_fill, "measured", lambda given: Rows(made_up(**below), "2026-01-01"))
    monkeypatch.setattr(default_fill, "this_run", lambda **given: Run("command", "machine", "date"))
    monkeypatch.setattr(sys, "argv", ["default_fill.py"])
    assert default_fill.main() == status
    printed = capsys.readouterr()
    assert ("cutout at 5 degrees: 0.40 dB below" in printed.err) == bool(below)
    assert printed.out.count("loses") == len(below)


@pytest.mark.parametrize(
    ("shape", "widest", "share"), [("thin", 4, 0.3), ("crescent", 7, 0.3), ("dotted", 7, 0.3)]
)
def test_holes_of_other_shapes_are_narrow_and_differ_from_seed_to_seed(
    shape: str, widest: int, share: float
) -> None:
    hole = families.holes(shape, 0)
    assert hole.shape == (families.FRAMES, families.SIDE, families.SIDE)
    assert 0.01 < hole.float().mean() < share
    assert not torch.equal(hole, families.holes(shape, 1)) and torch.equal(hole, families.holes(shape, 0))
    open_ = 1 - torch.nn.functional.max_pool2d(1 - hole[:, None].float(), widest + 2, 1)
    assert open_.mean() < 0.02  # hardly anything is wider, but where lines cross


def test_nothing_of_a_hole_of_another_shape_is_shown_by_other_frames() -> None:
    case = families.case("thin", 0.0, 0)
    hidden = (~case.view.visible).any(0)
    assert not case.source.known[:, hidden].any() and case.inside.all()
    assert (case.view.video == torch.where(case.view.visible[:, None], case.truth, torch.zeros(()))).all()


def test_the_default_of_the_check_is_that_of_a_job() -> None:
    settings = FillConfig()
    assert f"{settings.method}, {settings.compositing}" == DEFAULT
