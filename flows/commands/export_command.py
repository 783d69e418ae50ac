"""The command `recapture export`: what may be said on the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recapture.flows.commands.settings import Dataset, config_of, pattern_of


def export(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", help="ply or nerfstudio.")],
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="A path or fsspec URL.")],
    name: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="Short for --dataset.name.", show_default=False)
    ] = None,
    clips: Annotated[str, typer.Option("--clips", metavar="GLOB", help="Which, such as 'bmx/*'.")] = "*",
    trajectory: Annotated[
        list[str] | None,
        typer.Option("--trajectory", metavar="GLOB", help="Which, by default all; may be repeated."),
    ] = None,
    every: Annotated[int, typer.Option("--every", help="Every n-th frame of clouds and pictures.")] = 1,
    dataset: Dataset = None,
) -> None:
    """Export point clouds, depth, cameras and videos of finished clips for other tools."""
    chosen = pattern_of(context, name)
    if chosen is not None:
        context.args += ["--dataset.name", chosen]
    settings = config_of(context, None, dataset)
    from recapture.flows.commands.export import ExportOptions, export_dataset

    options = ExportOptions(to, output, clips, tuple(trajectory or ("*",)), every)
    sys.exit(1 if export_dataset(settings, options) else 0)
