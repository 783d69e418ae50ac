"""Options that commands share, settings that may follow them, and the command that describes settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
SETTINGS_HELP = "Any setting may follow as --section.key VALUE; `recapture settings` describes them all."
Profile = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Settings to start from: demo, wan, cluster or a YAML file."),
]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", "-d", metavar="FILE", help="YAML file of settings, layered over the profile."),
]
Method = Annotated[
    str | None, typer.Option("--method", "-m", help="Short for --fill.method: base, inverse or classical.")
]
Job = Annotated[
    str, typer.Option("--job", help="Which job: recapture (run), inpaint, preview, train or transfer.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class WithSettings(typer.core.TyperCommand):
    """A command that settings may follow; a value that begins with a dash, as -p does, stays a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(word.startswith("--") and "=" not in word for word in args):
            from recapture.conf.pretrain import PretrainConfig
            from recapture.conf.schema import RecaptureConfig
            from recapture.conf.words import joined

            args = joined(args, PretrainConfig if ctx.info_name == "pretrain" else RecaptureConfig)
        return super().parse_args(ctx, args)


def config_of(
    context: typer.Context, profile: str | None, dataset: str | None, method: str | None = None
) -> RecaptureConfig:
    """Return the configuration of all layers; settings are the words that no option has taken."""
    from recapture.conf.load import load_config
    from recapture.conf.redact import remember_credentials

    short = [] if method is None else ["--fill.method", method]
    words = [*short, *context.args]
    remember_credentials(*words, *os.environ.values())
    config = load_config(profile, dataset, environment=os.environ, arguments=words)
    remember_credentials(repr(config))
    return config


def pattern_of(context: typer.Context, first: str | None) -> str | None:
    """Return the pattern among the words of a command, and leave its settings in `context.args`.

    Typer assigns the first word that it does not know to the pattern, also when that is a setting. Raises
    ConfigError for more than one pattern.
    """
    from recapture.conf.errors import ConfigError
    from recapture.conf.schema import RecaptureConfig
    from recapture.conf.words import split_words

    words = ([] if first is None else [first]) + context.args
    context.args, patterns = split_words(words, RecaptureConfig)
    if len(patterns) > 1:
        raise ConfigError(f"{patterns[0]!r} and {patterns[1]!r} cannot both be meant; give one pattern")
    return patterns[0] if patterns else None


def settings(
    section: Annotated[
        str | None,
        typer.Argument(
            help="A section such as fill, part of a name, or pretrain; all of a job's by default."
        ),
    ] = None,
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """Describe settings: name, type, bounds, default and meaning."""
    from recapture.conf import describe

    if as_markdown:
        typer.echo(describe.markdown(), nl=False)
        return
    found = describe.chosen(section)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    for one in found:
        heading, description = one.lines()
        name, _, facts = heading.partition("  ")
        typer.echo(f"{typer.style(name, bold=True)}  {facts}\n{description}")
