"""Pre-train the embedded base: autoencoder, inpainter with text, depth; each is judged before the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from recapture.conf.pretrain import PARTS, PretrainConfig
from recapture.flows.environment import tracking_destination
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.engine.mlflow_link import Tracker, code_version, start_run
from recapture.tasks.pretrain.curves import curve, file_log
from recapture.tasks.pretrain.export import export_parts
from recapture.tasks.pretrain.gates import GateFailed, check
from recapture.tasks.pretrain.judge import judge, sample_grid
from recapture.tasks.pretrain.parts import Pretraining
from recapture.tasks.pretrain.summary import Pretrained


@keeping_secrets
@flow(name="pretrain", flow_run_name="seed {config.seed}", persist_result=False)
def pretrain(config: PretrainConfig) -> Pretrained:
    """Train the parts that are not trained yet, judge them, and export them.

    A part resumes from its last checkpoint. Raises GateFailed, naming part, gate, value and bound, before
    anything is built on a part that misses a gate, unless gates.enforce is false.
    """
    run = Pretraining(config)
    tags = {"flow": "pretrain", **code_version()}
    uri, root = tracking_destination(config)
    tracker = start_run(uri, "pretrain", f"pretrain, seed {config.seed}", tags, artifact_root=root)
    tracker.params(config.flat())
    tracker.text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "config.yaml")
    result = Pretrained(config)
    try:
        for part in PARTS:
            train = train_part.with_options(name=part, task_run_name=part)
            result.scores[part] = train(run, part, tracker, tags)
            check(config, part, result.scores[part])
        export_parts(run, result.scores, Path(config.output))
        result.exported = True
    except GateFailed:
        remember(result, tracker, failed=True)
        raise
    except BaseException:
        tracker.finish(failed=True)
        raise
    remember(result, tracker, failed=False)
    return result


@task(cache_policy=NO_CACHE, persist_result=False)
def train_part(run: Pretraining, part: str, tracker: Tracker, tags: Mapping[str, str]) -> dict[str, float]:
    """Train and judge one part; log its curve from the first step on, its scores and samples."""
    child = tracker.child(part, {**tags, "part": part})
    to_file, before = file_log(run.folder, part), curve(run.folder, part)
    for step, values in before.items():
        child.metrics(values, step)

    def log(step: int, values: Mapping[str, float]) -> None:
        to_file(step, values)
        if step not in before:
            child.metrics(values, step)

    try:
        if not run.finished(part):
            run.train(part, log)
        scores = run.scores(part, judge)
        child.metrics(scores)
        child.image(sample_grid(run, part), part)
    except BaseException:
        child.finish(failed=True)
        raise
    child.finish()
    return scores


def remember(result: Pretrained, tracker: Tracker, *, failed: bool) -> None:
    """Record the summary in MLflow and Prefect."""
    tracker.text(result.markdown(), "summary.md")
    tracker.tags({"gates_missed": ", ".join(f"{gate.part}/{gate.name}" for gate in result.missed)})
    tracker.finish(failed=failed)
    create_markdown_artifact(markdown=result.markdown(), key="pretrain-summary")
