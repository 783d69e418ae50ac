"""`recapture models convert-adapter`: an adapter in the names that another program reads."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Dialect(StrEnum):
    """The names of the result."""

    comfyui = "comfyui"
    original = "original"
    diffusers = "diffusers"


TO_HELP = (
    "comfyui: diffusion_model. names with lora_down, lora_up and alpha (ComfyUI, VideoX-Fun); "
    "original: Wan's bare names with lora_A and lora_B (DiffSynth); diffusers: for load_lora_weights."
)


def convert_adapter(
    source: Annotated[
        str,
        typer.Argument(help="LoRA file of any maker, or folder with one or a pair; path or fsspec URL."),
    ],
    target: Annotated[
        str,
        typer.Argument(help="File to write; a pair becomes NAME_high_noise and NAME_low_noise."),
    ],
    to: Annotated[Dialect, typer.Option(help=TO_HELP)] = Dialect.comfyui,
) -> None:
    """Rewrite an adapter in the names that other programs read; the weight change stays the same."""
    from recapture.datasets.store.storage import open_filesystem, put_file
    from recapture.tasks.clip.convert_adapter import converted

    for path, content in converted(source, target, to.value).items():
        filesystem, root = open_filesystem(path)
        put_file(filesystem, root, content)
        typer.echo(f"written: {path}")
