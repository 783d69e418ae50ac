"""Clips of any name are recognisable in MLflow, and no two become one."""

import random
import re

import pytest

from recapture.tasks.engine.mlflow_names import LONGEST, mlflow_name, mlflow_word

ACCEPTED = re.compile(r"[a-zA-Z0-9_\-./ ]+")  # MLflow 3.17's rule for image keys
EVERYDAY = {
    "bmx/003@orbit_right_20": "bmx/003_at_orbit_right_20",
    "my_clip": "my_clip",
    "IMG (1)": "IMG _x28_1_x29_",
    "Title [x]": "Title _x5b_x_x5d_",
    "50% off": "50_x25_ off",
    "é 🎬": "_xe9_ _x1f3ac_",
    "a#b+c": "a_x23_b_x2b_c",
    "look_at_me": "look_x5f_at_me",
    "a_x28_b": "a_x5f_x28_b",
}


@pytest.mark.parametrize("name", EVERYDAY)
def test_a_name_stays_recognisable_and_is_accepted(name):
    assert mlflow_name(name) == EVERYDAY[name]
    assert ACCEPTED.fullmatch(mlflow_name(name))


def test_no_two_names_become_one():
    draw = random.Random(2)
    pieces = ["_", "_x", "28", "_at_", "@", "(", "x28_", "/", " ", ".", "a", "é", "_x5f_", "~", "_x2f_"]
    names = {"".join(draw.choices(pieces, k=draw.randint(1, 7))) for _ in range(20_000)}
    assert len({mlflow_name(name) for name in names}) == len(names)
    assert len({mlflow_word(name) for name in names}) == len(names)
    assert all(ACCEPTED.fullmatch(mlflow_name(name)) for name in names)


def test_long_names_differ_and_fit_into_the_name_of_a_file():
    one, other = "猫" * 66 + "1/psnr", "猫" * 66 + "2/psnr"
    assert mlflow_name(one) != mlflow_name(other)
    for name in (one, other):
        assert len(mlflow_name(name)) <= LONGEST
        assert mlflow_name(name).endswith("/psnr")
        assert ACCEPTED.fullmatch(mlflow_name(name))


@pytest.mark.parametrize("name", [".", "..", "a/..", " a", "a.", "a /b"])
def test_no_name_leaves_its_folder_or_ends_in_what_file_systems_drop(name):
    for part in mlflow_name(name).split("/"):
        assert part.strip(" .") == part
