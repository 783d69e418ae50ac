"""The fill stage beside others, read ahead, written behind, in turns and in parts: always the same bytes."""

from functools import partial
from itertools import takewhile

import numpy as np
import pytest
import torch
from support.bare_job import configure
from support.plans import planned

from recapture.datasets.store.parts import Parts
from recapture.datasets.store.store import ArtifactStore
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.edited import fill_edited
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.windows import WindowJoin, windows
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.clip.read_ahead import read_ahead
from recapture.tasks.clip.scene_reader import SceneReader
from recapture.tasks.clip.static_scene import StaticScene
from recapture.tasks.engine.part import work_on_part
from recapture.tasks.engine.stage import Resources
from recapture.tasks.engine.worker import Worker, open_inputs, work
from recapture.tasks.jobs import fill as fill_module
from recapture.tasks.jobs import fill_windows
from recapture.tasks.jobs.earlier_fills import EarlierFills
from recapture.tasks.jobs.fill import FillStage
from recapture.tasks.jobs.render import surface_settings

CPU = torch.device("cpu")
SCENE = "scenes://?count=2&seed=3&frames=13&height=48&width=64"
ONE_CLIP = ("--dataset.uri", SCENE.replace("count=2", "count=1"))
WORDS = (
    *("--dataset.uri", SCENE, "--fill.method", "base", "--fill.steps", "1", "--fill.window", "5"),
    *(
        "--fill.overlap",
        "2",
    ),
)
PATHS = "[{preset: orbit_left, angle_degrees: 20}, {preset: orbit_right, angle_degrees: 10}]"
KINDS = {
    "plain": (),
    "packed": ("--trajectories", PATHS, "--fill.packing", "{frames: 2, spacing: 3}"),
    "edited": ("--mask.objects", "[1]", "--mask.prompt", "a blue sphere"),
    "classical": ("--fill.method", "classical"),
}


class Case:
    """A job up to its fills: the parents are made, the fill stage is set up."""

    def __init__(self, root, *words):
        self.config = configure(root, *WORDS, *words)
        self.plan, self.store = planned(self.config), ArtifactStore(self.config.store)
        self.todo = self.plan.items("fill")
        for name in takewhile(lambda name: name != "fill", self.plan.stages):
            stage = self.plan.stage(name)
            stage.setup()
            made = [work(stage, item, self.store, 1) for item in self.plan.items(name)]
            assert {outcome.status for outcome in made} == {"ok"}, made[0].traceback
        self.stage = self.plan.stage("fill")
        self.stage.setup()

    def made(self, item):
        """Fill an item and return its files."""
        outcome = work(self.stage, item, self.store, 1)
        assert outcome.status == "ok", outcome.traceback
        return self.files(item)

    def files(self, item):
        artifact = self.store.open("fill", item.key)
        return {name: artifact.read_bytes(name) for name in artifact.names()} | {"meta": artifact.meta}

    def frames(self, item):
        fill, render = (
            self.store.open(*of) for of in (("fill", item.key), ("render", item.inputs["render"]))
        )
        return read_filled(fill, render, np.arange(fill.meta["frames"]))


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    return Case(tmp_path_factory.mktemp(request.param), *KINDS[request.param], *ONE_CLIP)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("plain"))


def one_after_the_other(case, item):
    """Fill an item the obvious way: read a window, fill it, join it, and so on."""
    stage, config = case.stage, case.config.fill
    inputs, filler = open_inputs(stage, item, case.store), stage._filler
    scene, earlier = SceneReader(inputs, CPU), EarlierFills(inputs, CPU)
    static = StaticScene(scene, surface_settings(stage.render))
    spans = windows(scene.frames, config.window, config.overlap)
    joins, found, caption = {}, {}, item.params.clip.caption
    for span in spans:
        frames = np.array(span.indices())
        view, source = scene.read(frames)
        source = static.beside(source)
        if config.method == "classical":
            videos = {"rgb": filler.fill(view, source, caption=caption, seed=stage.seed)}
        else:
            given = {
                "caption": caption,
                "seed": stage.seed,
                "packed": earlier.views(earlier.load(span)),
            }
            whole = propagate_static(view, source, surface=surface_settings(stage.render))
            given["kept"] = kept_pixels(view, whole, source)
            view, edit = whole, scene.edit(scene.load(frames))
            if edit is None:
                filled = filler.fill_both(view, **given)
            else:
                filled = fill_edited(filler, view, edit, **given)
            videos = {"rgb": filled.video, "unpasted": filled.unpasted}
        for name, video in videos.items():
            join = joins.setdefault(name, WindowJoin(spans, config.overlap))
            found.setdefault(name, []).append(to_frames(join.add(video)))
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


