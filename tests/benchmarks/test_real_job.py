"""The benchmark of a whole job: its clips, its command, and the figures of jobs, stopped ones too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import real_job

from bench.job_report import Filling, Sample, busy_share, efficiency, job_figures, read_samples
from bench.phone_clips import make_clips
from bench.real_job_tables import jobs_table, stages_table
from bench.tables import markdown
from recapture.datasets.media.video import iterate_frames, probe
from recapture.datasets.store.manifest import write_part
from recapture.datasets.store.store import ArtifactStore

START = 1_000_000.0


def made(
    root: Path, stage: str, number: int, ended: float, seconds: float, **row: object
) -> dict[str, object]:
    """Commit an artifact at a moment, and return its row of a manifest."""
    key = f"{number:032x}"
    with ArtifactStore(str(root)).create(stage, key) as output:
        output.write_bytes("x.bin", b"12345")
    marker = next((root / "objects" / stage).glob(f"*/{key}/meta.json"))
    os.utime(marker, (ended, ended))
    return {"key": key, "item": f"clip{number}", "status": "ok", "seconds": seconds, "bytes": 5, **row}


def test_clips_are_whole_videos_with_sound_that_differ_from_each_other(tmp_path):
    make_clips(tmp_path, 4, 9, 64, 112)
    files = sorted(tmp_path.glob("*.mp4"))
    found = [probe(str(path)) for path in files]
    assert [(one.frames, one.height, one.width, one.audio) for one in found] == [(9, 64, 112, True)] * 4
    films = [np.stack(list(iterate_frames(str(path)))).astype(float) for path in files]
    different = [abs(films[i] - films[j]).mean() for i in range(4) for j in range(i)]
    assert min(different) > 5, "two clips show nearly the same"  # clips 0 and 3 come from one source
    assert all(abs(np.diff(film, axis=0)).mean() > 0.5 for film in films), "a clip stands still"
    assert all(path.with_suffix(".txt").read_text().strip() for path in files)


def test_the_same_number_gives_the_same_clip(tmp_path):
    for folder in ("one", "two"):
        make_clips(tmp_path / folder, 1, 5, 32, 48)
    one, two = (list(iterate_frames(str(tmp_path / folder / "clip0000.mp4"))) for folder in ("one", "two"))
    assert np.array_equal(one, two)


def test_samples_of_several_machines_are_numbered_on_and_cut_lines_left_out(tmp_path):
    (tmp_path / "smi-a.csv").write_text(
        "2026/11/28 06:43:03.500, 0, 50, 1000\n2026/11/28 06:43:03.500, 1, 100, 3000\n2026/11/28 06:4"
    )
    (tmp_path / "smi-b.csv").write_text("2026/11/28 06:43:03.500, 0, 0, 10\nN/A, 0, [N/A], 3\n")
    samples = read_samples(tmp_path.glob("*.csv"))
    assert [(one.gpu, one.busy, one.memory) for one in samples] == [(0, 0.5, 1000), (1, 1, 3000), (2, 0, 10)]
    moment = samples[0].moment
    assert busy_share(samples, moment - 1, moment + 1) == pytest.approx(0.5)
    assert busy_share(samples, moment + 1, moment + 2) is None


def filled_job(root: Path, *, gpu_seconds: bool = True) -> Path:
    """Make a job of 7 clips on 2 GPUs: the first two fills end at 100 s, then one every 5 s."""
    made(root, "render", 99, START + 10, 1)
    ends = [100, 100, 105, 110, 115, 120, 125]
    rows = []
    for number, end in enumerate(ends):
        seconds = 70.0 if number < 2 else 10.0
        extra = {"gpu_seconds": 65.0 if number < 2 else 9.5} if gpu_seconds else {}
        rows.append(made(root, "fill", number, START + end, seconds, vram_peak_mb=100.0 + number, **extra))
    write_part(str(root), "job", "fill", "run", 0, rows)
    made(root, "deliver", 1, START + 130, 1)
    return root


def test_the_warm_time_begins_when_every_gpu_has_filled_a_clip(tmp_path):
    filling = Filling.of(filled_job(tmp_path), "job")
    assert filling.warm(2) == (START + 100, START + 125)
    assert filling.warm(7) is None


def test_figures_of_a_job_are_those_of_its_timeline(tmp_path):
    samples = [
        Sample(START + second, gpu, float(second >= 100), 2048) for second in range(130) for gpu in (0, 1)
    ]
    store = filled_job(tmp_path)
    figures = job_figures(store, "job", samples, gpus=2, started=START, ended=START + 130)
    assert figures["per_clip"] == pytest.approx(10)  # five clips in 25 s on two GPUs
    assert figures["cold_start"] == pytest.approx(100 - 10)
    assert figures["busy_events"] == pytest.approx(5 * 9.5 / 50)  # the first two, which compile, are left out
    assert figures["busy_smi"] == 1 and figures["busy_smi_all"] == pytest.approx(30 / 130)
    assert (figures["filled"], figures["delivered"], figures["first_delivered"]) == (7, 1, 130)
    fill = figures["stages"]["fill"]
    assert (fill["items"], fill["seconds_median"], fill["gpu_peak_mb"]) == (7, 10, 106)


def test_an_interrupted_job_without_any_fill_has_figures_of_what_is_there(tmp_path):
    row = made(tmp_path, "ingest", 1, START + 1, 2.0)
    write_part(str(tmp_path), "job", "ingest", "run", 0, [row])
    figures = job_figures(tmp_path, "job", [], gpus=1, started=START, ended=START + 2)
    assert figures["per_clip"] is figures["cold_start"] is figures["busy_smi"] is None
    assert figures["stages"]["ingest"]["seconds_mean"] == 2


def test_efficiency_is_relative_to_the_run_on_the_fewest_gpus():
    runs = [{"gpus": 4, "per_clip": 12.5}, {"gpus": 1, "per_clip": 10.0}, {"gpus": 2, "per_clip": None}]
    assert efficiency(runs) == [0.8, 1.0, None]


def test_tables_show_every_run_and_stage(tmp_path):
    figures = job_figures(filled_job(tmp_path), "job", [], gpus=2, started=START, ended=START + 130)
    about = {
        "size": "1.3B",
        "clips": 7,
        "frames": 81,
        "height": 480,
        "width": 832,
        "steps": 30,
        "commit": "abc",
    }
    run = {**about, "command": "python x", "machine": "2 GPUs", "date": "2026-11-28", "bare": 8.0, **figures}
    run = json.loads(json.dumps(run))  # as it is stored
    jobs, stages = jobs_table("a-gpus", [run]), stages_table("a-stages", [run])
    assert "| 2 | 1 of 7 | 130 | 130 | 90 | 8.0 | 10.0 | +25.0% | 1.000 | 0.950 |" in markdown(jobs)
    assert "| 2 | fill | 7 | 10.0 |" in markdown(stages)


def test_a_job_beyond_its_limit_is_terminated_and_may_end_in_its_own_way(tmp_path):
    ending = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('ended'), sys.exit(7)))\n"
    )
    ending += "time.sleep(100)"
    assert real_job.carry_out([sys.executable, "-c", ending], tmp_path / "log", 0, limit=3.0) == 7
    assert (tmp_path / "log").read_text() == "ended\n"


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_whole_benchmark_runs_on_the_cpu_with_ray_and_prefect(tmp_path):
    command = [sys.executable, real_job.__file__, "run", "--size", "tiny", "--gpus", "0", "--clips", "2"]
    command += ["--steps", "2", "--bare", "--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [*command, "--", "--measure.baselines", "false"], env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "r/run-tiny-0.json").read_text())
    assert measured["bare"] > 0
    assert measured["exit"] == 0 and measured["delivered"] == measured["filled"] == 2
    assert list(measured["stages"]) == ["ingest", "depth", "render", "fill", "measure", "deliver"]
    assert all(one["items"] == 2 and one["failed"] == 0 for one in measured["stages"].values())
