"""Self-iterative tuning: small camera moves first, then the tuned model's own output as the next data."""

from __future__ import annotations

from prefect import flow

from recapture.conf.schema import RecaptureConfig
from recapture.flows.tune_job import TuneJob
from recapture.models.tuning.curriculum import Round
from recapture.tasks.tune.rounds import first_round
from recapture.tasks.tune.summary import BASE, TUNED, TuneSummary


@flow(name="train-iterative", flow_run_name="{config.dataset.name}", persist_result=False)
def train_iterative(config: RecaptureConfig) -> TuneSummary:
    """Tune adapters over a dataset, round by round; what is there already is not done again.

    Each round: pairs of every clip, training on those of all rounds so far, and a look at how well the
    result recaptures at larger angles, which decides on the next. A bad clip never stops the others.
    """
    tune = config.tune
    with TuneJob(config) as job:
        job.lift()
        one: Round | None = first_round(tune.curriculum)
        while one is not None:
            job.make_pairs(one)
            if job.number == 0:
                job.explore(BASE, tune.explore.angles)
            trained = job.train(one)
            one = job.next_round(one) if trained else None
        if tune.scope == "both":
            job.touch_up()
        job.explore(TUNED, tune.explore.angles)
        job.deliver()
    return job.finish()
