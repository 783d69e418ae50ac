"""The Python interface to jobs and to clips in memory: as public as the command line."""

import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support.bare_job import SCENES
from support.finished_job import finished_job
from support.tiny_base import write_tiny_base

import recapture
from recapture.conf.errors import UserError

ITEM = "@orbit_right_10"
SAMPLING = {"method": "base", "steps": 2, "window": 5, "overlap": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(write_tiny_base(tmp_path_factory.mktemp("base") / "base"))


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny):
    """A finished job whose clip of 7 frames is filled in two windows."""
    words = [word for name, value in SAMPLING.items() for word in (f"--fill.{name}", str(value))]
    uri = SCENES.format(count=1).replace("frames=5", "frames=7")
    return finished_job(
        tmp_path_factory.mktemp("job"), "--dataset.uri", uri, "--fill.base", tiny, *words, name="memory"
    )


@pytest.fixture(scope="module")
def clip(job):
    """Its name, and the arrays of the clip."""
    name = recapture.manifest("memory", "ingest", store=job.store)["item"][0]
    ingest = recapture.arrays("memory", "ingest", name, store=job.store)
    depth = recapture.arrays("memory", "depth", name, store=job.store)
    return name, ingest, np.where(depth["known"], depth["depth"], np.nan)


def filmed(clip, **changed):
    _, ingest, depth = clip
    given = {"trajectory": {"preset": "orbit_right", "angle_degrees": 10}} | changed
    cameras = {part: ingest[part] for part in ("intrinsics", "world_to_camera")}
    return recapture.render(ingest["rgb"], depth, **{**cameras, **given})


def test_render_and_fill_give_the_arrays_of_a_job(job, clip, tiny):
    view = filmed(clip)
    rendered = recapture.arrays("memory", "render", clip[0] + ITEM, store=job.store)
    for name in ("rgb", "visible", "depth", "stretch", "intrinsics", "world_to_camera", "source_frame"):
        np.testing.assert_array_equal(getattr(view, name), rendered[name], err_msg=name)
    np.testing.assert_allclose(view.hole_share, 1 - rendered["visible"].mean((1, 2)))
    made = recapture.arrays("memory", "fill", clip[0] + ITEM, store=job.store)
    base = recapture.load_base(tiny)
    from recapture.datasets.readers.scan import scan

    caption = scan(job.dataset.uri)[0][0].caption
    filled = recapture.fill(view, base, caption=caption, settings=SAMPLING)
    np.testing.assert_array_equal(filled, made["rgb"])
    alone = recapture.fill(view, caption=caption, settings={**SAMPLING, "base": tiny})
    np.testing.assert_array_equal(alone, filled)
    assert (recapture.fill(view, base, caption=caption, seed=1, settings=SAMPLING) != filled).any()


def test_a_classical_fill_needs_no_base_and_keeps_what_is_visible(clip):
    view = filmed(clip, trajectory="orbit_left")
    filled = recapture.fill(view, settings={"method": "classical", "window": 5, "overlap": 2})
    np.testing.assert_array_equal(filled[view.visible], view.rgb[view.visible])
    assert view.hole_share.max() > 0.01


def test_without_cameras_the_lens_is_the_configured_one_and_the_camera_is_told_by_the_picture(clip):
    view = filmed(clip, intrinsics=None, world_to_camera=None)
    width = view.rgb.shape[2]
    assert view.intrinsics[0, 0, 0] == pytest.approx(0.5 * width / np.tan(np.radians(30)), rel=1e-6)
    np.testing.assert_array_equal(view.world_to_camera[0], np.eye(4))
    still = np.repeat(clip[1]["rgb"][:1], 7, axis=0)
    assert recapture.render(still, clip[2], "static").source.pose_group.unique().tolist() == [0]


def test_arrays_of_some_frames_are_those_of_all(job, clip):
    whole = recapture.arrays("memory", "fill", clip[0] + ITEM, store=job.store)
    part = recapture.arrays("memory", "fill", clip[0] + ITEM, frames=range(1, 6, 2), store=job.store)
    for name, array in part.items():
        np.testing.assert_array_equal(array, whole[name][1:6:2])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trajectory": "orbit_rigt"}, "did you mean 'orbit_right'"),
        ({"trajectory": {"preset": "orbit_right", "amount": "auto"}}, "amount auto is found by the stages"),
        ({"trajectory": {"preset": "orbit_right", "subject": {}}}, "subject is found by the stages"),
        ({"intrinsics": np.zeros((3, 3))}, "focal length .* is not positive"),
        ({"world_to_camera": np.eye(4)[None]}, r"world_to_camera is \[1, 4, 4\], expected \[7, 4, 4\]"),
        ({"settings": {"break_ration": 1}}, "did you mean break_ratio"),
        ({"trajectory": {"stabilise_seconds": 1}, "world_to_camera": None}, "no motion to stabilise"),
    ],
)
def test_what_cannot_be_rendered_is_one_error_with_the_way_out(clip, changed, message):
    with pytest.raises(UserError, match=message):
        filmed(clip, **changed)


