"""Motion transfer: what moves in a reference clip moves in another scene."""

from __future__ import annotations

from prefect import flow

from recapture.conf.schema import RecaptureConfig
from recapture.flows.run_job import run_job
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.transfer.summary import TransferSummary
from recapture.tasks.transfer.transferring import Transfer


@keeping_secrets
@flow(name="transfer", flow_run_name="{config.dataset.name}", persist_result=False)
def transfer(config: RecaptureConfig) -> TransferSummary:
    """Tune a motion adapter on every reference, and have every target perform its motion.

    References are encoded with copies in other colours and places, and tuned on; targets are sampled with
    the adapter, measured beside the base without it, and delivered. With transfer.camera two_passes, the
    results are then filmed along the trajectories. Artifacts that exist are reused; a bad clip never stops
    the others.
    """
    return run_job(Transfer(config))
