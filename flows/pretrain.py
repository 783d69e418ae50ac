"""Pre-train the embedded base: autoencoder, inpainter with text, depth; each judged before the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from recapture.conf.pretrain import PARTS, PretrainConfig
from recapture.flows.environment import tracking_destination
from recapture.tasks.pretrain import Pretraining, file_log
from recapture.tasks.pretrain_export import export_parts
from recapture.tasks.pretrain_judge import judge, sample_grid
from recapture.tasks.tracking import Tracker, start_run


@flow(name="pretrain", flow_run_name="seed {config.seed}", persist_result=False)
def pretrain(config: PretrainConfig) -> dict[str, dict[str, float]]:
    """Train what is not trained yet, judge it, and export it; return the scores of each part.

    A part resumes from its last checkpoint. Raises GateFailed, naming gate and value, before anything is
    built on a part that falls short.
    """
    run = Pretraining(config)
    uri, root = tracking_destination(config)
    tracker = start_run(uri, "pretrain", f"seed {config.seed}", {"flow": "pretrain"}, artifact_root=root)
    tracker.params(config.model_dump(mode="json"))
    scores = {}
    try:
        for part in PARTS:
            one = train_part.with_options(name=part, task_run_name=part)
            scores[part] = one(run, part, tracker)
        summary = export_parts(run, scores, Path(config.output))
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.text(summary, "summary.md")
    tracker.finish()
    create_markdown_artifact(markdown=summary, key="pretrain-summary")
    return scores


@task(cache_policy=NO_CACHE, persist_result=False)
def train_part(run: Pretraining, part: str, tracker: Tracker) -> dict[str, float]:
    """Train one part to its end, log its curve and a grid of samples, and hold it to its gates."""
    child = tracker.child(part, {"part": part})
    to_file = file_log(run.folder / "log.jsonl", part)

    def log(step: int, values: Mapping[str, float]) -> None:
        to_file(step, values)
        child.metrics(values, step)

    try:
        if not run.finished(part):
            run.train(part, log)
        scores = run.scores(part, judge)
        child.metrics(scores)
        child.image(sample_grid(run, part), part)
        run.check(part, scores)
    except BaseException:
        child.finish(failed=True)
        raise
    child.finish()
    return scores
