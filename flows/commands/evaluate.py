"""The command `recapture evaluate`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recapture.flows.commands.settings import Dataset, Profile, config_of


def evaluate(
    context: typer.Context,
    protocol: Annotated[str, typer.Option(help="kubric4d, pardom or dycheck.")],
    results: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Videos to score, named as the scenes.")
    ] = None,
    truth: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The true videos, or the dataset that has them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the method in the table; by default that of the folder.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="METRIC", help="Leave a metric out.")] = None,
    profile: Profile = None,
    dataset: Dataset = None,
) -> None:
    """Score a folder of videos by a published protocol, beside the papers' numbers."""
    settings = config_of(context, profile, dataset)
    from recapture.flows.commands.evaluated import Given
    from recapture.flows.commands.evaluated import evaluate as score

    sys.exit(0 if score(settings, protocol, Given(results, truth, name, tuple(without or ()))) else 1)
