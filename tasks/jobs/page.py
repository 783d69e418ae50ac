"""The results page of a job over clips: from its summary to the files beside its results."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import yaml

from recapture.conf.redact import credentials_remover, without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.mlflow_link import code_version
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.deliver import CAMERAS, PATH, SHEET, SIDE_BY_SIDE
from recapture.tasks.jobs.summary import JobSummary
from recapture.tasks.report.page import index_page
from recapture.tasks.report.record import DELIVERED, DROPPED, MISSING, Report, Videos
from recapture.tasks.report.write import record_job

logger = logging.getLogger(__name__)


def write_page(
    config: RecaptureConfig,
    summary: JobSummary,
    params: Iterable[ClipParams],
    ready: Sequence[Item],
    flow: str,
    run_id: str,
) -> str | None:
    """Write the page of a job that has ended, and its record; return the page for MLflow.

    None if no page is wanted, or if it cannot be written: results never depend on it.
    """
    if not config.deliver.page:
        return None
    try:
        report = report_of(config, summary, params, ready, flow, run_id)
        summary.page = record_job(f"{config.outputs.rstrip('/')}/{config.dataset.name}", report)
        return index_page(report, linked=False)
    except Exception as error:
        problem = without_credentials(str(error)) or type(error).__name__
        summary.warnings.append(f"the results page could not be written: {problem}; run the job again")
        logger.warning("the results page could not be written: %s", problem, exc_info=error)
        return None


def report_of(
    config: RecaptureConfig,
    summary: JobSummary,
    params: Iterable[ClipParams],
    ready: Sequence[Item],
    flow: str,
    run_id: str,
) -> Report:
    """Return the report of a job; params: of all wanted videos, ready: the delivered items."""
    clean = credentials_remover()
    keys = {item.name: item.key for item in ready}
    reasons = {one.item: f"{one.stage}: {clean(one.error)}" for one in summary.failures}
    videos = Videos()
    for one in params:
        status, reason = _state(one, keys, summary.dropped, reasons)
        measured = summary.metrics.get(one.name) or summary.previewed.get(one.name, {})
        videos.add(one.clip_id, one.label, keys.get(one.name, ""), status, reason, measured)
    return Report(
        run_id,
        flow,
        config.dataset.name,
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00",
        summary.seconds,
        summary.clips,
        summary.wanted,
        summary.delivered,
        share=config.dataset.share,
        mlflow_run=summary.mlflow_run,
        code=code_version(),
        settings=clean(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)),
        files=_files(config, summary),
        stages=[_stage(name, counts, summary.stage_seconds) for name, counts in summary.counts.items()],
        warnings=[clean(warning) for warning in summary.warnings],
        failures=[
            {"item": one.item, "stage": one.stage, "error": clean(one.error)} for one in summary.failures
        ],
        videos=videos,
    )


def _state(
    one: ClipParams, keys: Collection[str], dropped: Collection[str], reasons: Mapping[str, str]
) -> tuple[str, str]:
    if one.name in keys:
        return DELIVERED, ""
    if one.name in dropped or one.clip_id in dropped:
        return DROPPED, "dropped by `recapture quarantine drop`"
    unknown = "what it is made from is missing; see Missing on the page of the dataset"
    return MISSING, reasons.get(one.name) or reasons.get(one.clip_id) or unknown


def _files(config: RecaptureConfig, summary: JobSummary) -> tuple[str, ...]:
    """Return the files of a video's folder that its page links to."""
    if summary.last_stage == "preview":
        return "preview.mp4", SHEET, PATH, CAMERAS
    both = (SIDE_BY_SIDE,) if config.deliver.side_by_side else ()
    return config.deliver.file, *both, SHEET, PATH, CAMERAS


def _stage(name: str, counts: Mapping[str, int], seconds: Mapping[str, float]) -> dict[str, str | float]:
    failed = counts.get("error", 0) + counts.get("quarantined", 0)
    made, reused, blocked = (counts.get(status, 0) for status in ("ok", "reused", "blocked"))
    row = {"made": made, "reused": reused, "failed": failed, "blocked": blocked}
    return {"stage": name, **row, "seconds": round(seconds.get(name, 0.0), 3)}
