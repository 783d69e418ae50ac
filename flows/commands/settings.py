"""What the commands share: their options, and the settings that may follow any of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
SETTINGS_HELP = "Any setting can follow as --section.key VALUE; `recapture config` prints them all."
Profile = Annotated[
    str | None, typer.Option("--profile", "-p", help="A name under conf/profile, or a YAML file.")
]
Dataset = Annotated[str | None, typer.Option("--dataset", "-d", help="A YAML file layered over the profile.")]
Method = Annotated[
    str | None, typer.Option("--method", "-m", help="Short for --fill.method: base, inverse or classical.")
]
Job = Annotated[str, typer.Option("--job", help="Which job: recapture (run), inpaint or preview.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config_of(
    context: typer.Context, profile: str | None, dataset: str | None, method: str | None = None
) -> RecaptureConfig:
    from recapture.conf.load import load_config

    short = [] if method is None else ["--fill.method", method]
    return load_config(profile, dataset, environment=os.environ, arguments=[*short, *context.args])


def pattern_of(
    context: typer.Context, first: str | None, profile: str | None, dataset: str | None
) -> tuple[str | None, RecaptureConfig]:
    """Tell the pattern from the settings: typer takes the first word for it, be it `--section.key`."""
    words = ([] if first is None else [first]) + context.args
    for place, word in enumerate(words):
        follows_a_setting = place > 0 and words[place - 1].startswith("--") and "=" not in words[place - 1]
        if not word.startswith("--") and not follows_a_setting:
            context.args = words[:place] + words[place + 1 :]
            return word, config_of(context, profile, dataset)
    context.args = words
    return None, config_of(context, profile, dataset)
