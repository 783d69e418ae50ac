"""A small finished job with its published videos, and a finished tuning, in seconds and without Prefect."""

from support.bare_job import configure, run_bare
from support.plans import planned

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.jobs.publish import publish
from recapture.tasks.tune.deliver import deliver_report
from recapture.tasks.tune.summary import BASE, TUNED, Explored, TuneSummary


def finished_job(root, *words, name="holidays"):
    """Run a job over two scenes and publish its videos below `root`; return its settings."""
    config = configure(root, "--dataset.name", name, *words)
    outcomes = run_bare(config)
    metrics = {outcome.item: dict(outcome.metrics) for outcome in outcomes["measure"]}
    items = planned(config).items("deliver")
    publish("deliver", items, metrics, ArtifactStore(config.store), f"{config.outputs}/{name}")
    return config


def finished_tuning(config):
    """Write the report of a tuning that gains 1 dB at 20 degrees and 0.5 dB at 40."""
    summary = TuneSummary(config.dataset.name, clips=1)
    for label, scores in ((BASE, (20.0, 18.0)), (TUNED, (21.0, 18.5))):
        for angle, score in zip((20.0, 40.0), scores):
            summary.explored.append(Explored(label, "a", angle, {"hole_psnr": score}))
    deliver_report(f"{config.outputs}/{config.dataset.name}", summary, {})
