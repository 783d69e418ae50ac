"""Hard clips in one job: each comes out right or fails with one sentence of its own, and the others go on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.bare_job import configure, run_bare
from support.photo_scene import Motion, intrinsics, shoot

from recapture.datasets.store.store import ArtifactStore

FRAMES, HEIGHT, WIDTH = 6, 48, 64
ABOUT = "{name: about, preset: orbit_right, amount: auto, subject: {box: [0, 0, 1, 1]}}"
WHOLE = {"box": [0, 0, WIDTH, HEIGHT]}  # a body that fills the picture


def filmed(name, zoom=1.0, **motion):
    lens = intrinsics(HEIGHT, WIDTH, FRAMES).clone()
    lens[:, [0, 1], [0, 1]] *= torch.from_numpy(zoom ** np.linspace(0, 1, FRAMES))[:, None]
    video, depth = shoot(lens, Motion(name, **motion).cameras(FRAMES), HEIGHT, WIDTH)
    return ((video.movedim(1, -1).numpy() + 1) * 127.5).round().astype(np.uint8), depth.numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Outcomes of a job over such clips, clip -> stage -> outcome, and its store."""
    root = tmp_path_factory.mktemp("hard")
    folder = root / "clips"
    folder.mkdir()
    pan, rest = filmed("pan", pan=1.0), filmed("rest")
    still = np.repeat(rest[0][:1], FRAMES, axis=0), rest[1]
    clips = {"pan": pan, "full": pan, "zoom": filmed("zoom", zoom=8.0), "rest": still}
    clips["one"] = pan[0][:1], pan[1][:1]
    for name, (pictures, depth) in clips.items():
        (folder / name).mkdir()
        for t, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{name}/{t:02}.png")
        np.savez(folder / f"{name}.depth.npz", depth=depth)
    (root / "prompts.json").write_text(json.dumps({"full": WHOLE}))
    words = ("--dataset.uri", str(folder), "--mask.select.prompts", str(root / "prompts.json"))
    config = configure(root, *words, "--trajectories", f"[{ABOUT}]")
    found = {name: {} for name in clips}
    for stage, outcomes in run_bare(config).items():
        for one in outcomes:
            found[one.clip_id][stage] = one
    return found, ArtifactStore(config.store)


def cameras(made, clip):
    found, store = made
    artifact = store.open("cameras", found[clip]["cameras"].key)
    return artifact.meta, artifact.read_npz("cameras.npz")


@pytest.mark.parametrize("clip", ["pan", "zoom", "rest", "one"])
def test_a_clip_that_can_be_filmed_again_is_delivered(made, clip):
    assert all(one.usable for one in made[0][clip].values())  # some are reused: `full` has the same pictures
    frames = 1 if clip == "one" else FRAMES
    assert made[0][clip]["deliver"].metrics["frames"] == frames


def test_a_body_that_fills_the_picture_is_one_sentence_and_ends_that_clip_alone(made):
    failed = [one for one in made[0]["full"].values() if not one.usable]
    assert [one.stage for one in failed if one.status != "blocked"] == ["select"]
    (error,) = (one.error for one in failed if one.stage == "select")
    assert "clip 'full'" in error and "mask.select" in error and "point at" in error
    assert "deliver" not in made[0]["full"] or not made[0]["full"]["deliver"].usable


def test_an_extreme_zoom_is_no_travel(made):
    meta, arrays = cameras(made, "zoom")
    assert not arrays["world_to_camera"][:, :3, 3].any()
    # 1.5 times per frame: either it is followed, or nothing is carried from frame to frame
    if meta["cameras_known"]:
        focal = arrays["intrinsics"][:, 0, 0]
        assert meta["motion"] == ["zooms"]
        assert focal[-1] / focal[0] == pytest.approx(8, rel=0.3)
    else:
        assert len(set(arrays["pose_group"])) == FRAMES


@pytest.mark.parametrize("clip", ["rest", "one"])
def test_what_does_not_move_stands_exactly_still(made, clip):
    meta, arrays = cameras(made, clip)
    assert meta["motion"] == ["still"]
    assert (arrays["world_to_camera"] == np.eye(4)).all()
