"""The `recapture` command. Heavy libraries are imported inside the commands: --help answers at once."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

if not __package__:  # run as a script: Python put this folder on the path, with recapture.py in it
    _here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _here]
    if (_here.parent / "src/recapture").is_dir():
        sys.path.insert(0, str(_here.parent / "src"))

import typer

from recapture.flows.commands import cameras as cli_cameras
from recapture.flows.commands import convert_adapter as cli_convert_adapter
from recapture.flows.commands import demo as cli_demo
from recapture.flows.commands import deployments as cli_deployments
from recapture.flows.commands import evaluate as cli_evaluate
from recapture.flows.commands import export_command as cli_export
from recapture.flows.commands import models as cli_models
from recapture.flows.commands import operating as cli_operating
from recapture.flows.commands import settings as cli_settings
from recapture.flows.commands import studio as cli_studio
from recapture.flows.commands.settings import (
    SETTINGS,
    SETTINGS_HELP,
    Dataset,
    Job,
    Json,
    Method,
    Profile,
    WithSettings,
    config_of,
    pattern_of,
)
from recapture.flows.commands.start import prepare, run_flow

JOBS, INSPECT, MAINTAIN = "Jobs", "Inspect", "Maintain"
app = typer.Typer(name="recapture", no_args_is_help=True, pretty_exceptions_enable=False)
PRETRAIN_HELP = (
    "Any setting may follow as --section.key VALUE; `recapture settings pretrain` describes them all."
)
PretrainFile = Annotated[str | None, typer.Option("--config", "-c", help="YAML file of settings.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the settings and exit.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from recapture import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Film a dataset of single-camera videos again along new camera trajectories."""


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)
def run(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, method: Method = None
) -> None:
    """Recapture a dataset: ingest, depth, render, fill, measure, deliver."""
    run_flow(config_of(context, profile, dataset, method), "recapture")


app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)(
    cli_demo.demo
)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)
def inpaint(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, method: Method = None
) -> None:
    """Redraw what a mask covers, under the clip's own cameras: removal, outpainting, editing by prompt."""
    from recapture.tasks.jobs.job import inpaint_stages

    settings = config_of(context, profile, dataset, method)
    inpaint_stages(settings)  # raises UserError without a mask, before Prefect would print a traceback
    run_flow(settings, "inpaint")


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)
def preview(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Render the trajectories without filling: warped video, visibility, camera path, holes per frame."""
    run_flow(config_of(context, profile, dataset), "preview")


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)
def train(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Tune a LoRA adapter of the base on a dataset, in rounds of growing camera moves."""
    settings = config_of(context, profile, dataset)
    # An error that the user can fix is one line here; Prefect's UI keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    settings = prepare(settings)
    from recapture.flows.commands.tuned import print_tuned
    from recapture.flows.train_iterative import train_iterative

    summary = train_iterative(settings)
    print_tuned(summary, settings)
    sys.exit(0 if summary.acceptable else 1)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=JOBS)
