"""A whole job at real size on this machine's GPUs: seconds, bytes and memory of every stage, GPU-busy share.

    python benchmarks/real_job.py run --gpus 4 --clips 64 --work /job --results /results
    python benchmarks/real_job.py run --gpus 8 --clips 128 --work /job --results /results
    python benchmarks/real_job.py run --size tiny --gpus 0 --work /job --results /results   # CPU, minutes
    python benchmarks/real_job.py table /results/run-*.json --write

`run` makes clips (bench/phone_clips.py) and a base of Wan's shape with random weights, unless --work has
them, carries out `recapture run --profile wan` on them, and samples nvidia-smi meanwhile. With --limit the
job is terminated after that many seconds, and what is finished is reported. Settings after
`--` go to `recapture run` as they are. The job's own folder is emptied first: everything is computed anew.

On a machine without package registries, bench/pack_stack.sh packs what is needed.

Several machines: start Ray on each (`ray start --head`; `ray start --address HEAD:6379`), put --work and
--results on storage that all share, run `python benchmarks/real_job.py sample --results /results` on each
machine but the first, and on the first `run --gpus ALL --ray-address auto`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "src"))  # where the project is not installed
DATASET = "job"
QUERY = "--query-gpu=timestamp,index,utilization.gpu,memory.used"
GPU_STAGES = ("depth", "render", "fill", "baselines", "measure")
ON_CPU = "{" + ", ".join(f"{name}: {{cpus: 1, gpus: 0}}" for name in GPU_STAGES) + "}"
GRACE_SECONDS = 60  # to end after that
SIZES = {"1.3B": (81, 480, 832), "14B": (81, 480, 832), "tiny": (9, 64, 112)}


def main(words: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(words)
    if given.verb == "run":
        given.results.mkdir(parents=True, exist_ok=True)
        measured = run(given)
        path = given.results / f"run-{given.size}-{given.gpus}.json"
        path.write_text(json.dumps(measured, indent=1))  # before what may yet be cut short
        if given.bare:
            measured["bare"] = fill_alone(given, given.work / f"base-{given.size}")
            path.write_text(json.dumps(measured, indent=1))
        print(json.dumps(measured, indent=1))
        print(path)
        sys.exit(0 if measured["delivered"] else 1)
    elif given.verb == "sample":
        given.results.mkdir(parents=True, exist_ok=True)
        with sampled(given.results / f"smi-{platform.node()}.csv"):
            signal.pause()
    else:
        from bench.real_job_tables import write_tables

        write_tables(given.runs, given.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    job = verbs.add_parser("run", help="Carry out a job and measure it.")
    job.add_argument("--size", choices=SIZES, default="1.3B")
    job.add_argument("--clips", type=int, default=8)
    job.add_argument("--steps", type=int, default=30)
    job.add_argument("--gpus", type=int, default=1, help="0: all stages on the CPU.")
    job.add_argument("--profile", default="wan")
    job.add_argument("--ray-address", help="A Ray cluster; without: Ray on this machine.")
    job.add_argument("--bare", action="store_true", help="Then also measure one fill by itself.")
    job.add_argument("--limit", type=float, help="Terminate the job after that many seconds.")
    job.add_argument("--work", type=Path, required=True, help="Where clips, base, store and outputs go.")
    job.add_argument("--results", type=Path, required=True, help="Where figures and logs go.")
    job.add_argument("--commit", help="The commit of the code, where there is no git.")
    job.add_argument("settings", nargs="*", help="After --: settings for `recapture run`.")
    sample = verbs.add_parser("sample", help="Sample this machine's GPUs until interrupted.")
    sample.add_argument("--results", type=Path, required=True)
    table = verbs.add_parser("table", help="Make the tables of the page from the figures of runs.")
    table.add_argument("runs", type=Path, nargs="+")
    table.add_argument("--write", nargs="?", const="real_job", metavar="NAME")
    return parser


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Prepare clips and base, carry out the job, and return its figures."""
    # Sampled by a process of its own: this one imports torch only to make a base, and gives the GPUs back.
    frames, height, width = SIZES[given.size]
    clips = given.work / f"clips-{given.clips}-{frames}x{height}x{width}"
    base = given.work / f"base-{given.size}"
    prepared = time.monotonic()
    _prepare(
        "from bench.phone_clips import make_clips",
        f"make_clips(Path({str(clips)!r}), {given.clips}, {frames}, {height}, {width})",
    )
    _prepare(
        "from bench.wan_directory import write_base",
        f"write_base(Path({str(base)!r}), {given.size!r}, {'cuda' if given.gpus else 'cpu'!r})",
    )
    preparing = time.monotonic() - prepared
    job = given.work / f"job-{given.size}-{given.gpus}"
    shutil.rmtree(job, ignore_errors=True)
    command = job_command(given, clips, base, job)
    log = given.results / f"job-{given.size}-{given.gpus}.log"
    started = time.time()
    with sampled(given.results / f"smi-{given.size}-{given.gpus}-{platform.node()}.csv"):
        status = carry_out(command, log, given.gpus, given.limit)
    ended = time.time()
    from bench.job_report import job_figures, read_samples

    samples = read_samples(given.results.glob(f"smi-{given.size}-{given.gpus}-*.csv"))
    used = [sample for sample in samples if sample.gpu < given.gpus and started <= sample.moment <= ended]
    figures = job_figures(job / "store", DATASET, used, gpus=max(1, given.gpus), started=started, ended=ended)
    return {
        "size": given.size,
        "clips": given.clips,
        "frames": frames,
        "height": height,
        "width": width,
        "steps": given.steps,
        "exit": status,
        "preparing": preparing,
        "command": "python benchmarks/real_job.py " + " ".join(sys.argv[1:]),
        "machine": machine(given.gpus),
        "date": date.today().isoformat(),
        "commit": given.commit or _commit(),
        "bare": None,
        **figures,
    }


