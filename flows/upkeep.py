"""`recapture manifest` and `recapture gc`: check, compact and clean a store."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from recapture.conf.load import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.manifest import ManifestDamaged, compact, stages
from recapture.datasets.store import ArtifactStore
from recapture.datasets.upkeep import Problem, garbage, remove, verify

MIB = 2**20


def verify_manifests(config: RecaptureConfig, delete: bool = False, as_json: bool = False) -> int:
    """Read every artifact that the dataset's manifests promise; return 1 when one is not as it was written.

    delete: remove the damaged ones, so that the next run makes them again.
    """
    console, problems, promised = Console(), list[Problem](), 0
    try:
        for stage, count, found in verify(config.store, config.dataset.name):
            promised += count
            problems += found
            if not as_json:
                console.print(f"{stage}: {count - len(found)} of {count} whole", highlight=False)
                for problem in found:
                    line = f"[red]{problem.what}[/red] {escape(problem.item)}: {escape(problem.message)}"
                    console.print(line, highlight=False, soft_wrap=True)
    except ManifestDamaged as error:
        raise UserError(str(error)) from None
    store = ArtifactStore(config.store)
    damaged = [problem for problem in problems if problem.what == "damaged"]
    for problem in damaged if delete else ():
        store.delete(problem.stage, problem.key)
    if as_json:
        record = {"promised": promised, "problems": [asdict(problem) for problem in problems]}
        print(json.dumps(record, indent=1))
    elif problems:
        way_out = "the next run makes them again" if delete or not damaged else "--delete removes the damaged"
        console.print(f"{len(problems)} of {promised} artifacts are not as they were written; {way_out}")
    return int(bool(problems))


def compact_manifests(config: RecaptureConfig, as_json: bool = False) -> None:
    """Write one part for the many of each stage of the dataset."""
    dataset = config.dataset.name
    try:
        merged = {stage: compact(config.store, dataset, stage) for stage in stages(config.store, dataset)}
    except ManifestDamaged as error:
        raise UserError(str(error)) from None
    if as_json:
        print(json.dumps(merged))
        return
    for stage, parts in merged.items():
        print(f"{stage}: {parts} parts are one now" if parts else f"{stage}: nothing to do")
    if not merged:
        print(f"{dataset}: no manifest in {config.store}")


def collect_garbage(
    config: RecaptureConfig, older_than_hours: float, dry_run: bool, as_json: bool = False
) -> None:
    """Delete, or with dry_run only list, what no dataset's manifest in the store names any more."""
    try:
        found = garbage(config.store, older_than_hours)
    except ManifestDamaged as error:
        raise UserError(f"nothing was deleted: {error}") from None
    for item in () if dry_run else found:
        remove(config.store, item)
    if as_json:
        print(json.dumps([asdict(item) for item in found], indent=1))
        return
    for item in found:
        print(f"{item.path}: {item.bytes / MIB:.1f} MiB, {item.why}")
    total = sum(item.bytes for item in found) / MIB
    print(f"{len(found)} {'would be' if dry_run else 'were'} deleted, {total:.1f} MiB")
