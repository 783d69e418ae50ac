"""`recapture evaluate` on tiny folders in the published layouts, against closed forms."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.lpips_files import write_alex
from support.spots import save

from recapture.conf.evaluate import PROTOCOLS, UNKNOWN
from recapture.tasks.evaluate.protocols import BY_NAME, KUBRIC4D
from recapture.tasks.evaluate.score import frame_metrics, score_folder

SEQUENCES = ("apple", "block", "paper-windmill", "space-out", "spin", "teddy", "wheel")
NAMES = {"1": ("1_00000", "1_00007"), "2": ("2_00003",)}
STEP = 26  # grey levels by which a result is too light where it is seen


def dycheck_sequence(root, results, name, seed):
    """Write a validation split at factor 2 as DyCheck has it, and results that err by STEP where seen."""
    generator = np.random.default_rng(seed)
    frames = [frame for frames in NAMES.values() for frame in frames]
    stated = {"frame_names": frames[::-1], "camera_ids": [2, 1, 1], "time_ids": [3, 7, 0]}
    for file, content in (("splits/val.json", stated), ("extra.json", {"factor": 2, "fps": 30})):
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for camera, names in NAMES.items():
        for frame in names:
            true = generator.integers(0, 200, (64, 72, 3), dtype=np.uint8)
            seen = generator.random((64, 72)) < 0.6
            result = np.where(seen[..., None], true + STEP, 255 - true).astype(np.uint8)
            save(root / name / "rgb/2x" / f"{frame}.png", true)
            save(root / name / "covisible/2x/val" / f"{frame}.png", seen.astype(np.uint8) * 255)
            save(results / name / f"camera{camera}" / f"{frame}.png", result)


@pytest.fixture
def dycheck(tmp_path):
    for seed, name in enumerate(SEQUENCES):
        dycheck_sequence(tmp_path / "iphone", tmp_path / "Mine", name, seed)
    return tmp_path


@pytest.fixture
def evaluate(recapture_command, tmp_path):
    def run(protocol, *words):
        done = recapture_command("evaluate", "--protocol", protocol, "--outputs", tmp_path / "out", *words)
        file = tmp_path / f"out/evaluate/{protocol}/Mine.json"
        return done, json.loads(file.read_text()) if file.exists() else None

    return run


def test_dycheck_scores_every_sequence_on_its_seen_pixels_alone(dycheck, evaluate):
    words = ("--results", dycheck / "Mine", "--truth", dycheck / "iphone")
    done, made = evaluate("dycheck", *words, "--measure.learned.lpips", write_alex(dycheck / "alex"))
    assert (done.code, done.err) == (0, "")
    expected = -20 * math.log10(STEP / 255)
    assert list(made["scenes"]) == list(SEQUENCES) and made["complete"] and made["method"] == "Mine"
    for values in [*made["scenes"].values(), made["means"]]:
        assert values["mPSNR"] == pytest.approx(expected, abs=1e-4)
        assert 0 < values["mSSIM"] < 1 and values["mLPIPS"] > 0
    page = (dycheck / "out/evaluate/dycheck/Mine.md").read_text()
    assert page in done.out
    assert "| Method | mPSNR ↑ | mSSIM ↑ | mLPIPS ↓ | Source |" in page
    assert "| HyperNeRF | – | – | 0.332 | published: docs/BENCHMARK.md" in page
    assert f"| **Mine** | {expected:.2f} |" in page and "measured, 7 of 7 scenes |" in page


def test_a_metric_whose_network_is_missing_is_refused_or_left_out(dycheck, evaluate):
    words = ("--results", dycheck / "Mine", "--truth", dycheck / "iphone")
    done, made = evaluate("dycheck", *words)
    assert done.code == 2 and made is None
    assert "mLPIPS needs the published network; set measure.learned.lpips" in done.err
    done, _ = evaluate("dycheck", *words, "--measure.learned.lpips", dycheck)
    assert done.code == 2 and "must hold backbone.safetensors" in done.err
    done, made = evaluate("dycheck", *words, "--without", "mLPIPS", "--without", "mSSIM")
    assert done.code == 0 and list(made["means"]) == ["mPSNR"]
    some = ("--without", "mLPIPS", "--without", "mSSIM", "--name", "GCD, max 90")
    done, _ = evaluate("dycheck", *words, *some)
    assert done.code == 0 and "| **GCD, max 90** |" in done.out
    assert "evaluate/dycheck/GCD, max 90.md" in done.out
    done, _ = evaluate("dycheck", *words, "--without", "FVD")
    assert done.code == 2 and "'FVD': dycheck has mPSNR, mSSIM, mLPIPS" in done.err


def test_a_bad_video_is_named_and_the_mean_is_called_not_comparable(dycheck, evaluate):
    mine = dycheck / "Mine"
    (mine / "apple/camera1/1_00007.png").unlink()
    save(mine / "block/camera1/more.png", np.zeros((64, 72, 3), np.uint8))
    for name in ("1_00000", "1_00007"):
        save(mine / f"spin/camera1/{name}.png", np.zeros((32, 36, 3), np.uint8))
    (mine / "teddy/camera2").rename(mine / "teddy/camera3")
    save(dycheck / "iphone/wheel/covisible/2x/val/2_00003.png", np.zeros((64, 72), np.uint8))
    (dycheck / "iphone/space-out/extra.json").unlink()
    words = ("--results", mine, "--truth", dycheck / "iphone", "--without", "mLPIPS", "--without", "mSSIM")
    done, made = evaluate("dycheck", *words)
    assert done.code == 1 and list(made["scenes"]) == ["paper-windmill"]
    reasons = {
        "apple": "fewer frames than the truth",
        "block": "more frames than the truth",
        "spin": "is 36x32, dycheck compares at 72x64; resize it yourself",
        "teddy": "neither teddy/camera2.mp4 nor a folder teddy/camera2",
        "wheel": "frame 0 of the truth of wheel/camera2 has no co-visible pixel",
        "space-out": "extra.json' does not state factor",
    }
    assert made["failed"].keys() == reasons.keys()
    for scene, reason in reasons.items():
        assert reason in made["failed"][scene]
        assert scene in done.out
    assert "measured, 1 of 7 scenes: not comparable" in done.out


def test_kubric_scores_equal_closed_forms_at_the_published_size(tmp_path, evaluate):
    for folder, level in (("truth", 100), ("Mine", 100 + STEP)):
        for frame in range(14):
            save(tmp_path / folder / "scn02900" / f"{frame}.png", np.full((256, 384, 3), level, np.uint8))
    for folder in ("truth", "Mine"):
        save(tmp_path / folder / "scn02901" / "0.png", np.zeros((256, 384, 3), np.uint8))
    done, made = evaluate("kubric4d", "--results", tmp_path / "Mine", "--truth", tmp_path / "truth")
    assert done.code == 1 and list(made["scenes"]) == ["scn02900"] and len(made["failed"]) == 19
    assert "has 1 frames; kubric4d compares 14" in made["failed"]["scn02901"]
    a, b = 100 / 255, (100 + STEP) / 255
    assert made["means"] == {
        "PSNR": pytest.approx(-20 * math.log10(STEP / 255), abs=1e-4),
        "SSIM": pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-6),
    }
    assert "| GCD, max 90, gradual | 17.88 | – | published" in done.out


def test_every_name_is_a_protocol_or_refused_with_what_is_unknown():
    assert tuple(BY_NAME) == PROTOCOLS
    assert not set(PROTOCOLS) & set(UNKNOWN)
    assert [len(one.scenes) for one in BY_NAME.values()] == [20, 20, 7]
    for one in BY_NAME.values():
        known = {metric.name for metric in one.metrics}
        assert all(row.values.keys() <= known for row in one.published)


def test_gcds_own_output_is_read_and_its_samples_are_averaged(tmp_path):
    run = tmp_path / "extra"
    levels = {"gt": (100,), "pred_s0": (90,), "pred_s1": (140, 60), "proj": (0,), "error": (3,)}
    for ending, greys in levels.items():
        for frame in range(2):
            picture = np.full((16, 16, 3), greys[frame % len(greys)], np.uint8)
            save(run / f"kubric_000_nm1_c00_scn02900_{ending}" / f"{frame:04d}.png", picture)
            (run / f"kubric_000_nm1_c00_scn02900_{ending}.mp4").write_bytes(b"the lossy twin is not read")
    tiny = replace(KUBRIC4D, scenes=("scn02900", "scn02901"), frames=2, size=(16, 16))
    metrics = frame_metrics(tiny, ("SSIM",), None)
    scores = score_folder(tiny, str(run), str(run), metrics)
    expected = np.mean([-20 * math.log10(step / 255) for step in (10, 10, 40, 40)])
    assert scores.scenes == {"scn02900": {"PSNR": pytest.approx(expected, abs=1e-4)}}
    assert "neither scn02901.mp4 nor a folder scn02901" in scores.failed["scn02901"]
    save(run / "kubric_000_nm1_c01_scn02900_gt" / "0000.png", np.zeros((16, 16, 3), np.uint8))
    failed = score_folder(tiny, str(run), str(run), metrics).failed["scn02900"]
    assert "has scn02900 of 2 runs: kubric_000_nm1_c00_, kubric_000_nm1_c01_; keep one" in failed


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("re10k",), "for CameraCtrl (arXiv 2404.02101) the scale of TransErr"),
        (("davis",), "DAVIS has neither cameras nor a second view"),
        (("walk",), "there is no protocol 'walk'; use kubric4d, pardom, dycheck"),
        (("kubric4d",), "needs --results FOLDER: a folder of videos"),
        (("pardom", "--results", "."), "cannot be a file of that name; give --name NAME"),
        (
            ("kubric4d", "--results", ".", "--name", "Mine"),
            "needs --truth FOLDER: the folder `extra` that GCD's",
        ),
        (("pardom", "--results", "nothing"), "--results 'nothing' is not a folder"),
        (
            ("pardom", "--results", ".", "--truth", ".", "--name", "x"),
            "could be scored; scene_000048: there is neither",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_message(words, answer, evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done, made = evaluate(*words)
    assert done.code == 2 and made is None
    assert answer in done.err and "Traceback" not in done.err
