"""A wrong setting is found before any work is done, and another dataset is searched once per plan."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from support.bare_job import run_bare

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.media.video import write_video
from recapture.datasets.readers import file_clip
from recapture.flows.jobs import planned
from recapture.tasks.clip import trajectory_file
from recapture.tasks.engine.planner import supposed
from recapture.tasks.jobs.job import ClipJob, preview_stages, recapture_stages

SCENES = "scenes://?count=2&seed=0&frames=5&height=32&width=32"


def write_clips(root, count, frames=5, cameras=True):
    """Constant videos c00.mp4, ..., each with cameras of its own: clip n moves n to the right per frame."""
    root.mkdir()
    for n in range(count):
        pictures = np.full((frames, 32, 32, 3), 40 + n, dtype=np.uint8)
        write_video(root / f"c{n:02}.mp4", iter(pictures), Fraction(25))
        if cameras:
            poses = np.broadcast_to(np.eye(4), (frames, 4, 4)).copy()
            poses[:, 0, 3] = -n * np.arange(frames)
            lens = np.array([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]])
            np.savez(root / f"c{n:02}.cameras.npz", world_to_camera=poses, intrinsics=lens)
    return root


def configure(root, uri, trajectories, *words):
    return load_config(
        arguments=[
            *("--dataset.uri", str(uri), "--trajectories", trajectories, "--fill.method", "classical"),
            *("--store", f"{root}/store", "--execution.executor", "inline", *words),
        ]
    )


@pytest.mark.parametrize("count", [3, 6])
def test_another_dataset_is_scanned_once_per_plan_and_never_by_a_worker(tmp_path, monkeypatch, count):
    """Today's cost of a plan over N clips and M trajectories is one scan, whatever N and M."""
    clips = write_clips(tmp_path / "clips", count)
    scans, probes = [], []
    scan, probe = trajectory_file.scan, file_clip.probe
    monkeypatch.setattr(trajectory_file, "scan", lambda uri, **given: scans.append(uri) or scan(uri, **given))
    monkeypatch.setattr(file_clip, "probe", lambda *given: probes.append(given) or probe(*given))
    of = f"file: {clips}, file_format: clip, file_camera"
    moves = f"[{{{of}: c00, name: a}}, {{{of}: c01, name: b}}]"
    config = configure(tmp_path, clips, moves, "--depth.match_cameras", "false")  # grey pictures: no corners
    job = ClipJob.of(config, preview_stages(config))
    plans = supposed(job.plans())
    assert len(scans) == 1
    assert len(probes) <= 2 * count  # the dataset's own scan, and that of the trajectories
    renders = {item.name: item for plan in plans if plan.stage.name == "render" for item in plan.items}
    assert len(renders) == 2 * count
    sent = pickle.loads(pickle.dumps(renders["c02@b"]))
    assert sent.params.file.clip.id == "c01"  # the worker opens this clip, and searches nothing
    scans.clear(), probes.clear()
    outcomes = run_bare(config, preview_stages(config))
    assert {one.status for made in outcomes.values() for one in made} == {"ok"}
    assert len(scans) == 1  # run_bare plans again, and each item looks at its own file before the commit
    assert len(probes) <= 2 * count + count + 2 * count


def test_a_camera_file_is_hashed_once_per_plan(tmp_path, monkeypatch):
    np.savez(tmp_path / "c.npz", world_to_camera=np.broadcast_to(np.eye(4), (5, 4, 4)))
    hashed, look = [], trajectory_file.camera_file_hash
    monkeypatch.setattr(trajectory_file, "camera_file_hash", lambda uri: hashed.append(uri) or look(uri))
    moves = f"[{{file: {tmp_path}/c.npz, name: a}}, {{file: {tmp_path}/c.npz, scale: 2, name: b}}]"
    config = configure(tmp_path, SCENES, moves)
    supposed(ClipJob.of(config, recapture_stages(config)).plans())
    assert len(hashed) == 1


def matrices(path, frames):
    np.savez(path, world_to_camera=np.broadcast_to(np.eye(4), (frames, 4, 4)))
    return path


