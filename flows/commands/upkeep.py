"""`recapture manifest` and `recapture gc`: check, compact and clean a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials, without_credentials_inside
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.lease import STALE_SECONDS, leases
from recapture.datasets.store.manifest import ManifestDamaged, compact, stages
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.upkeep import (
    Problem,
    garbage,
    remove,
    remove_superseded,
    superseded,
    verify,
)
from recapture.flows.jobs import AnyJob, kinds_of, planned, surveyed
from recapture.tasks.engine.planner import supposed

MIB = 2**20


def verify_manifests(config: RecaptureConfig, delete: bool = False, as_json: bool = False) -> int:
    """Read every artifact that the dataset's manifests list; return 1 if one differs from what was written.

    delete: remove damaged artifacts, so that the next run makes them again.
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
        way_out = (
            "the next run makes them again" if delete or not damaged else "--delete removes damaged ones"
        )
        console.print(f"{len(problems)} of {promised} artifacts differ from what was written; {way_out}")
    return int(bool(problems))


def compact_manifests(config: RecaptureConfig, as_json: bool = False) -> None:
    """Merge the manifest parts of each stage of the dataset into one."""
    dataset = config.dataset.name
    try:
        merged = {stage: compact(config.store, dataset, stage) for stage in stages(config.store, dataset)}
    except ManifestDamaged as error:
        raise UserError(str(error)) from None
    if as_json:
        print(json.dumps(merged))
        return
    for stage, parts in merged.items():
        print(f"{stage}: {parts} parts merged into one" if parts else f"{stage}: nothing to do")
    if not merged:
        print(f"{dataset}: no manifest in {without_credentials(config.store)}")


def collect_garbage(
    config: RecaptureConfig,
    older_than_hours: float,
    dry_run: bool,
    as_json: bool = False,
    kept: Sequence[RecaptureConfig] = (),
) -> None:
    """Delete, or with dry_run only list, artifacts that no dataset's manifest in the store names.

    kept: settings of jobs over the dataset; if there are any, artifacts that none of them needs go too.
    """
    try:
        running = [one for one in leases(config.store) if one.live]
        if kept and (own := [one for one in running if one.dataset == config.dataset.name]):
            raise UserError(
                f"nothing was deleted: job {own[0].run_id} over {config.dataset.name} is running and may use "
                f"what --old-settings deletes; wait for its end, or {STALE_SECONDS / 60:.0f} minutes if it "
                "was killed"
            )
        found = garbage(config.store, older_than_hours)
        needed = _needed(kept)
        old = superseded(config.store, config.dataset.name, needed, older_than_hours) if needed else []
        if not dry_run:
            for item in found:
                remove(config.store, item)
            remove_superseded(config.store, old)
    except ManifestDamaged as error:
        raise UserError(f"nothing was deleted: {error}") from None
    found += old
    if as_json:
        print(json.dumps(without_credentials_inside([asdict(item) for item in found]), indent=1))
        return
    for item in found:
        print(f"{without_credentials(item.path)}: {item.bytes / MIB:.1f} MiB, {item.why}")
    for one in running:
        print(f"kept: what job {one.run_id} over {one.dataset} has made; it is running")
    total = sum(item.bytes for item in found) / MIB
    print(f"{len(found)} {'would be' if dry_run else 'were'} deleted, {total:.1f} MiB")


def _needed(kept: Sequence[RecaptureConfig]) -> dict[str, set[str]]:
    """Return stage -> the keys that jobs with any of these settings need.

    Raises UserError if a clip cannot be read: its artifacts would be taken for those of old settings.
    """
    needed: dict[str, set[str]] = {}
    for config in kept:
        dataset = config.dataset.model_copy(
            update={"where": "*", "limit": None}
        )  # these restrict single runs only
        whole = config.model_copy(update={"dataset": dataset})
        for kind in kinds_of(whole):
            job = planned(whole, kind)
            _refuse_unreadable(job)
            for plans in (supposed(job.plans()), [one.plan for one in surveyed(whole, kind)[1]]):
                for plan in plans:  # items that follow a missing one have other keys
                    needed.setdefault(plan.stage.name, set()).update(item.key for item in plan.items)
    return needed


def _refuse_unreadable(job: AnyJob) -> None:
    if job.rejected:
        names = ", ".join(clip.id for clip in job.rejected[:5])
        raise UserError(
            f"nothing was deleted: {len(job.rejected)} clips of {job.config.dataset.name} cannot be read "
            f"({names}), so the artifacts they need are unknown; fix or remove them, see `recapture plan`"
        )
