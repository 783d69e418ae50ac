"""Behind a mask nothing of what it hides is left: not for the camera, not for what other frames saw.

The clip is made so that this can be seen: its background has no red at all, and the thing to be removed,
which moves, is all red. So whatever red comes out somewhere came from under the mask.
"""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support import plans
from support.surface import SURFACE, render

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.store import ArtifactStore
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.propagate import propagate_static
from recapture.tasks.clip.frames_to_video import to_frames
from recapture.tasks.clip.scene_reader import SceneReader, path_of, read_frames
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import inpaint_stages, recapture_stages
from recapture.tasks.jobs.still_camera import with_still_camera

FRAMES, HEIGHT, WIDTH = 17, 48, 64
SCENE = f"scenes://?count=1&seed=3&frames=5&height={HEIGHT}&width={WIDTH}"
INPAINT = ("ingest", "depth", "cameras", "mask", "render")
CAMERAS = ("intrinsics", "world_to_camera")
PROMPT = ("--mask.prompt", "a blue box")
MOVES = "[{preset: orbit_right, angle_degrees: 12, mode: direct}, {preset: dolly_in, distance: 0.3}]"


def things():
    """bool [T,H,W]: where the red thing is; it comes back to no pixel within 4 frames."""
    thing = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=bool)
    for t in range(FRAMES):
        thing[t, 14:34, 3 * t : 3 * t + 10] = True
    return thing


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder dataset with the clip `thing`: a textured wall far off, and the red thing before it."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "thing").mkdir()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wall = np.stack([0 * rows, 60 + 2 * columns, 200 - 3 * rows], axis=-1).astype(np.uint8)
    depth = np.full((FRAMES, HEIGHT, WIDTH), 4.0, dtype=np.float32)
    for t, thing in enumerate(things()):
        frame = np.where(thing[..., None], np.array([255, 0, 0], dtype=np.uint8), wall)
        Image.fromarray(frame).save(folder / f"thing/{t:02}.png")
        depth[t][thing] = 2.5
    np.savez(folder / "thing.depth.npz", depth=depth)
    return folder


@pytest.fixture
def config(tmp_path, clips):
    """Return a function that configures a job on the clip; words are settings."""
    np.savez(tmp_path / "thing.npz", mask=things())

    def configure(*words, masked=True):
        mask = ("--mask.uri", str(tmp_path / "thing.npz"), "--mask.dilate", "0") if masked else ()
        return load_config(
            arguments=[
                *("--dataset.uri", str(clips), "--store", f"{tmp_path}/store", "--depth.source", "given"),
                *("--trajectories", MOVES, "--fill.method", "classical", *mask, *words),
            ]
        )

    return configure


def planned(config, stages=inpaint_stages):
    """The plan of a job; inpainting has the source's own cameras, whatever the trajectories are."""
    if stages is inpaint_stages:
        config = with_still_camera(config)
    return plans.planned(config, stages)


def made(config, stages, names):
    """Make the artifacts of the stages called `names` and return them by (stage, item)."""
    store, artifacts = ArtifactStore(config.store), {}
    job = planned(config, stages)
    for name in (name for name in job.stages if name in names):
        job.stage(name).setup()
        for item in job.items(name):
            outcome = work(job.stage(name), item, store, 1)
            assert outcome.status == "ok", outcome.error
            artifacts[name, item.name] = store.open(name, item.key)
    return artifacts


def keys(config, stages=inpaint_stages):
    job = planned(config, stages)
    return {name: job.items(name)[0].key for name in job.stages}


def frames_of(artifact):
    return artifact.frames().read(0, artifact.frames().frames)


def views(artifacts, masked=True):
    """Yield the rendered view and the source view of each rendered item."""
    for (stage, item), rendered in artifacts.items():
        if stage == "render":
            clip = item.partition("@")[0]
            source = {name: artifacts["mask" if masked else name, clip] for name in ("ingest", "depth")}
            reader = SceneReader(source | {"render": rendered}, torch.device("cpu"))
            yield reader.read(np.arange(reader.frames))


def reddest(video, where):
    """The largest red value, 0...255, among the pixels of [T,3,H,W] where [T,H,W] is True."""
    return int(to_frames(video)[..., 0][where.numpy()].max())


