"""Self-iterative tuning: small camera moves first, then the tuned model's own output as the next data."""

from __future__ import annotations

from prefect import flow

from recapture.conf.schema import RecaptureConfig
from recapture.flows.run_job import run_job
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.tune.summary import TuneSummary
from recapture.tasks.tune.tuning import Tuning


@keeping_secrets
@flow(name="train-iterative", flow_run_name="{config.dataset.name}", persist_result=False)
def train_iterative(config: RecaptureConfig) -> TuneSummary:
    """Tune adapters over a dataset, round by round; artifacts that exist already are reused.

    Each round makes pairs of every clip, trains on those of all rounds so far, and measures how well the
    result recaptures at larger angles, which determines the next round. A bad clip never stops the others.
    """
    return run_job(Tuning(config))