def transfer(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Transfer the motion of reference clips to the scenes of a dataset."""
    settings = config_of(context, profile, dataset)
    # An error that the user can fix is one line here; Prefect's UI keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    settings = prepare(settings)
    from recapture.flows.commands.transferred import print_transferred
    from recapture.flows.transfer import transfer as flow

    summary = flow(settings)
    print_transferred(summary, settings)
    sys.exit(0 if summary.acceptable else 1)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=PRETRAIN_HELP, rich_help_panel=JOBS)
def pretrain(context: typer.Context, config: PretrainFile = None, print_config: PrintConfig = False) -> None:
    """Train the embedded base and depth model on procedural scenes, evaluate and export them."""
    from recapture.conf.load import load_pretrain_config

    settings = load_pretrain_config(config, environment=os.environ, arguments=context.args)
    if print_config:
        import yaml

        from recapture.conf.redact import without_credentials

        written = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        typer.echo(without_credentials(written), nl=False)
        return
    # A failed gate is one line here; Prefect's UI keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    settings = prepare(settings)
    from recapture.flows.pretrain import pretrain as flow
    from recapture.tasks.pretrain.gates import GateFailed

    try:
        result = flow(settings)
    except GateFailed as failed:
        typer.secho(f"recapture: {failed}", fg="red", err=True)
        sys.exit(1)
    typer.echo("\n".join(result.lines()))


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def plan(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    job: Job = "recapture",
    as_json: Json = False,
) -> None:
    """Show what a run would do: new, reused and quarantined items, and the expected time."""
    from recapture.flows.commands.plan import print_plan

    print_plan(config_of(context, profile, dataset), as_json, job)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def status(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    as_json: Json = False,
    explain: Annotated[bool, typer.Option("--explain", help="Define the metrics.")] = False,
) -> None:
    """Show the last jobs, their results and measurements, and where outputs are stored."""
    from recapture.flows.commands.status import print_status

    print_status(config_of(context, profile, dataset), as_json, explain)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def config(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Print the values of all settings after all layers, as YAML."""
    import yaml

    from recapture.conf.redact import without_credentials

    settings = config_of(context, profile, dataset).model_dump(mode="json")
    typer.echo(without_credentials(yaml.safe_dump(settings, sort_keys=False)), nl=False)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def ui(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's dashboard.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's dashboard.")] = 5000,
    results_port: Annotated[int, typer.Option(help="Port of the results pages.")] = 8080,
) -> None:
    """Serve the results pages and Prefect's and MLflow's dashboards on loopback until interrupted."""
    settings = prepare(config_of(context, profile, dataset))
    from recapture.flows.commands.ui import serve_dashboards

    sys.exit(serve_dashboards(settings, prefect_port, mlflow_port, results_port))


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def report(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="Short for --dataset.name.", show_default=False)
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Compare with this earlier run, or its beginning.")
    ] = None,
    profile: Profile = None,
    dataset: Dataset = None,
) -> None:
    """Make the results page of a dataset anew; with --against, compare its last job with an earlier one."""
    chosen = pattern_of(context, name)
    if chosen is not None:
        context.args += ["--dataset.name", chosen]
    settings = config_of(context, profile, dataset)
    from recapture.flows.commands.report import make_report

    make_report(settings, against)


@app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)
def doctor(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, as_json: Json = False
) -> None:
    """Check the versions, devices, storage, dataset and servers that a job would use."""
    from recapture.conf.errors import UserError
    from recapture.flows.commands.doctor import run_checks

    try:
        settings = config_of(context, profile, dataset)
    except UserError as error:
        sys.exit(run_checks(None, str(error), as_json))
    sys.exit(run_checks(settings, "", as_json))


for command in (cli_evaluate.evaluate, cli_export.export, cli_studio.studio):
    app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=INSPECT)(
        command
    )
app.command(rich_help_panel=INSPECT)(cli_settings.settings)
app.add_typer(cli_operating.quarantine_app, name="quarantine", rich_help_panel=MAINTAIN)
app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=MAINTAIN)(
    cli_operating.replay
)
app.add_typer(cli_operating.manifest_app, name="manifest", rich_help_panel=MAINTAIN)
for upkeep in (cli_operating.gc, cli_deployments.deployments):
    app.command(cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP, rich_help_panel=MAINTAIN)(
        upkeep
    )
app.add_typer(cli_cameras.cameras_app, name="cameras", rich_help_panel=MAINTAIN)
cli_models.models_app.command("convert-adapter")(cli_convert_adapter.convert_adapter)
app.add_typer(cli_models.models_app, name="models", rich_help_panel=MAINTAIN)


def main() -> None:
    """Run the command line; errors that the user can fix are one message on standard error, exit code 2."""
    from recapture.conf.errors import UserError

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # otherwise the processes of a job would outlive it
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        app(prog_name="recapture")
    except UserError as error:
        _end(f"recapture: {error}", 2)
    except Exception as error:
        from recapture.datasets.store.storage import StoreFailed

        expected = isinstance(error, StoreFailed)
        _end(f"recapture: {error}" if expected else traceback.format_exc().rstrip(), 1)


def _end(message: str, code: int) -> NoReturn:
    """Print a message without credentials on standard error, and exit."""
    from recapture.conf.redact import without_credentials

    typer.secho(without_credentials(message), fg="red", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
