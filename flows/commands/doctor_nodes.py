"""The checks of `recapture doctor` on the nodes of a Ray cluster: same versions, same storage."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.readers.scan import located
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.flows.commands.finding import Finding

PATIENCE_SECONDS = 60
SHARED = "mount it on all nodes, or use object storage, with its credentials on all nodes"


def check_nodes(config: RecaptureConfig) -> Iterator[Finding]:
    """Yield whether every node of the connected cluster has this package and reaches dataset and storage.

    Each node is asked by a task that takes no CPU. What is written here, in store and outputs, has to be
    seen there. A node that does not answer is a warning: it may be starting.
    """
    import ray

    nodes = {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}
    with _probes({"store": config.store, "outputs": config.outputs}) as probes:
        answers = _ask(nodes, {"dataset.uri": _absolute(located(config.dataset.uri)), **probes})
        here, fine = _versions(), 0
        for address, answer in answers:
            try:
                found = ray.get(answer, timeout=0)
            except Exception as error:
                yield _no_answer(
                    address, error, "fail" if isinstance(error, ray.exceptions.RayTaskError) else "warn"
                )
                continue
            problems = list(_problems(address, found, here))
            fine += not problems
            yield from problems
    if fine:
        told = f"{fine} of {len(nodes)} have this package and see the dataset"
        yield Finding("nodes", "ok", " and ".join([told, *(f"what is written to {name}" for name in probes)]))


def _ask(nodes: Mapping[str, str], places: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Return the address of each node and a reference to its answer, when all have answered or time is up."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = [
        (
            address,
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(places),
        )
        for node, address in nodes.items()
    ]
    ray.wait([answer for _, answer in asked], num_returns=len(asked), timeout=PATIENCE_SECONDS)
    return asked


@contextmanager
def _probes(folders: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Write a small file into each folder that can be written; yield setting -> its URL, and remove them."""
    written = {}
    for setting, url in folders.items():
        filesystem, path = open_filesystem(url)
        probe = f"{path}/.probe-{uuid4().hex}"
        with suppress(Exception):  # the check of store and outputs says why
            filesystem.makedirs(path, exist_ok=True)
            put_file(filesystem, probe, b"recapture")
            written[setting] = filesystem.unstrip_protocol(probe)
    try:
        yield written
    finally:
        for url in written.values():
            filesystem, path = open_filesystem(url)
            with suppress(OSError):
                filesystem.rm_file(path)


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).absolute())


def _no_answer(address: str, error: Exception, status: Literal["warn", "fail"]) -> Finding:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    way_out = "install the same package on every node; `ray status` shows nodes that are starting"
    return Finding("nodes", status, f"{address} does not answer: {reason}", way_out)


def _problems(address: str, found: dict[str, Any], here: dict[str, str]) -> Iterator[Finding]:
    other = [f"{name} {found['versions'][name]}" for name in here if found["versions"][name] != here[name]]
    if other:
        ours = ", ".join(f"{name} {here[name]}" for name in here)
        way_out = "use one image, or one environment, for driver and nodes"
        yield Finding("nodes", "fail", f"{address} has {', '.join(other)}; here: {ours}", way_out)
    for setting, reason in found["missing"].items():
        yield Finding("nodes", "fail", f"{address}: {setting}: {reason}", SHARED)


def _versions() -> dict[str, str]:
    """Return what has to be equal on all nodes: artifacts depend on it, or Ray refuses the rest."""
    return {
        "recapture": version("recapture"),
        "torch": version("torch").partition("+")[0],
        "python": ".".join(map(str, sys.version_info[:2])),
    }


def _look(places: Mapping[str, str]) -> dict[str, Any]:
    """Return, on a node, its versions and which places it does not see, with the reason."""
    missing = {}
    for setting, url in places.items():
        if url.startswith("scenes://"):
            continue
        try:
            filesystem, path = open_filesystem(url)
            if not filesystem.exists(path):
                missing[setting] = f"{url} does not exist there"
        except Exception as error:
            missing[setting] = f"{url} cannot be read there: {type(error).__name__}: {error}"
    return {"versions": _versions(), "missing": missing}
