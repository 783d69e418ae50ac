"""The `recapture` command. Heavy libraries are imported inside the commands: --help answers at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig

app = typer.Typer(
    name="recapture",
    help="Film a dataset of single-camera videos again along new camera trajectories.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
quarantine_app = typer.Typer(
    help="Items that failed for good, and what to do with them.", no_args_is_help=True
)
app.add_typer(quarantine_app, name="quarantine")

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
SETTINGS_HELP = "Any setting can follow as --section.key VALUE; `recapture config` prints them all."
Profile = Annotated[
    str | None, typer.Option("--profile", "-p", help="A name under conf/profile, or a YAML file.")
]
Dataset = Annotated[str | None, typer.Option("--dataset", "-d", help="A YAML file layered over the profile.")]
Key = Annotated[str, typer.Argument(help="The item's key, or the beginning of it.")]


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def run(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Recapture a dataset: ingest, depth, render, fill, measure, deliver."""
    _run_flow(_config(context, profile, dataset), "recapture")


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def preview(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Render the trajectories without any model: warped video, visibility, path, holes a frame."""
    _run_flow(_config(context, profile, dataset), "preview")


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def plan(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Say what a run would do: new, reused and quarantined items, and how long it may take."""
    from recapture.flows.inspect import print_plan

    print_plan(_config(context, profile, dataset))


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def status(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Say what the manifests hold: items by stage and state, failures, the last measurements."""
    from recapture.flows.inspect import print_status

    print_status(_config(context, profile, dataset))


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def config(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Print every setting of a job, after all layers."""
    import yaml

    settings = _config(context, profile, dataset).model_dump(mode="json")
    typer.echo(yaml.safe_dump(settings, sort_keys=False), nl=False)


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def ui(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's dashboard.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's dashboard.")] = 5000,
) -> None:
    """Serve Prefect's and MLflow's dashboards on loopback until interrupted."""
    settings = _config(context, profile, dataset)
    _prepare(settings)
    from recapture.flows.dashboards import serve_dashboards

    sys.exit(serve_dashboards(settings, prefect_port, mlflow_port))


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def doctor(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Check versions, devices, the store, the dataset and the servers that a job would use."""
    settings = _config(context, profile, dataset)
    _prepare(settings)
    from recapture.flows.doctor import run_checks

    sys.exit(run_checks(settings))


@quarantine_app.command("ls", context_settings=SETTINGS)
def quarantine_ls(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """List quarantined and dropped items with their reasons."""
    from recapture.flows.inspect import print_quarantine

    print_quarantine(_config(context, profile, dataset))


@quarantine_app.command("show", context_settings=SETTINGS)
def quarantine_show(
    context: typer.Context, key: Key, profile: Profile = None, dataset: Dataset = None
) -> None:
    """Print everything that is known of one failure."""
    from recapture.flows.inspect import show_quarantined

    sys.exit(show_quarantined(_config(context, profile, dataset), key))


@quarantine_app.command("retry", context_settings=SETTINGS)
def quarantine_retry(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="A key, the beginning of one, or 'all'.")],
    profile: Profile = None,
    dataset: Dataset = None,
) -> None:
    """Let the next run try again."""
    from recapture.flows.inspect import retry_quarantined

    sys.exit(retry_quarantined(_config(context, profile, dataset), key))


@quarantine_app.command("drop", context_settings=SETTINGS)
def quarantine_drop(
    context: typer.Context, key: Key, profile: Profile = None, dataset: Dataset = None
) -> None:
    """Leave an item out for good; it no longer counts as missing."""
    from recapture.flows.inspect import drop_quarantined

    sys.exit(drop_quarantined(_config(context, profile, dataset), key))


def main() -> None:
    """Run the command line; what the user can mend is one message on standard error and exit code 2."""
    from recapture.conf.load import UserError

    try:
        app()
    except UserError as error:
        typer.secho(f"recapture: {error}", fg="red", err=True)
        sys.exit(2)


def _config(context: typer.Context, profile: str | None, dataset: str | None) -> RecaptureConfig:
    from recapture.conf.load import load_config

    return load_config(profile, dataset, environment=os.environ, arguments=context.args)


def _prepare(config: RecaptureConfig) -> None:
    from recapture.flows.environment import prepare_environment

    prepare_environment(config)


def _run_flow(config: RecaptureConfig, name: str) -> None:
    _prepare(config)
    from recapture.flows import preview as preview_flow
    from recapture.flows import recapture as recapture_flow
    from recapture.flows.progress import print_summary

    flow = {"recapture": recapture_flow.recapture, "preview": preview_flow.preview}[name]
    summary = flow(config)
    print_summary(summary, config)
    sys.exit(0 if summary.acceptable else 1)


if __name__ == "__main__":
    main()