@pytest.mark.parametrize("margins", ["{}", "{left: 0.2, bottom: 0.3}"])  # they are grey, so partly red
@pytest.mark.parametrize("stages", [inpaint_stages, recapture_stages])
@pytest.mark.parametrize("more", [(), PROMPT])
def test_nothing_under_the_mask_ever_comes_back(config, stages, margins, more):
    artifacts = made(config("--mask.outpaint", margins, *more), stages, INPAINT)
    for view, source in views(artifacts):
        gathered = propagate_static(view, source, surface=SURFACE)
        assert reddest(view.video, view.visible) == 0
        assert reddest(gathered.video, gathered.visible) == 0
        filled = fill_classical(view, source, surface=SURFACE)
        assert reddest(filled, torch.ones_like(view.visible)) == 0


def test_without_the_mask_it_would_be_seen(config):
    artifacts = made(config(masked=False), recapture_stages, INPAINT)
    for view, _ in views(artifacts, masked=False):
        assert reddest(view.video, view.visible) == 255


def test_what_other_frames_saw_behind_a_removed_thing_is_taken(config, clips):
    ((view, source),) = views(made(config(), inpaint_stages, INPAINT))
    gathered = propagate_static(view, source, surface=SURFACE)
    revealed = (gathered.visible & ~view.visible).numpy()
    assert revealed.mean() > 0.8 * things().mean()
    wall = np.array(Image.open(clips / "thing/16.png"))[:, :10]  # the thing has left these columns
    shown = to_frames(gathered.video)[:3, :, :10].astype(int)
    assert np.abs(shown - wall)[revealed[:3, :, :10]].max() <= 2


def test_still_cameras_show_the_source_bit_for_bit_around_the_edit(config):
    artifacts = made(config(), inpaint_stages, INPAINT)
    source, render = frames_of(artifacts["ingest", "thing"]), frames_of(artifacts["render", "thing@inpaint"])
    assert (render["visible"] == ~things()).all()
    assert (render["rgb"][~things()] == source["rgb"][~things()]).all()
    assert (render["rgb"][things()] == 128).all()
    assert np.isinf(render["depth"][things()]).all()
    cameras = artifacts["render", "thing@inpaint"].read_npz("cameras.npz")
    assert (cameras["source_frame"] == np.arange(FRAMES)).all()
    ingested = artifacts["ingest", "thing"].read_npz("cameras.npz")
    for name, array in ((name, ingested[name]) for name in CAMERAS):
        assert (cameras[name] == array).all()


def test_the_mask_grows_by_so_many_pixels(config):
    artifacts = made(config("--mask.dilate", "3"), inpaint_stages, INPAINT)
    edit = frames_of(artifacts["mask", "thing"])["edit"]
    for t in (0, 5):
        rows, columns = np.nonzero(things()[t])
        grid = np.mgrid[:HEIGHT, :WIDTH]
        near = ((grid[0][..., None] - rows) ** 2 + (grid[1][..., None] - columns) ** 2).min(-1)
        assert edit[t][near <= 8].all() and not edit[t][near > 3**2 + 1].any()


@pytest.mark.parametrize("margins", ["{}", "{left: 0.2, bottom: 0.3}"])
def test_what_is_replaced_hides_what_is_behind_it_from_a_new_camera(config, margins):
    words = ("--mask.outpaint", margins)
    removed, replaced = (made(config(*words, *more), recapture_stages, INPAINT) for more in ((), PROMPT))
    for (stage, item), artifact in replaced.items():
        if stage != "render":
            continue
        found, before = frames_of(artifact), frames_of(removed[stage, item])
        mask = replaced["mask", "thing"]
        source = read_frames(mask, path_of(artifact)["source_frame"].numpy())
        cameras = [torch.from_numpy(mask.read_npz("cameras.npz")[name]) for name in CAMERAS]
        shown = path_of(artifact)["source_frame"]
        thing = render(  # the thing alone, among everything that may stand before it
            torch.from_numpy(source["lifted"])[:, None].float().expand(-1, 3, -1, -1),
            torch.from_numpy(source["depth"]),
            *(camera[shown] for camera in cameras),
            *(path_of(artifact)[name] for name in CAMERAS),
            known=torch.from_numpy(source["known"] | source["lifted"]),
        )
        seen = (thing.visible & (thing.video[:, 0] > 0)).numpy()
        assert seen.any() and not (found["visible"] & seen).any() and found["edit"][seen].all()
        assert not (found["edit"] & found["visible"]).any()
        assert (before["visible"] & seen).any()  # removed, it would let the wall behind it through
        assert (found["rgb"][~found["visible"]] == 128).all()
        assert np.isinf(found["depth"][~found["visible"]]).all()
        both = found["visible"] & before["visible"]
        assert both.mean() > 0.3 and (found["rgb"][both] == before["rgb"][both]).mean() > 0.99


