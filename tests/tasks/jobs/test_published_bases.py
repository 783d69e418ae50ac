"""A whole job with the tiny twin of every published model: render, fill, measure, deliver."""

import cv2
import numpy as np
import pytest
from support.bare_job import configure, run_bare
from support.tiny_base import PUBLISHED, write_published

from recapture.conf.errors import ConfigError, UserError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.filled_frames import read_filled

FAST = (
    "--fill.steps",
    "2",
    "--fill.guidance_scale",
    "3",
    "--fill.scheduler",
    "euler",
    "--fill.propagate",
    "false",
)


FULL = pytest.mark.full
# each with an input that no other base has; the parts of the rest are tested in models/wan at every commit
OFTEN = ("Wan2.1-FLF2V", "Wan2.2-Fun-A14B-Control", "Wan2.2-TI2V-5B")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """Give the folder of a twin, written once."""
    root, found = tmp_path_factory.mktemp("published"), {}

    def written(name):
        if name not in found:
            found[name] = write_published(root / name, name)
        return str(found[name])

    return written


def finished(root, base, *words, method="inverse"):
    """Run a job of one clip; return its fill and render, and what was measured."""
    config = configure(root, "--fill.base", base, "--fill.method", method, *FAST, *words, count=1)
    outcomes = run_bare(config)
    wrong = [
        f"{one.stage}: {one.error}" for stage in outcomes.values() for one in stage if one.status != "ok"
    ]
    assert not wrong, wrong
    store = ArtifactStore(config.store)
    assert "recapture.mp4" in store.open("deliver", outcomes["deliver"][0].key).names()
    opened = (store.open(stage, outcomes[stage][0].key) for stage in ("fill", "render"))
    return (*opened, outcomes["measure"][0].metrics)


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in OFTEN else FULL) for one in PUBLISHED])
def test_a_published_model_recaptures_a_clip(name, twin, tmp_path):
    fill, render, measured = finished(tmp_path, twin(name))
    shown = render.frames().read(0, 5)
    result = read_filled(fill, render, np.arange(5))
    hole = ~shown["visible"]
    assert hole.any() and (result["rgb"] == shown["rgb"]).all(-1)[shown["visible"]].mean() > 0.95
    assert result["unpasted"][hole].std() > 0
    assert np.isfinite(measured["inverse/psnr_hole"])


@FULL
def test_a_reference_changes_what_vace_draws(twin, tmp_path):
    base, picture = twin("Wan2.1-VACE"), tmp_path / "reference.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (50, 31, 3), dtype=np.uint8))
    drawn = []
    for name, words in (("none", ()), ("source", ("source",)), ("file", (str(picture),))):
        given = [one for word in words for one in ("--fill.reference", word)]
        fill, render, _ = finished(tmp_path / name, base, *given, method="base")
        drawn.append(read_filled(fill, render, np.arange(5))["unpasted"].astype(int))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(drawn[one] - drawn[other]).max() > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fill.base", "TWIN", "--fill.method", "base"), r"fill\.base .* is none; name a VACE base"),
        (("--fill.method", "classical"), r"fill\.method classical is none"),
    ],
)
def test_a_reference_for_another_base_ends_the_job_before_any_work(words, says, twin, tmp_path):
    words = [twin("Wan2.1-I2V") if word == "TWIN" else word for word in words]
    with pytest.raises(UserError, match=says):
        run_bare(configure(tmp_path, *words, "--fill.reference", "source"))


def test_a_reference_that_is_no_picture_is_named(twin, tmp_path):
    (tmp_path / "a.png").write_text("<html>")
    words = ("--fill.base", twin("Wan2.1-VACE"), "--fill.method", "base")
    for path, says in ((tmp_path / "a.png", "is not a picture"), (tmp_path / "b.png", "b.png")):
        with pytest.raises(UserError, match=rf"fill\.reference .*{says}.*name a picture, or source"):
            run_bare(configure(tmp_path, *words, "--fill.reference", str(path)))


def test_a_reference_and_packed_frames_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match=r"fill\.reference cannot be shown beside .*set one of them"):
        configure(
            tmp_path, "--fill.method", "base", "--fill.reference", "source", "--fill.packing.frames", "2"
        )
