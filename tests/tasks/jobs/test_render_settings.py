"""`render.*` holds for everything that is rendered in a job or a tuning, not for its first stage alone."""

from dataclasses import replace

import pytest
from support.bare_job import configure, counts, run_bare
from support.plans import planned

from recapture.conf.schema import RenderConfig
from recapture.models.geometry import rasterize
from recapture.tasks.jobs.job import inpaint_stages
from recapture.tasks.jobs.render import keyed_surface, surface_settings
from recapture.tasks.jobs.still_camera import with_still_camera

GIVEN = ("--render.break_ratio", "0.1", "--render.shell", "1", "--render.max_stretch", "3")
TWO = "[{preset: orbit_left, angle_degrees: 30}, {preset: orbit_right, angle_degrees: 10}]"


@pytest.fixture
def rendered_with(monkeypatch):
    """The distinct settings that anything was rendered with."""
    seen, nearest = [], rasterize._nearest

    def note(*given):
        settings = next(one for one in given if isinstance(one, rasterize.SurfaceSettings))
        if settings not in seen:
            seen.append(settings)
        return nearest(*given)

    monkeypatch.setattr(rasterize, "_nearest", note)
    return seen


@pytest.mark.parametrize("method", ["classical", "base"])
def test_every_stage_of_a_job_renders_with_the_given_settings(tmp_path, rendered_with, method):
    """Propagation, what the classical fill invents, packed frames, and the sync of the measurement."""
    packing = () if method == "classical" else ("--fill.packing.frames", "1")
    words = ("--fill.method", method, "--fill.steps", "1", "--trajectories", TWO, *packing, *GIVEN)
    config = configure(tmp_path, *words, count=1)
    run_bare(config)
    again = run_bare(config)  # now the fill that is shown frames of the other one can be made
    assert sum(counts(again)["deliver"].values()) == 2 and set(counts(again)["deliver"]) <= {"ok", "reused"}
    given = rasterize.SurfaceSettings(0.1, 1.0, 3.0)
    backs = replace(given, shell=0.0)  # what the backs of bodies hide, without a rim of their own
    assert rendered_with[0] == given and set(rendered_with) == {given, backs}


def test_fills_of_other_settings_have_other_bytes_and_keys(tmp_path):
    plain, given = (configure(tmp_path, "--trajectories", TWO, *words) for words in ((), GIVEN))
    (plain_keys, given_keys) = (
        {item.key for item in planned(config).items("fill")} for config in (plain, given)
    )
    assert not plain_keys & given_keys


def test_an_inpainted_clip_has_a_key_of_its_own_only_for_settings_that_are_not_the_defaults(tmp_path):
    def keys(*words):
        config = with_still_camera(configure(tmp_path, "--mask.outpaint.left", "0.25", *words))
        job = planned(config, inpaint_stages)
        return {item.key for name in ("fill", "measure") for item in job.items(name)}

    assert keys() == keys("--render.shell", "0.3", "--render.chunk", "3")
    assert not keys() & keys("--render.shell", "0.4")


def test_only_what_is_not_the_default_enters_a_key():
    assert keyed_surface(RenderConfig()) == keyed_surface(RenderConfig(chunk=3)) == {}
    assert keyed_surface(RenderConfig(max_stretch=None)) == {"render": {"max_stretch": None}}


def test_the_librarys_settings_are_those_of_the_configuration():
    assert replace(surface_settings(RenderConfig()), shell=2.0) == surface_settings(RenderConfig(shell=2.0))