def test_with_still_cameras_what_is_replaced_is_the_mask_without_the_margins(config):
    words = ("--mask.outpaint", "{left: 0.25}", "--mask.dilate", "2", *PROMPT)
    artifacts = made(config(*words), inpaint_stages, INPAINT)
    edit, mask = (
        frames_of(artifacts["render", "thing@inpaint"])["edit"],
        frames_of(artifacts["mask", "thing"]),
    )
    margin = round(0.25 * WIDTH)
    assert not edit[:, :, :margin].any() and mask["edit"][:, :HEIGHT, :margin].all()
    inside = np.s_[:, :HEIGHT, margin : margin + WIDTH]
    assert (edit[inside] == mask["edit"][inside]).all() and edit.sum() > things().sum()
    assert (mask["lifted"][inside] == things()).all()
    plain = made(config(*words[:4]), inpaint_stages, INPAINT)
    assert set(frames_of(plain["mask", "thing"])) == {"rgb", "edit", "depth", "known"}
    assert "edit" not in frames_of(plain["render", "thing@inpaint"])


def test_known_pixels_never_touch_the_edit(config):
    masked = frames_of(made(config(), inpaint_stages, INPAINT)["mask", "thing"])
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            shifted = np.roll(masked["edit"], (dy, dx), (1, 2))[:, 1:-1, 1:-1]
            assert not (masked["known"][:, 1:-1, 1:-1] & shifted).any()
    assert (masked["known"] | masked["edit"]).mean() > 0.85


def test_the_first_frame_is_kept_and_an_edited_one_takes_its_place(config, clips, tmp_path):
    edited = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(edited).save(tmp_path / "edited.png")
    source = np.array(Image.open(clips / "thing/00.png"))
    settings = {
        ("--mask.keep_first_frame", "true"): source,
        ("--mask.first_frame", str(tmp_path / "edited.png")): edited,
    }
    for words, expected in settings.items():
        render = frames_of(made(config(*words), inpaint_stages, INPAINT)["render", "thing@inpaint"])
        assert render["visible"][0].all() and (render["rgb"][0] == expected).all()
        assert (render["visible"][1:] == ~things()[1:]).all()


def test_outpainting_shifts_the_principal_point_so_that_the_truth_continues_the_source(tmp_path):
    config = load_config(
        arguments=[
            *("--dataset.uri", SCENE, "--store", str(tmp_path), "--depth.source", "given"),
            *("--mask.outpaint", "{left: 0.25, right: 0.125, top: 0.5}"),
        ]
    )
    artifacts = made(config, inpaint_stages, INPAINT)
    ingest, mask, render = (
        next(artifact for (stage, _), artifact in artifacts.items() if stage == name)
        for name in ("ingest", "mask", "render")
    )
    inside = np.s_[:, 24 : 24 + HEIGHT, 16 : 16 + WIDTH]
    assert mask.meta["content"] == [24 + HEIGHT, 16 + WIDTH + 8]
    assert mask.meta["size"] == [80, 96]
    visible = frames_of(render)["visible"]
    expected = np.zeros((5, 72, 88), dtype=bool)
    expected[inside] = True
    assert visible.shape == (5, 80, 96)
    assert (visible[:, :72, :88] == expected).all()
    source = frames_of(ingest)["rgb"]
    assert (frames_of(render)["rgb"][inside] == source).all()

    cameras = render.read_npz("cameras.npz")
    shift = cameras["intrinsics"] - ingest.read_npz("cameras.npz")["intrinsics"]
    assert (shift == np.array([[0, 0, 16], [0, 0, 24], [0, 0, 0]])).all()
    (clip,) = planned(config).clips
    truth = open_clip(clip).truth(
        cameras["intrinsics"], cameras["world_to_camera"], cameras["source_frame"], 72, 88
    )
    apart = np.abs(truth["video"][inside].astype(int) - source)  # rounding moves single edge pixels
    assert (apart > 1).mean() < 1e-3
    assert np.abs(np.roll(truth["video"], 1, 2)[inside].astype(int) - source).mean() > 100 * apart.mean()


def test_objects_of_the_clip_itself_are_redrawn(tmp_path):
    for chosen, wanted in (("[1]", lambda ids: ids == 1), ("all", lambda ids: ids > 0)):
        config = load_config(
            arguments=[
                *("--dataset.uri", SCENE, "--store", str(tmp_path), "--depth.source", "given"),
                *("--mask.objects", chosen, "--mask.dilate", "0"),
            ]
        )
        job = planned(config)
        objects = open_clip(job.clips[0]).objects()
        artifacts = made(config, inpaint_stages, INPAINT)
        (edit,) = (frames_of(found)["edit"] for (stage, _), found in artifacts.items() if stage == "mask")
        assert (edit == wanted(objects)).all() and edit.any()


