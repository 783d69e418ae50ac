"""The `recapture` command. Heavy libraries are imported inside the commands: --help answers at once."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if not __package__:  # run as a script: Python put this folder on the path, with recapture.py in it
    _here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _here]
    if (_here.parent / "src/recapture").is_dir():
        sys.path.insert(0, str(_here.parent / "src"))

import typer

from recapture.flows.commands import cameras as cli_cameras
from recapture.flows.commands import operating as cli_operating
from recapture.flows.commands.settings import (
    SETTINGS,
    SETTINGS_HELP,
    Dataset,
    Job,
    Json,
    Method,
    Profile,
    config_of,
)

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig
    from recapture.flows.environment import Settings

app = typer.Typer(
    name="recapture",
    help="Film a dataset of single-camera videos again along new camera trajectories.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(cli_operating.quarantine_app, name="quarantine")
app.add_typer(cli_operating.manifest_app, name="manifest")
app.add_typer(cli_cameras.cameras_app, name="cameras")
app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)(cli_operating.replay)
app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)(cli_operating.gc)

PRETRAIN_HELP = (
    "Any setting can follow as --section.key VALUE; `recapture pretrain --print-config` prints them."
)
PretrainFile = Annotated[str | None, typer.Option("--config", "-c", help="A YAML file of settings.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print every setting, and do nothing.")]


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def run(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, method: Method = None
) -> None:
    """Recapture a dataset: ingest, depth, render, fill, measure, deliver."""
    _run_flow(config_of(context, profile, dataset, method), "recapture")


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def inpaint(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, method: Method = None
) -> None:
    """Redraw what a mask shows, under the clip's own cameras: removal, outpainting, editing by prompt."""
    from recapture.tasks.jobs.job import inpaint_stages

    settings = config_of(context, profile, dataset, method)
    inpaint_stages(settings)  # says that no mask is set before Prefect makes a traceback of it
    _run_flow(settings, "inpaint")


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def preview(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Render the trajectories without any model: warped video, visibility, path, holes a frame."""
    _run_flow(config_of(context, profile, dataset), "preview")


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def plan(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    job: Job = "recapture",
    as_json: Json = False,
) -> None:
    """Say what a run would do: new, reused and quarantined items, and how long it may take."""
    from recapture.flows.commands.plan import print_plan

    print_plan(config_of(context, profile, dataset), as_json, job)


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def status(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, as_json: Json = False
) -> None:
    """Say how the last jobs ended, what they made, the last measurements, and where everything is."""
    from recapture.flows.commands.status import print_status

    print_status(config_of(context, profile, dataset), as_json)


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def config(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Print every setting of a job, after all layers."""
    import yaml

    settings = config_of(context, profile, dataset).model_dump(mode="json")
    typer.echo(yaml.safe_dump(settings, sort_keys=False), nl=False)


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def train(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Tune a LoRA adapter of the base on a dataset, in rounds of growing camera moves."""
    settings = config_of(context, profile, dataset)
    # What the user can mend is one line here; Prefect's UI keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    settings = _prepare(settings)
    from recapture.flows.commands.tuned import print_tuned
    from recapture.flows.train_iterative import train_iterative

    summary = train_iterative(settings)
    print_tuned(summary, settings)
    sys.exit(0 if summary.acceptable else 1)


@app.command(context_settings=SETTINGS, epilog=PRETRAIN_HELP)
def pretrain(context: typer.Context, config: PretrainFile = None, print_config: PrintConfig = False) -> None:
    """Train the embedded base and depth model on procedural scenes, judge and export them."""
    from recapture.conf.load import load_pretrain_config

    settings = load_pretrain_config(config, environment=os.environ, arguments=context.args)
    if print_config:
        import yaml

        typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    # A failed gate is one line here; Prefect's UI keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    settings = _prepare(settings)
    from recapture.flows.pretrain import pretrain as flow
    from recapture.tasks.pretrain.gates import GateFailed

    try:
        result = flow(settings)
    except GateFailed as failed:
        typer.secho(f"recapture: {failed}", fg="red", err=True)
        sys.exit(1)
    typer.echo("\n".join(result.lines()))


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def ui(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's dashboard.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's dashboard.")] = 5000,
) -> None:
    """Serve Prefect's and MLflow's dashboards on loopback until interrupted."""
    settings = _prepare(config_of(context, profile, dataset))
    from recapture.flows.commands.ui import serve_dashboards

    sys.exit(serve_dashboards(settings, prefect_port, mlflow_port))


@app.command(context_settings=SETTINGS, epilog=SETTINGS_HELP)
def doctor(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, as_json: Json = False
) -> None:
    """Check versions, devices, the store, the dataset and the servers that a job would use."""
    from recapture.conf.errors import UserError
    from recapture.flows.commands.doctor import run_checks

    try:
        settings = config_of(context, profile, dataset)
    except UserError as error:
        sys.exit(run_checks(None, str(error), as_json))
    sys.exit(run_checks(settings, "", as_json))


def main() -> None:
    """Run the command line; what the user can mend is one message on standard error and exit code 2."""
    from recapture.conf.errors import UserError

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # else what a job has started would outlive it
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        app(prog_name="recapture")
    except UserError as error:
        typer.secho(f"recapture: {error}", fg="red", err=True)
        sys.exit(2)
    except OSError as error:
        from recapture.datasets.store.storage import StoreFailed

        if not isinstance(error, StoreFailed):
            raise
        typer.secho(f"recapture: {error}", fg="red", err=True)
        sys.exit(1)


def _prepare(config: Settings) -> Settings:
    from recapture.flows.environment import prepare_environment, without_database_password

    prepare_environment(config)
    return without_database_password(config)


def _run_flow(config: RecaptureConfig, name: str) -> None:
    config = _prepare(config)
    from recapture.flows.commands.progress import print_summary
    from recapture.flows.inpaint import inpaint
    from recapture.flows.preview import preview
    from recapture.flows.recapture_dataset import recapture

    flow = {"recapture": recapture, "inpaint": inpaint, "preview": preview}[name]
    summary = flow(config)
    print_summary(summary, config)
    sys.exit(0 if summary.acceptable else 1)


if __name__ == "__main__":
    main()