def job_command(given: argparse.Namespace, clips: Path, base: Path, job: Path) -> list[str]:
    """Return the command of the job."""
    _, height, _ = SIZES[given.size]
    command = [sys.executable, "-m", "recapture.flows.cli", "run", "--profile", given.profile]
    command += ["--dataset.uri", str(clips), "--dataset.name", DATASET]
    command += fill_settings(given, base)
    command += ["--trajectories", "[{preset: orbit_right, angle_degrees: 20}]"]
    command += [word for name in ("store", "outputs", "state") for word in (f"--{name}", str(job / name))]
    command += ["--ingest.short_side", str(height)]
    if not given.gpus:
        command += ["--execution.resources", ON_CPU]
    if given.ray_address:
        command += ["--execution.ray_address", given.ray_address]
    return [*command, *given.settings]


def fill_settings(given: argparse.Namespace, base: Path) -> list[str]:
    """Return the settings of the fill."""
    settings = ["--fill.base", str(base), "--fill.steps", str(given.steps)]
    if given.size == "tiny":
        settings += ["--fill.window", str(SIZES["tiny"][0]), "--fill.overlap", "4"]
    return settings


def fill_alone(given: argparse.Namespace, base: Path) -> float:
    """Return the seconds of one fill by itself, see bench/bare_fill.py."""
    script = str(PROJECT / "benchmarks/bench/bare_fill.py")
    words = [given.profile, *map(str, SIZES[given.size]), *fill_settings(given, base)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(_paths())}
    asked = subprocess.run([sys.executable, script, *words], env=environment, capture_output=True, text=True)
    if asked.returncode:
        raise RuntimeError(f"the fill by itself failed: {asked.stderr[-2000:]}")
    return float(asked.stdout.split("bare ")[-1])


def carry_out(command: Sequence[str], log: Path, gpus: int, limit: float | None) -> int:
    """Run a command on the first GPUs; terminate it after `limit` seconds. Returns its exit status."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "0"}
    environment["PYTHONPATH"] = f"{PROJECT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(gpus)))
    with log.open("wb") as output:
        job = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            return job.wait(limit)
        except subprocess.TimeoutExpired:
            print(f"terminated after {limit:.0f} s", flush=True)
            job.send_signal(signal.SIGTERM)
        try:
            return job.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            job.kill()
            return job.wait()


@contextmanager
def sampled(path: Path) -> Iterator[None]:
    """Sample all GPUs of this machine twice a second while the block runs; do nothing without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    with path.open("wb") as output:
        command = ["nvidia-smi", QUERY, "--format=csv,noheader,nounits", "-lms", "500"]
        sampling = subprocess.Popen(command, stdout=output)
        try:
            yield
        finally:
            sampling.terminate()
            sampling.wait()


def machine(gpus: int) -> str:
    """Return the number and name of the GPUs, and the number of CPU cores."""
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    if not gpus:
        return cores
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return f"{names[0].strip()}, {cores}"


def _prepare(imports: str, call: str) -> None:
    """Run a step in a process of its own, so that its memory is free when the job starts."""
    code = f"from pathlib import Path\n{imports}\n{call}\n"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(_paths())}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def _paths() -> list[str]:
    own = [str(PROJECT / "benchmarks"), str(PROJECT / "src")]
    return [*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _commit() -> str | None:
    asked = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    main()
