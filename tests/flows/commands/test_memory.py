"""What doctor and plan say about memory, on GPUs that are only said to be there."""

import pytest

from recapture.conf.load import load_config
from recapture.datasets.clips.clip import Clip
from recapture.flows.commands import memory
from recapture.flows.commands.memory import check_memory
from recapture.models.wan.footprint import GIB

ON_GPU = ("--execution.resources", "{fill: {gpus: 1}}")


def config(*words):
    return load_config(arguments=["--dataset.uri", "scenes://", "--ingest.short_side", "480", *words])


def clip(height, width, frames=49):
    return Clip("a", "a.mp4", "video", "25", frames, width, height, frames / 25, False, "", "0")


@pytest.fixture()
def gpus(monkeypatch):
    """Say that the machine has GPUs of these (free, total) GiB."""

    def say(*sizes):
        monkeypatch.setattr(memory, "gpu_memory", lambda: [(int(f * GIB), int(t * GIB)) for f, t in sizes])

    return say


def test_every_gpu_is_told_what_the_base_takes_there(gpus):
    gpus((80, 80), (4, 24))
    first, second = check_memory(config(*ON_GPU))
    assert (first.status, second.status) == ("ok", "ok")
    assert first.message.startswith("GPU 0: fill.memory gpu, text encoder on the GPU: ")
    assert "of 80.0 GiB, for clips of 49x480x864 (otherwise offload " in first.message


def test_a_base_that_does_not_fit_is_refused_with_the_numbers_and_the_way_out(gpus):
    gpus((0.2, 24))
    (found,) = check_memory(config(*ON_GPU, "--fill.memory", "gpu"))
    assert found.status == "fail" and "GPU 0: fill.memory gpu: the base takes " in found.message
    assert "0.2 GiB are free" in found.message and found.way_out


def test_a_worker_with_part_of_a_gpu_counts_on_its_part(gpus):
    gpus((80, 80))
    large = [clip(2160, 3840, frames=49)]
    unscaled = ("--ingest.short_side", "null")
    (whole,) = check_memory(config(*ON_GPU, *unscaled), large)
    (part,) = check_memory(config("--execution.resources", "{fill: {gpus: 0.01}}", *unscaled), large)
    assert whole.status == "ok" and "49x2160x3840" in whole.message
    assert part.status == "fail" and "0.8 GiB are free" in part.message


def test_without_a_gpu_the_memory_of_the_machine_counts(gpus):
    gpus()
    (found,) = check_memory(config(*ON_GPU))
    assert found.status == "ok" and found.message.startswith("fill on CPUs: the base takes ")
    assert not list(check_memory(config("--fill.method", "classical")))
