"""`recapture doctor`: check whether a job with these settings can run here, with the way out if it cannot."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape

from recapture.conf.errors import UserError
from recapture.conf.redact import remember_credentials, without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.readers.scan import is_computed, located
from recapture.datasets.store.storage import open_filesystem
from recapture.flows.commands.doctor_servers import check_mlflow, check_prefect, check_ray
from recapture.flows.commands.finding import Finding
from recapture.flows.commands.memory import check_memory
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.model_revision import model_path

GIB = 1024**3
SCARCE_GIB, TOO_LITTLE_GIB = 10, 1
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
REINSTALL = "install again: pip install --force-reinstall -c constraints.txt recapture"
WAYS_OUT = {  # for checks that end in an error nobody has foreseen
    "python": "install Python 3.11 or 3.12",
    "torch": "check the GPU driver with nvidia-smi; CUDA_VISIBLE_DEVICES= runs without GPUs",
    "video": "install PyAV's own wheel: pip install --force-reinstall --only-binary=:all: av",
    "formats": "set deliver.codec h264, deliver.frames none and deliver.depth false",
    "dataset": "check dataset.uri and the storage's credentials",
    "models": "check depth.model, fill.base and measure.learned, or unset them",
    "memory": "check fill.base and the GPU driver",
    "store": "check store, outputs and state, and the storage's credentials",
    "disk": "check store, outputs, state and TMPDIR",
    "prefect": "check PREFECT_API_URL and PREFECT_HOME, or unset them",
    "mlflow": "check tracking.uri, or run without MLflow: --tracking.enabled false",
    "ray": "check execution.ray_address and RAY_ADDRESS, or run without Ray: --execution.executor inline",
}


def run_checks(config: RecaptureConfig | None, config_error: str = "", as_json: bool = False) -> int:
    """Print one line per finding and return the exit code: 1 if a check failed.

    config: None if the settings are invalid, as config_error says; the checks that need them are left out.
    """
    findings = []
    console = Console()
    if config is not None:
        remember_credentials(repr(config))
    for found in examine(config, config_error):
        shown = {name: without_credentials(text) for name, text in asdict(found).items()}
        finding = replace(found, message=shown["message"], way_out=shown["way_out"])
        findings.append(finding)
        if not as_json:
            colour = COLOURS[finding.status]
            line = f"[{colour}]{finding.status:<4}[/{colour}] {finding.check}: {escape(finding.message)}"
            console.print(line, highlight=False, soft_wrap=True)
            if finding.way_out:
                console.print(f"     → {escape(finding.way_out)}", highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return int(any(finding.status == "fail" for finding in findings))


def examine(config: RecaptureConfig | None, config_error: str = "") -> Iterator[Finding]:
    """Yield the findings of every check; a check that raises is a failure."""
    yield from _guarded("python", _python)
    yield from _guarded("torch", _torch)
    yield from _guarded("video", _video)
    if config is None:
        way_out = "fix the setting; `recapture settings` describes them all"
        yield Finding("configuration", "fail", config_error, way_out)
        return
    yield Finding("configuration", "ok", "valid")
    checks: list[tuple[str, Callable[[RecaptureConfig], Iterator[Finding]]]] = [
        *(("formats", _formats), ("dataset", _dataset), ("models", _models), ("memory", check_memory)),
        *(("store", _storage), ("disk", _disk)),
        *(("prefect", check_prefect), ("mlflow", check_mlflow), ("ray", check_ray)),
    ]
    for name, check in checks:
        yield from _guarded(name, lambda check=check: check(config))  # type: ignore[misc]


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        message = without_credentials(f"{type(error).__name__}: {error}")
        yield Finding(name, "fail", message, REINSTALL if isinstance(error, ImportError) else WAYS_OUT[name])


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    way_out = "" if fits else WAYS_OUT["python"]
    yield Finding("python", "ok" if fits else "fail", f"{found} ({sys.executable})", way_out)


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield Finding("cpu", "ok", f"{os.cpu_count()} cores")
    if not torch.cuda.is_available():
        yield Finding("gpu", "ok", "none; every stage runs on CPUs")
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        yield Finding("gpu", "ok", f"{number}: {name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free")


def _video() -> Iterator[Finding]:
    import av
    import numpy as np

    from recapture.datasets.media.containers import open_container

    missing = [codec for codec in ("libx264", "aac") if codec not in av.codecs_available]
    if missing:
        yield Finding("video", "fail", f"PyAV {av.__version__} has no encoder {missing}", WAYS_OUT["video"])
        return
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    buffer.seek(0)
    with open_container(buffer, "of the test") as container:
        frames = sum(1 for _ in container.decode(video=0))
    status: Literal["ok", "fail"] = "ok" if frames == 1 else "fail"
    message = f"PyAV {av.__version__} encodes and decodes h264"
    message = message if frames else "h264 came back empty"
    yield Finding("video", status, message, "" if frames else WAYS_OUT["video"])


def _formats(config: RecaptureConfig) -> Iterator[Finding]:
    from recapture.tasks.jobs.result_files import check_formats, video_encoding

    try:
        check_formats(config.deliver)
    except UserError as error:
        message, _, way_out = str(error).partition("; ")
        yield Finding("formats", "fail", message, way_out)
        return
    encoding = video_encoding(config.deliver)
    pictures = "" if config.deliver.frames == "none" else f" and {config.deliver.frames} frames"
    yield Finding("formats", "ok", f"deliver: {encoding.codec} {encoding.pixel_format}{pictures}")


def _dataset(config: RecaptureConfig) -> Iterator[Finding]:
    uri = located(config.dataset.uri)
    if is_computed(uri):
        yield Finding("dataset", "ok", uri)
        return
    try:
        filesystem, path = open_filesystem(uri)
        there, reason = filesystem.exists(path), "does not exist"
    except Exception as error:
        there, reason = False, f"{type(error).__name__}: {error}"
    if there:
        yield Finding("dataset", "ok", f"{uri} exists; `recapture plan` lists its clips")
    else:
        yield Finding("dataset", "fail", f"{uri} {reason}", "set dataset.uri, or the storage's credentials")


def _models(config: RecaptureConfig) -> Iterator[Finding]:
    models = {"depth.model": None if config.depth.source == "given" else config.depth.model}
    if config.fill.method != "classical":
        yield _base(config)
        if config.fill.chosen_adapters:
            yield from _adapters(config)
    yield from _captioner_and_masks(config)
    models |= {f"measure.learned.{name}": path for name, path in config.measure.learned}
    for setting, named in models.items():
        if named is None:
            continue
        path = Path(model_path(setting, named))
        if path.is_dir():
            yield Finding("models", "ok", f"{setting}: {named}")
        else:
            yield Finding(
                "models", "fail", f"{setting}: {named} is not a directory", f"download it, or unset {setting}"
            )


def _captioner_and_masks(config: RecaptureConfig) -> Iterator[Finding]:
    from recapture.models.captions.recognise import read_config
    from recapture.models.selection.recognise import check_prompt

    select, checks = config.mask.select, list[tuple[str, str | None, Callable[[], Any]]]()
    if config.caption.of_model:
        captioner = str(config.caption.model)
        checks.append(("caption.model", captioner, lambda: read_config(captioner)))
    if select.wanted:
        model = select.model if select.of_model else None
        words = select.words is not None
        checks.append(("mask.select.model", select.model, lambda: check_prompt(model, words=words)))
    for setting, named, check in checks:
        try:
            check()
        except ValueError as error:
            message, _, way_out = str(error).partition(": ")[2].rpartition("; ")
            yield Finding("models", "fail", f"{setting}: {message}", way_out)
        else:
            yield Finding("models", "ok", f"{setting}: {named}")


def _base(config: RecaptureConfig) -> Finding:
    from recapture.tasks.clip.base_files import base_sources
    from recapture.tasks.jobs.reference import check_reference

    try:
        sources = base_sources(config.fill)
        check_reference(config.fill)
    except UserError as error:
        way_out = "`recapture models check` looks at a model's files; docs/models.md lists what is read"
        return Finding("models", "fail", str(error), way_out)
    return Finding("models", "ok", f"fill.base: {sources.transformer.where}")


def _adapters(config: RecaptureConfig) -> Iterator[Finding]:
    from recapture.tasks.clip.adapter_files import AdapterFiles
    from recapture.tasks.clip.adapters import remarks_on

    way_out = "docs/adapters.md says what is read, and which transformer takes what"
    try:
        sources = AdapterFiles(config.fill).shared
        for remark in remarks_on(config.fill, sources):
            yield Finding("models", "warn", remark, way_out)
    except UserError as error:
        yield Finding("models", "fail", str(error), way_out)
        return
    yield from (Finding("models", "ok", f"fill.adapter: {source.path}") for source in sources)


def _storage(config: RecaptureConfig) -> Iterator[Finding]:
    for setting, url in (("store", config.store), ("outputs", config.outputs), ("state", config.state)):
        try:
            check_writable(setting, url)
        except UserError as error:
            message, _, way_out = str(error).rpartition("; ")
            yield Finding(setting, "fail", message, way_out)
        else:
            yield Finding(setting, "ok", f"{url} is writable")


def _disk(config: RecaptureConfig) -> Iterator[Finding]:
    places: dict[int, list[str]] = {}
    for url in (config.store, config.outputs, config.state, os.environ.get("TMPDIR", "/tmp")):
        path = Path(url.removeprefix("file://"))
        if "://" not in str(url).removeprefix("file://") and path.exists():
            places.setdefault(path.stat().st_dev, []).append(str(path))
    for names in places.values():
        free = shutil.disk_usage(names[0]).free / GIB
        message = f"{free:.0f} GiB free for {', '.join(names)}"
        if free < TOO_LITTLE_GIB:
            yield Finding(
                "disk", "fail", message, "free space, or set store, outputs or TMPDIR to another place"
            )
        elif free < SCARCE_GIB:
            yield Finding("disk", "warn", message, "a large dataset will not fit; set store to another place")
        else:
            yield Finding("disk", "ok", message)