def test_arrays_that_are_no_clip_are_refused(clip):
    _, ingest, depth = clip
    with pytest.raises(UserError, match=r"video is float32 .*; give frames as uint8 \[T,H,W,3\]"):
        recapture.render(ingest["rgb"].astype(np.float32), depth, "static")
    with pytest.raises(UserError, match=r"depth is \[6, 32, 48\] .*; give depth as \[T,H,W\]"):
        recapture.render(ingest["rgb"], depth[:6], "static")
    with pytest.raises(UserError, match="unknown in all of frame 0"):
        recapture.render(ingest["rgb"], np.full_like(depth, np.nan), "static")


def test_settings_that_would_be_ignored_are_refused(clip, tiny):
    view, base = filmed(clip), recapture.load_base(tiny)
    for settings, message in (
        ({"precision": "bfloat16"}, "precision concerns the base, which is given"),
        ({"speed": {"fused_layers": True}}, "speed concerns the base"),
        ({"method": "classical"}, "classical uses no base"),
        ({"packing": {"frames": 1}}, "packing needs the other trajectories"),
        ({"stepz": 3}, "did you mean steps"),
    ):
        with pytest.raises(UserError, match=message):
            recapture.fill(view, base, settings=settings)
    with pytest.raises(UserError, match="steps is no setting of a base"):
        recapture.load_base(tiny, settings={"steps": 3})
    with pytest.raises(ValueError, match="no_such"):
        recapture.load_base("no_such")


def test_arrays_that_do_not_exist_are_one_error_that_lists_those_that_do(job, clip):
    with pytest.raises(UserError, match=f"choose one of {clip[0]}$"):
        recapture.arrays("memory", "ingest", "nobody", store=job.store)
    with pytest.raises(UserError, match="it has frames 0 to 6"):
        recapture.arrays("memory", "ingest", clip[0], frames=range(5, 8), store=job.store)


def test_the_plan_says_what_is_new_and_after_the_job_that_all_is_reused(tmp_path, job):
    done = recapture.plan(job)
    assert list(done["stage"]) == ["ingest", "depth", "render", "fill", "measure", "deliver"]
    assert (done["new"] == 0).all() and (done["reused"] == 1).all()
    fresh = recapture.plan(job.model_copy(update={"store": str(tmp_path / "empty")}))
    assert (fresh["new"] == 1).all() and fresh["seconds"].isna().all()
    with pytest.raises(UserError, match="no job is called 'tune'"):
        recapture.plan(job, job="tune")


def test_settings_are_merged_as_on_the_command_line_and_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("RECAPTURE_FILL__STEPS", "3")
    config = recapture.configure(
        {"dataset.name": "a", "fill": {"method": "base"}, "fill.window": 17}, profile="demo"
    )
    assert (config.dataset.name, config.fill.method, config.fill.window, config.fill.steps) == (
        "a",
        "base",
        17,
        3,
    )
    with pytest.raises(UserError, match=r"fill.windw: no such setting; did you mean fill.window"):
        recapture.configure({"fill.windw": 9})
    with pytest.raises(UserError, match=r"give what recapture\.configure returns"):
        recapture.run("demo")
    with pytest.raises(UserError, match="no job is called 'walk'"):
        recapture.run({}, job="walk")


def test_the_package_imports_no_heavy_library_and_every_public_name_is_documented():
    code = (
        "import sys, json, recapture; heavy = {'torch', 'ray', 'prefect', 'pandas', 'numpy', 'mlflow'};"
        "print(json.dumps(sorted(heavy & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    public = [name for name in recapture.__all__ if not name.startswith("_")]
    for name in public:
        one = getattr(recapture, name)
        assert inspect.getdoc(one), name
        if inspect.isfunction(one):
            assert "Raises" in one.__doc__ or "errors: as for" in one.__doc__, name
            signature = inspect.signature(one)
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert all(given.annotation is not given.empty for given in signature.parameters.values()), name


@pytest.mark.full
@pytest.mark.integration
def test_a_job_runs_from_python_even_inside_an_event_loop_as_in_a_notebook(tmp_path):
    code = (
        "import asyncio, recapture\n"
        f"uri = {SCENES.format(count=1)!r}\n"
        "settings = {'dataset': {'name': 'small', 'uri': uri}, 'depth.source': 'given',\n"
        "    'fill.method': 'classical', 'execution.executor': 'inline', 'tracking.enabled': False,\n"
        "    'trajectories': [{'preset': 'orbit_right', 'angle_degrees': 10}], 'measure.baselines': False}\n"
        "async def cell():\n"
        "    summary = recapture.run(settings)\n"
        "    print(summary.delivered, summary.wanted, summary.acceptable)\n"
        "asyncio.run(cell())\n"
        "print(list(recapture.results('small')['trajectory']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["1 1 True", "['orbit_right_10']"]
