"""A file that is replaced between the plan and its turn never gets the key of the file that was planned."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from support.bare_job import configure, run_bare

from recapture.datasets.media.video import write_video
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs.job import ClipJob, recapture_stages


def grey(path, value, frames=5):
    write_video(str(path), [np.full((32, 32, 3), value, np.uint8)] * frames, fps=Fraction(12), crf=0)


def depth(path, value):
    np.savez(path, depth=np.full((5, 32, 32), value, np.float32))


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    grey(folder / "a.mp4", 40)
    depth(folder / "a.depth.npz", 3.0)
    return folder


def run_until(config, stage, meanwhile):
    """Run a job to this stage, and do something right before it; return its outcome."""
    job = ClipJob.of(config, recapture_stages(config))
    store = ArtifactStore(config.store)
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        context = RunContext(store, executor, "small", "run")
        for plan in job.plans():
            if plan.stage.name == stage:
                meanwhile()
            plan.outcomes += run_stage(plan.stage, plan.items, context)
            if plan.stage.name == stage:
                return plan.outcomes[0], store
    raise AssertionError


def assert_blocked(outcome, store, config, named):
    assert (outcome.status, outcome.error_type) == ("blocked", "InputChanged"), outcome.error
    assert named in outcome.error
    assert outcome.error.endswith("changed since the job was planned; run the job again")
    assert store.keys(outcome.stage) == set()
    assert Quarantine(config.store, "small").entries() == []


@pytest.mark.parametrize("frames", [5, 7])
def test_a_clip_replaced_before_its_turn_is_not_ingested_under_the_key_of_the_other(tmp_path, videos, frames):
    config = configure(tmp_path, "--dataset.uri", str(videos))
    original = (videos / "a.mp4").read_bytes()
    outcome, store = run_until(config, "ingest", lambda: grey(videos / "a.mp4", 250, frames))
    assert_blocked(outcome, store, config, "clip 'a'")
    (videos / "a.mp4").write_bytes(original)
    outcome, store = run_until(config, "ingest", lambda: None)
    assert outcome.status == "ok"
    assert abs(int(store.open("ingest", outcome.key).frames().read(0, 1)["rgb"][0, 5, 5, 0]) - 40) <= 1


def test_depth_replaced_before_its_turn_is_not_stored_under_the_key_of_the_other(tmp_path, videos):
    config = configure(tmp_path, "--dataset.uri", str(videos))
    outcome, store = run_until(config, "depth", lambda: depth(videos / "a.depth.npz", 9.0))
    assert_blocked(outcome, store, config, "clip 'a'")


def test_a_folder_of_frames_with_a_replaced_frame_is_noticed(tmp_path):
    from PIL import Image

    folder = tmp_path / "videos/clip"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 32), (40, 40, 40)).save(folder / f"{number}.png")
    config = configure(tmp_path, "--dataset.uri", str(tmp_path / "videos"), "--depth.source", "auto")
    other = Image.new("RGB", (32, 32), (250, 250, 250))
    outcome, store = run_until(config, "ingest", lambda: other.save(folder / "1.png"))
    assert_blocked(outcome, store, config, "clip 'clip'")


def test_a_camera_file_replaced_before_its_turn_is_noticed(tmp_path, videos):
    cameras = tmp_path / "cameras.json"

    def write(x):
        poses = [[[1, 0, 0, x * t], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] for t in range(5)]
        cameras.write_text(json.dumps({"world_to_camera": poses}))

    write(0.01)
    path = f"[{{file: '{cameras}', file_format: opencv, name: mine}}]"
    config = configure(tmp_path, "--dataset.uri", str(videos), "--trajectories", path)
    outcome, store = run_until(config, "render", lambda: write(0.05))
    assert_blocked(outcome, store, config, "the file of its trajectory")


def test_a_mask_replaced_before_its_turn_is_noticed(tmp_path, videos):
    masks = tmp_path / "masks"
    masks.mkdir()
    hole = np.zeros((5, 32, 32), bool)
    hole[:, 8:16, 8:16] = True
    np.savez(masks / "a.npz", mask=hole)
    config = configure(tmp_path, "--dataset.uri", str(videos), "--mask.uri", str(masks))
    outcome, store = run_until(config, "mask", lambda: np.savez(masks / "a.npz", mask=~hole))
    assert_blocked(outcome, store, config, str(masks))


def test_a_base_replaced_before_its_turn_is_noticed(tmp_path, videos):
    from pathlib import Path

    import recapture

    shipped = Path(recapture.__file__).parent / "weights/base"
    base = tmp_path / "base"
    shutil.copytree(shipped, base)

    def replace_weights():
        (file,) = list((base / "vae").glob("*.safetensors"))
        content = bytearray(file.read_bytes())
        content[-2] ^= 1  # a last bit of the last weight
        file.write_bytes(content)

    words = ("--fill.method", "base", "--fill.base", str(base), "--fill.steps", "1")
    config = configure(tmp_path, "--dataset.uri", str(videos), *words)
    outcome, store = run_until(config, "fill", replace_weights)
    assert_blocked(outcome, store, config, "stage 'fill' reads")


def test_a_job_whose_files_stay_runs_to_its_end(tmp_path, videos):
    found = run_bare(configure(tmp_path, "--dataset.uri", str(videos)))
    assert {outcome.status for outcomes in found.values() for outcome in outcomes} == {"ok"}
