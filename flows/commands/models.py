"""`recapture models`: look at model files, and convert them to what the settings take."""

from __future__ import annotations

import typer

models_app = typer.Typer(help="Check and convert model files and adapters.", no_args_is_help=True)


@models_app.callback()
def models() -> None:
    """Keep the group a group, however many commands it has."""
