"""`recapture demo`: recapture the bundled sample clips, from any folder and without any file of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from recapture.flows.commands.settings import config_of
from recapture.flows.commands.start import run_flow


def demo(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would do, as `recapture plan` does.")
    ] = False,
) -> None:
    """Recapture the bundled sample clips along two trajectories each; results are below ./outputs."""
    settings = config_of(context, "demo", None)
    if dry_run:
        from recapture.flows.commands.plan import print_plan

        print_plan(settings, False, "recapture")
        return
    run_flow(settings, "recapture")