def test_reading_ahead_and_writing_behind_change_no_byte(case):
    for item in case.todo:  # an item that is packed comes after those that it follows
        case.made(item)
        expected, frames = one_after_the_other(case, item), case.frames(item)
        assert frames.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(frames[name], expected[name])
    if "fill/0" in case.todo[-1].inputs:
        assert sum(map(len, case.store.open("fill", case.todo[-1].key).meta["packed"])) > 0


def _at_once(made, make, device, pixels):
    made.append((make(), pixels))
    return made[-1][0]


def test_what_is_given_may_be_made_beside_a_turn(case, monkeypatch):
    for item in case.todo:
        case.made(item)
        expected = case.frames(item)
        made = []
        with monkeypatch.context() as patched:
            patched.setattr(fill_windows, "beside", partial(_at_once, made))
            case.store.delete("fill", item.key)
            case.made(item)
        video = expected["rgb"]
        assert len(made) == len(windows(len(video), case.config.fill.window, case.config.fill.overlap))
        assert sum(len(given.view.video) for given, _ in made) >= len(video)
        assert all(pixels == given.view.visible.numel() for given, pixels in made)
        for name, frames in case.frames(item).items():
            np.testing.assert_array_equal(frames, expected[name])


def test_a_fill_from_its_parts_has_the_bytes_of_one_in_one_go(case):
    stage, item = case.stage, case.todo[-1]
    for before in case.todo[:-1]:
        case.made(before)
    whole = case.made(item)
    case.store.delete("fill", item.key)
    inputs = open_inputs(stage, item, case.store)
    names = stage.parts(item, inputs)
    assert (len(names) > 2) == (case.config.fill.method != "classical")
    parts = Parts(case.store, "fill", item.key)
    for name in reversed(names):  # in any order
        with parts.create(name) as output:
            stage.run_part(item, inputs, name, output)
    assert parts.missing(names) == []
    assert case.made(item) == whole
    assert parts.missing(names) == list(names)  # they are gone with the commit of the whole
    assert case.store.keys("fill-parts") == set()


def test_a_clip_of_one_window_has_no_parts(tmp_path):
    case = Case(tmp_path, "--fill.window", "13", *ONE_CLIP)
    (item,) = case.todo
    assert list(case.stage.parts(item, open_inputs(case.stage, item, case.store))) == []


def test_a_long_clip_that_was_stopped_goes_on_at_its_last_finished_window(plain, monkeypatch):
    item, filled = plain.todo[0], []
    fill = FillStage._fill

    def counted(self, windows, window, caption):
        if len(filled) == stop_at:
            raise RuntimeError("stopped")
        filled.append(window.span.start)
        return fill(self, windows, window, caption)

    monkeypatch.setattr(FillStage, "_fill", counted)
    stop_at = None
    whole = plain.made(item)
    assert (starts := list(filled)) == [0, 2, 5, 8]
    plain.store.delete("fill", item.key)
    filled.clear()
    stop_at = 2
    assert work(plain.stage, item, plain.store, 1).error == "stopped"
    stop_at = None
    assert plain.made(item) == whole
    # The window that was being stored may or may not have been lost with the process.
    assert filled in (starts[:2] + starts[2:], starts[:2] + starts[1:])


def test_helpers_make_the_windows_from_the_last_one_on_and_the_clip_takes_them(plain, monkeypatch):
    stage, item = plain.stage, plain.todo[0]
    whole = plain.made(item)
    plain.store.delete("fill", item.key)
    parts = Parts(plain.store, "fill", item.key)
    names = stage.parts(item, open_inputs(stage, item, plain.store))

    def help_with(skip):
        inputs = lambda: open_inputs(stage, item, plain.store)  # noqa: E731
        return work_on_part(stage, item, inputs, plain.store, skip)

    assert help_with(0).status == "ok"
    assert parts.missing(names) == names[:3]
    assert help_with(1).status == "ok"
    assert parts.missing(names) == names[:2]
    assert help_with(1).status == "ok"  # it is made already, and others may be left
    assert help_with(2).status == "ok"
    assert help_with(3) is None  # the first is never for another
    assert parts.missing(names) == names[:1]
    filled, fill = [], FillStage._fill

    def counted(self, windows, window, caption):
        filled.append(window.span.start)
        return fill(self, windows, window, caption)

    monkeypatch.setattr(FillStage, "_fill", counted)
    assert plain.made(item) == whole
    assert filled == [0]


def test_a_window_that_a_helper_has_made_meanwhile_is_not_made_again(plain, monkeypatch):
    stage, item = plain.stage, plain.todo[0]
    whole = plain.made(item)
    plain.store.delete("fill", item.key)
    filled, fill = [], FillStage._fill

    def helped(self, windows, window, caption):
        if not filled:  # the next window is read already
            filled.append(window.span.start)
            inputs = open_inputs(stage, item, plain.store)
            for name in stage.parts(item, inputs)[1:]:
                with Parts(plain.store, "fill", item.key).create(name) as output:
                    stage.run_part(item, inputs, name, output)
            filled.clear()
        filled.append(window.span.start)
        return fill(self, windows, window, caption)

    monkeypatch.setattr(FillStage, "_fill", helped)
    assert plain.made(item) == whole
    assert filled[-1] == 0  # after its first window it found the others made
    assert plain.store.keys("fill-parts") == set()


