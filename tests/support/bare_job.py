"""A small whole job, stage after stage in one process, without Prefect and MLflow: it takes seconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from uuid import uuid4

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs.job import ClipJob, recapture_stages

SCENES = "scenes://?count={count}&seed=3&frames=5&height=32&width=48"


def configure(root, *words, count=2):
    """Return the settings of a job over a few procedural clips, everything of it below `root`.

    words: further settings. Without any, no baselines are measured and no side-by-side video is delivered.
    """
    return load_config(
        arguments=[
            *("--dataset.name", "small", "--dataset.uri", SCENES.format(count=count)),
            *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
            *("--execution.executor", "inline", "--tracking.enabled", "false", "--fill.method", "classical"),
            *("--depth.source", "given", "--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
            *("--measure.baselines", "false", "--deliver.side_by_side", "false"),
            *words,
        ]
    )


def run_bare(config, stages=None):
    """Run all stages, by default those of a recapture job, in this process; return stage -> its outcomes."""
    job = ClipJob.of(config, stages or recapture_stages(config))
    store, run_id, outcomes = ArtifactStore(config.store), uuid4().hex[:12], {}
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        policy = retry_policy(config.execution)
        context = RunContext(store, executor, config.dataset.name, run_id, policy)
        for plan in job.plans():
            plan.outcomes += run_stage(plan.stage, plan.items, context)
            outcomes[plan.stage.name] = outcomes.get(plan.stage.name, []) + plan.outcomes
    return outcomes


def counts(outcomes):
    """Return stage -> status -> how many."""
    return {stage: dict(Counter(outcome.status for outcome in made)) for stage, made in outcomes.items()}


def artifacts(root):
    """Return path -> bytes of every file of an artifact below a local store; left-overs have dots."""
    files = sorted(Path(root, "artifacts/objects").rglob("*"))
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in files
        if path.is_file() and not path.name.startswith(".")
    }
