"""Start the flow of a job over clips, print what it comes to, and exit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig
    from recapture.flows.environment import Settings


def prepare(config: Settings) -> Settings:
    """Set what Prefect, Ray and MLflow read at import; return the settings without a database's password."""
    from recapture.flows.environment import prepare_environment, without_database_password

    prepare_environment(config)
    return without_database_password(config)


def run_flow(config: RecaptureConfig, name: str) -> NoReturn:
    """Run a flow and exit: with 0, or with 1 if too many videos are missing.

    name: recapture, inpaint or preview. Raises UserError for a model or a file that does not exist.
    """
    from recapture.tasks.jobs.check import check_named_files

    check_named_files(config, name)  # before Prefect would start a server, and print a traceback
    config = prepare(config)
    from recapture.flows.commands.recaptured import print_summary
    from recapture.flows.inpaint import inpaint
    from recapture.flows.preview import preview
    from recapture.flows.recapture_dataset import recapture

    flow = {"recapture": recapture, "inpaint": inpaint, "preview": preview}[name]
    summary = flow(config)
    print_summary(summary, config)
    sys.exit(0 if summary.acceptable else 1)