WRONG = [
    (
        "{file: ROOT/gone.npz}",
        "",
        r"trajectory 'gone': file .*gone.npz' cannot be used .*No such file",
    ),
    ("{file: ROOT/cut.npz}", "", r"trajectory 'cut': .*cannot be read as npz"),
    ("{file: ROOT/seven.npz}", "", "scene-000000@seven: .* has 7 cameras for 5 frames; .*fit_length"),
    ("{file: ROOT/gone.txt, file_format: theta_phi_r}", "", "gone.txt' cannot be used .*No such file"),
    ("{file: ROOT/cut.npz, file_format: theta_phi_r}", "", "cannot be used .*it is not text"),
    ("{file: ROOT/notes.txt}", "", "does not identify the dialect; name the format"),
    ("{file: SCENES, file_format: clip, file_camera: c9}", "", "names 0 clips of .*scene-000000.*; name one"),
    ("{file: ROOT/bare, file_format: clip, file_camera: c00}", "", "has no cameras to take over"),
    ("{preset: up, mode: bullet_time, freeze_frame: 5}", "", "freeze_frame is 5; the clip has frames 0 to 4"),
    ("{preset: up}", "--fill.method base --fill.base ROOT/none", r"fill\.base: .*none"),
    ("{preset: up}", "--fill.method base --fill.adapter ROOT/none", r"fill\.adapter: .*none"),
    ("{preset: up}", "--depth.source model --depth.model ROOT/none", r"depth\.model: .*none"),
    ("{preset: up}", "--measure.learned.clip ROOT/none", r"measure\.learned\.clip: .*none"),
    ("{preset: up}", "--mask.uri ROOT/none", "mask.uri .*none' does not exist"),
    ("{preset: up}", "--mask.uri ROOT/bare", "nothing called 'scene-000000'.*neither does any other clip"),
    ("{preset: up}", "--mask.objects all --mask.first_frame ROOT/none", "mask.first_frame .*does not exist"),
    ("{preset: up}", "--mask.objects all --mask.prompts ROOT/none", "mask.prompts .*cannot be read"),
    ("{preset: up}", "--ingest.start_seconds 60", "start_seconds 60.0 is past its 5 frames"),
    ("{preset: up}", "--dataset.where nothing*", r"of which 0 match dataset.where='nothing\*'"),
]


@pytest.mark.parametrize(("moves", "words", "message"), WRONG)
def test_a_setting_that_fails_every_clip_stops_the_job_before_it_starts(tmp_path, moves, words, message):
    """Each was found by the render or fill stage of every clip, after hours of depth."""
    matrices(tmp_path / "seven.npz", 7)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04\xff")
    (tmp_path / "notes.txt").write_text("1 2 3")
    write_clips(tmp_path / "bare", 1, cameras=False)

    def written(text):
        return text.replace("ROOT", str(tmp_path)).replace("SCENES", f"'{SCENES}'")

    config = configure(tmp_path, SCENES, written(f"[{moves}]"), *written(words).split())
    with pytest.raises(UserError, match=message):
        planned(config)
    assert not (tmp_path / "store/objects").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fill.base", "ROOT/none"), r"fill\.base: .*none"),
        (("--tune.start", "ROOT/none"), r"tune\.start: .*none"),
    ],
)
def test_a_tuning_without_its_base_or_start_does_not_begin(tmp_path, words, message):
    words = [word.replace("ROOT", str(tmp_path)) for word in words]
    with pytest.raises(UserError, match=message):
        planned(configure(tmp_path, SCENES, "[{preset: left}]", "--fill.method", "base", *words), "train")


def test_a_clip_that_one_trajectory_does_not_fit_is_named_at_the_start_and_stops_nothing(tmp_path):
    matrices(tmp_path / "seven.npz", 7)
    config = configure(tmp_path, SCENES, f"[{{preset: static}}, {{file: {tmp_path}/seven.npz, name: late}}]")
    first = next(iter(planned(config).plans()))
    assert first.stage.name == "ingest"
    assert [note.split(":")[0] for note in first.notes] == ["scene-000000@late", "scene-000001@late"]
