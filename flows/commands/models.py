"""`recapture models`: look at model files, and convert them to what the settings take."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recapture.models.wan.check import Report

models_app = typer.Typer(help="Check and convert model files and adapters.", no_args_is_help=True)


@models_app.callback()
def models() -> None:
    """Keep the group a group, however many commands it has."""


@models_app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Files or folders of models, their parts and adapters.")
    ],
) -> None:
    """Say what model files are, what is missing, which settings use them, and what memory they take.

    Only headers are read. The exit code is 1 if one of them cannot be used as it is.
    """
    settings: dict[str, str] = {}
    usable = True
    for path in paths:
        found = _report(path)
        typer.echo(f"{path}: {found.what}")
        for line in found.lines:
            typer.echo(f"  {line}")
        for fault in found.faults:
            typer.secho(f"  {fault}", fg="red")
        usable = usable and not found.faults
        if not found.faults:
            twice = settings.get("fill.base") if "fill.base" in found.settings else None
            settings |= found.settings if twice is None else {"fill.base_2": str(path)}
    if settings:
        options = " ".join(f"--{name} {shlex.quote(value)}" for name, value in settings.items())
        profile = "--profile wan " if "fill.base" in settings else ""
        typer.echo(f"use: recapture run {profile}{options}")
    raise typer.Exit(0 if usable else 1)


@models_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of a base in Wan's original layout.")],
    target: Annotated[Path, typer.Argument(help="Diffusers directory to write.")],
) -> None:
    """Convert a base in its authors' layout, with .pth files, to a diffusers directory in safetensors.

    Pickles are read as tensors alone: nothing in them is run.
    """
    from recapture.conf.errors import UserError
    from recapture.models.wan.convert import convert_base
    from recapture.models.wan.tensor_files import CheckpointError

    try:
        for step in convert_base(source, target):
            typer.echo(step)
    except (CheckpointError, OSError) as error:
        raise UserError(str(error)) from None


def _report(path: Path) -> Report:
    from recapture.models.wan.check import Report, check_model

    if not path.exists() and not path.is_symlink():
        return Report("nothing", faults=(f"{path} does not exist",))
    if (depth := _depth_model(path)) is not None:
        return depth
    return check_model(path)


def _depth_model(path: Path) -> Report | None:
    """Return the report of a depth model's folder; None for anything else."""
    from recapture.models.wan.check import Report
    from recapture.models.wan.checkpoint import read_json, weight_files
    from recapture.models.wan.tensor_files import CheckpointError

    if not (path / "config.json").is_file():
        return None
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES

    try:
        kind = read_json(path / "config.json").get("model_type")
        if kind not in MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES:
            return None
        stored = sum(file.stat().st_size for file in weight_files(path, "model"))
    except CheckpointError as error:
        return Report("a depth model", faults=(str(error).removeprefix("base: "),))
    lines = (f"weights: {stored / 1e6:,.1f} MB",)
    return Report(f"a depth model of kind {kind}", {"depth.model": str(path)}, lines)