def test_keys_follow_the_pixels_of_the_mask_and_the_words_of_the_prompt(config, tmp_path):
    blue, red = (keys(config("--mask.prompt", f"a {colour} sphere")) for colour in ("blue", "red"))
    assert blue == red  # the classical fill reads no prompt

    def config_of_base(*words):
        return config("--fill.method", "base", *words)

    plain = keys(config_of_base())
    prompted = keys(config_of_base("--mask.prompt", "a blue sphere"))
    assert {name for name in plain if plain[name] == prompted[name]} == {"ingest", "depth", "cameras"}
    other = keys(config_of_base("--mask.prompt", "a red sphere"))
    assert {name for name in plain if other[name] != prompted[name]} == {"fill", "measure", "deliver"}
    removed = keys(config_of_base("--mask.prompt", "a blue sphere", "--mask.replace", "false"))
    assert {name for name in plain if plain[name] != removed[name]} == {"fill", "measure", "deliver"}
    assert keys(config_of_base("--mask.replace", "false")) == plain
    np.savez(tmp_path / "elsewhere.npz", mask=things())
    assert keys(config_of_base("--mask.uri", str(tmp_path / "elsewhere.npz"))) == plain
    np.savez(tmp_path / "elsewhere.npz", mask=~things())
    other = keys(config_of_base("--mask.uri", str(tmp_path / "elsewhere.npz")))
    assert {name for name in plain if plain[name] == other[name]} == {"ingest", "depth", "cameras"}


def test_prompts_are_by_clip_before_the_one_for_all(config, tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text(yaml.safe_dump({"thing": "a green cone"}))

    def caption(*words):
        words = config(*words)
        return planned(words).clips[0].caption

    assert caption() == ""
    assert caption("--mask.prompt", "a blue sphere") == "a blue sphere"
    assert caption("--mask.prompt", "a blue sphere", "--mask.prompts", str(file)) == "a green cone"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("thin: a green cone", "the dataset has no clip 'thin'; did you mean 'thing'?"),
        ("[a green cone]", "must map clip ids to prompts"),
        ("thing: [1", "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_used_are_one_message(config, tmp_path, content, message):
    (tmp_path / "prompts.yaml").write_text(content)
    words = config("--mask.prompts", str(tmp_path / "prompts.yaml"))
    with pytest.raises(UserError, match=rf"(?s)mask.prompts .*{message}"):
        planned(words)


def _no_objects(tmp_path):
    return "--mask.uri", "null", "--mask.objects", "[1]"


def _no_picture(tmp_path):
    (tmp_path / "edited.png").write_text("no picture")
    return "--mask.first_frame", str(tmp_path / "edited.png")


def _narrow_picture(tmp_path):
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / "edited.png")
    return "--mask.first_frame", str(tmp_path / "edited.png")


def _picture_of_another_clip(tmp_path):
    (tmp_path / "edited").mkdir()
    return "--mask.first_frame", str(tmp_path / "edited")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (_no_objects, "it has no object maps; set mask.uri"),
        (_no_picture, "mask.first_frame: .* is not a picture"),
        (_narrow_picture, "mask.first_frame .* is 48x48, a different aspect from the clip's 64x48"),
    ],
)
def test_what_the_mask_stage_cannot_use_names_the_clip(config, tmp_path, words, message):
    settings = config(*words(tmp_path))
    made(settings, inpaint_stages, ("ingest", "depth", "cameras"))
    job = planned(settings)
    outcome = work(job.stage("mask"), job.items("mask")[0], ArtifactStore(settings.store), 1)
    assert outcome.status == "error"
    assert outcome.error.startswith("clip 'thing': ")
    assert re.search(message, outcome.error), outcome.error


def test_a_first_frame_that_no_clip_has_is_refused_before_the_job_begins(config, tmp_path):
    settings = config(*_picture_of_another_clip(tmp_path))
    with pytest.raises(UserError, match=r"clip 'thing': mask.first_frame .* has nothing called 'thing'"):
        planned(settings)


def test_only_the_frames_that_are_read_are_masked(config):
    words = ("--ingest.start_seconds", str(float(Fraction(4, 24))), "--ingest.max_seconds", "0.25")
    masked = frames_of(made(config(*words), inpaint_stages, INPAINT)["mask", "thing"])
    assert (masked["edit"] == things()[4:10]).all()
