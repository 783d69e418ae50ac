"""Whole jobs over S3, by HTTP: as on a local disk, and when it is slow, throttled, cut off or closed."""

import uuid

import fsspec
import pytest
from support.bare_job import artifacts, configure, counts, run_bare
from support.faulty_proxy import faulty_proxy

from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.storage import StoreBusy, open_filesystem
from recapture.tasks.engine.retry import StageSick

STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]
CHEAP = ("--measure.chunk", "9", "--deliver.crf", "30")


@pytest.fixture
def proxy(s3_endpoint, monkeypatch):
    """S3 behind a proxy that can be told to fail."""
    with faulty_proxy(s3_endpoint) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries five times on top
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield between
        between.fault = lambda method, path: None
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def job(proxy, tmp_path):
    """A job whose store and outputs are in a new bucket."""
    bucket = f"test-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    tries = ("--execution.attempts", "1")
    words = ("--store", f"s3://{bucket}/artifacts", "--outputs", f"s3://{bucket}/outputs", *CHEAP, *tries)
    return configure(tmp_path, *words, count=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    run_bare(configure(root, *CHEAP, count=1))
    return artifacts(root)


def stored(config):
    filesystem, base = open_filesystem(config.store)
    found = filesystem.find(f"{base}/objects")
    return {path[len(base) + 1 - len("artifacts/") :]: filesystem.cat_file(path) for path in found}


def test_a_job_over_s3_makes_the_same_bytes_as_on_a_local_disk_and_is_reused(job, undisturbed):
    assert counts(run_bare(job)) == {stage: {"ok": 1} for stage in STAGES}
    assert stored(job) == undisturbed
    assert counts(run_bare(job)) == {stage: {"reused": 1} for stage in STAGES}
    assert [len(read_manifest(job.store, "small", stage)) for stage in STAGES] == [1] * 6


def test_a_job_in_memory_makes_the_same_bytes_too(tmp_path, undisturbed):
    config = configure(tmp_path, "--store", f"memory://test-{uuid.uuid4().hex}/artifacts", *CHEAP, count=1)
    run_bare(config)
    assert stored(config) == undisturbed
    assert counts(run_bare(config)) == {stage: {"reused": 1} for stage in STAGES}


def test_storage_that_fails_in_every_way_stops_or_slows_the_job_and_blames_no_clip(job, proxy, undisturbed):
    # Away for good: the job ends with an error that a scheduler may try again.
    proxy.fault = for_writes({"depth": ("503", 99)})
    with pytest.raises(StoreBusy, match=r"cannot be written: .*reduce your request rate.*; run the job"):
        run_bare(job)

    # Closed, as when credentials end: the job ends and says what to renew.
    proxy.fault = for_writes({"fill": ("expired", 99)})
    with pytest.raises(StageSick, match=r"stage 'fill' cannot work: .*; make it writable, or renew the cred"):
        run_bare(job)

    # What passes by is waited for.
    passing = {"fill": ("503", 2), "measure": ("slow", 1), "deliver": ("drop", 2)}
    proxy.fault, proxy.faults = for_writes(passing), []
    done = counts(run_bare(job))
    assert sorted(fault for fault, _, _ in proxy.faults) == ["503", "503", "drop", "drop", "slow"]
    assert [stage for stage in STAGES if done[stage] == {"reused": 1}] == ["ingest", "depth", "render"]
    assert stored(job) == undisturbed
    assert Quarantine(job.store, "small").entries() == []


def for_writes(faults):
    """Faults of the first writes of stages: stage -> (what becomes of them, of how many)."""
    left = {stage: times for stage, (_, times) in faults.items()}

    def fault(method, path):
        stage = next((stage for stage in faults if f"/objects/{stage}" in path), None)
        if method != "PUT" or stage is None or not left[stage]:
            return None
        left[stage] -= 1
        return faults[stage][0]

    return fault
