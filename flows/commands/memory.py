"""What `recapture doctor` and `recapture plan` say about memory: the base's, on each GPU that is here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip
from recapture.flows.commands.finding import Finding
from recapture.models.wan.memory import free_on_host, gigabytes
from recapture.tasks.clip.base_memory import Forecast, base_footprint, forecast_memory, largest_size
from recapture.tasks.jobs.stage_resources import stage_resources

WAY_OUT = "`recapture models check` looks at a model's files"


def check_memory(config: RecaptureConfig, clips: Sequence[Clip] = ()) -> Iterator[Finding]:
    """Yield, for each GPU that the fill may use here, what `fill.memory` takes; for a CPU, what it needs.

    clips: the largest of them is estimated; without any, a wide clip at ingest.short_side.
    """
    if config.fill.method == "classical":
        return
    try:
        found = base_footprint(config.fill)
    except UserError as error:
        yield Finding("memory", "fail", str(error), WAY_OUT)
        return
    share = stage_resources(config, "fill").gpus
    gpus = gpu_memory() if share > 0 else []
    if not gpus:
        host = free_on_host()
        message = f"fill on CPUs: the base takes {gigabytes(found.weights)}, {gigabytes(host)} are free"
        fits = found.weights <= host
        way_out = "" if fits else "use a machine with more memory, a GPU, or a smaller base"
        yield Finding("memory", "ok" if fits else "warn", message, way_out)
        return
    size = largest_size(config, clips)
    for number, (free, total) in enumerate(gpus):
        forecast = forecast_memory(config.fill, size, min(free, int(total * min(1.0, share))))
        yield _finding(f"GPU {number}", forecast, total)


def gpu_memory() -> list[tuple[int, int]]:
    """Return (free, total) bytes of each GPU of this machine."""
    import torch

    return [torch.cuda.mem_get_info(number) for number in range(torch.cuda.device_count())]


def _finding(gpu: str, forecast: Forecast, total: int) -> Finding:
    if forecast.chosen is None:
        problem, _, way_out = forecast.error.partition("; ")
        return Finding("memory", "fail", f"{gpu}: {problem}", way_out)
    chosen = forecast.chosen
    others = ", ".join(
        f"{mode} {gigabytes(one.needed)}" for mode, one in forecast.modes.items() if mode != chosen.mode
    )
    message = f"{gpu}: fill.memory {chosen}: {gigabytes(chosen.needed)} of {gigabytes(total)}"
    if chosen.host:
        message += f", {gigabytes(chosen.host)} of the host's memory"
    return Finding("memory", "ok", f"{message}, for clips of {forecast.size} (otherwise {others})")