def test_a_part_that_comes_after_the_whole_is_not_left_behind(plain):
    stage, item = plain.stage, plain.todo[0]
    plain.made(item)
    inputs = open_inputs(stage, item, plain.store)
    assert work_on_part(stage, item, lambda: inputs, plain.store, 0).status == "ok"
    assert plain.store.keys("fill-parts") == set()


def test_a_helper_that_fails_says_so_and_leaves_nothing(plain, monkeypatch):
    def failing(self, windows, window, caption):
        raise MemoryError("too little")

    monkeypatch.setattr(FillStage, "_fill", failing)
    item = plain.todo[0]
    plain.store.delete("fill", item.key)
    inputs = open_inputs(plain.stage, item, plain.store)
    outcome = work_on_part(plain.stage, item, lambda: inputs, plain.store, 0)
    assert (outcome.status, outcome.error_type) == ("error", "OutOfMemoryError")
    assert plain.store.keys("fill-parts") == set()


def test_a_damaged_part_is_made_again(plain):
    stage, item = plain.stage, plain.todo[0]
    whole = plain.made(item)
    plain.store.delete("fill", item.key)
    inputs = open_inputs(stage, item, plain.store)
    parts = Parts(plain.store, "fill", item.key)
    for name in stage.parts(item, inputs)[:2]:
        with parts.create(name) as output:
            stage.run_part(item, inputs, name, output)
    path = parts.finished("window-0").uri("shared.npz").removeprefix("file://")
    with open(path, "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x00")
    assert plain.made(item) == whole


def test_only_the_model_and_not_reading_or_writing_has_the_turn(plain, monkeypatch):
    """What is inside the turn is told by whether another call could have it."""
    from recapture.conf import turn as turns

    seen = {"fill": set(), "first": set(), "write": set()}

    def noting(name, work):
        def noted(*arguments, **more):
            seen[name].add(turns._device._owner is not None)
            return work(*arguments, **more)

        return noted

    monkeypatch.setattr(FillStage, "_fill", noting("fill", FillStage._fill))
    reads = []
    read = fill_module.ClipWindows.read

    def noted_read(self, number):
        reads.append(number)
        if number == 0:
            seen["first"].add(turns._device._owner is not None)
        return read(self, number)

    monkeypatch.setattr(fill_module.ClipWindows, "read", noted_read)
    item = plain.todo[0]
    plain.store.delete("fill", item.key)
    plain.made(item)
    assert (seen["fill"], seen["first"], reads) == ({True}, {False}, [0, 1, 2, 3])


def test_reading_ahead_keeps_order_and_gives_errors_where_they_belong():
    def read(number):
        if number == 3:
            raise OSError("three")
        return number

    assert list(read_ahead(read, range(3))) == [0, 1, 2]
    found = []
    with pytest.raises(OSError, match="three"):
        for number in read_ahead(read, range(5)):
            found.append(number)  # noqa: PERF402
    assert found == [0, 1, 2]
    assert list(read_ahead(read, [])) == []


@pytest.mark.integration
def test_two_items_on_one_worker_have_the_bytes_of_each_alone(ray_cluster, plain):
    from recapture.tasks.engine.ray_watch import GROUP, WORK

    expected = [plain.made(item) for item in plain.todo]
    for item in plain.todo:
        plain.store.delete("fill", item.key)
    actor = ray_cluster.remote(num_cpus=0, concurrency_groups={GROUP: 1, WORK: 2})(Worker)
    actor = actor.remote(plain.store.root, Resources(cpus=1))
    stage = plain.plan.stage("fill")
    fresh = FillStage(stage.config, stage.seed, stage.render, resources=Resources(gpus=1), reads=stage.reads)
    assert ray_cluster.get(actor.load.options(concurrency_group=WORK).remote(fresh)) == ""
    run = actor.run.options(concurrency_group=WORK)
    outcomes = ray_cluster.get([run.remote("fill", item, 1) for item in plain.todo])
    ray_cluster.kill(actor)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"], outcomes[0].traceback
    assert [plain.files(item) for item in plain.todo] == expected
    assert all(0 < outcome.gpu_seconds < outcome.seconds for outcome in outcomes)


def test_a_stage_with_a_gpu_takes_two_items_per_worker():
    stage = FillStage(configure("/nowhere").fill)
    assert stage.slots == 1
    stage.resources = Resources(gpus=1)
    assert stage.slots == 2
