"""The commands of operation: quarantine, replay, manifest and gc."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from recapture.flows.commands.settings import (
    SETTINGS,
    SETTINGS_HELP,
    Dataset,
    Job,
    Json,
    Profile,
    WithSettings,
    config_of,
    pattern_of,
)

quarantine_app = typer.Typer(help="List, retry or drop items that failed for good.", no_args_is_help=True)
manifest_app = typer.Typer(help="Check and compact the tables of what jobs have made.", no_args_is_help=True)
PATTERN_HELP = "Glob over items or clips, such as 'bmx/*', or the beginning of a key."
Pattern = Annotated[str | None, typer.Argument(help=PATTERN_HELP)]
All = Annotated[bool, typer.Option("--all", help="All quarantined items; dropped ones must be named.")]


@quarantine_app.command("ls", cls=WithSettings, context_settings=SETTINGS)
def quarantine_ls(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, as_json: Json = False
) -> None:
    """List quarantined and dropped items with the reason and the way out."""
    from recapture.flows.commands.quarantine import print_quarantine

    print_quarantine(config_of(context, profile, dataset), as_json)


@quarantine_app.command("show", cls=WithSettings, context_settings=SETTINGS)
def quarantine_show(
    context: typer.Context,
    pattern: Pattern = None,
    profile: Profile = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> None:
    """Print all that is known about a failure, with its traceback."""
    from recapture.flows.commands.quarantine import show_quarantined

    pattern = pattern_of(context, pattern)
    settings = config_of(context, profile, dataset)
    show_quarantined(settings, pattern, as_json)


@quarantine_app.command("retry", cls=WithSettings, context_settings=SETTINGS)
def quarantine_retry(
    context: typer.Context,
    pattern: Pattern = None,
    everything: All = False,
    profile: Profile = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> None:
    """Let the next run try items again."""
    from recapture.flows.commands.quarantine import retry_quarantined

    pattern = pattern_of(context, pattern)
    settings = config_of(context, profile, dataset)
    retry_quarantined(settings, pattern, everything, as_json)


@quarantine_app.command("drop", cls=WithSettings, context_settings=SETTINGS)
def quarantine_drop(
    context: typer.Context,
    pattern: Pattern = None,
    everything: All = False,
    profile: Profile = None,
    dataset: Dataset = None,
    as_json: Json = False,
) -> None:
    """Exclude items from all jobs; they no longer count as missing."""
    from recapture.flows.commands.quarantine import drop_quarantined

    pattern = pattern_of(context, pattern)
    settings = config_of(context, profile, dataset)
    drop_quarantined(settings, pattern, everything, as_json)


@manifest_app.command("verify", cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP)
def manifest_verify(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete damaged artifacts, so that the next run makes them again."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify every artifact that the manifests list, byte by byte; exit code 1 if one is damaged."""
    from recapture.flows.commands.upkeep import verify_manifests

    sys.exit(verify_manifests(config_of(context, profile, dataset), delete, as_json))


@manifest_app.command("compact", cls=WithSettings, context_settings=SETTINGS, epilog=SETTINGS_HELP)
def manifest_compact(
    context: typer.Context, profile: Profile = None, dataset: Dataset = None, as_json: Json = False
) -> None:
    """Merge the small Parquet files of each stage into one; no row is lost."""
    from recapture.flows.commands.upkeep import compact_manifests

    compact_manifests(config_of(context, profile, dataset), as_json)


def gc(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be deleted, and delete nothing.")
    ] = False,
    older_than_hours: Annotated[
        float,
        typer.Option(
            min=0, help="Only delete artifacts older than this; a running job may be writing newer ones."
        ),
    ] = 24.0,
    old_settings: Annotated[
        bool,
        typer.Option("--old-settings", help="Also delete artifacts that these settings no longer use."),
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(help="With --old-settings: another profile whose artifacts are kept; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete artifacts that no manifest in the store lists, and leftovers of killed jobs."""
    from recapture.conf.errors import UserError
    from recapture.flows.commands.upkeep import collect_garbage

    if also and not old_settings:
        raise UserError("--also names what --old-settings keeps; give both or neither")
    config = config_of(context, profile, dataset)
    kept = [config, *(config_of(context, other, dataset) for other in also or ())] if old_settings else []
    collect_garbage(config, older_than_hours, dry_run, as_json, kept)


def replay(
    context: typer.Context,
    clip: Annotated[str, typer.Option(help="CLIP, or CLIP@TRAJECTORY if it has several.")],
    stage: Annotated[str, typer.Option(help="Stage to run again, such as fill.")],
    profile: Profile = None,
    dataset: Dataset = None,
    job: Job = "recapture",
) -> None:
    """Run one stage of one item again here, with a full traceback; the store changes only on success."""
    from recapture.flows.commands.replay import replay as run_again
    from recapture.flows.environment import QUIET

    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    sys.exit(run_again(config_of(context, profile, dataset), clip, stage, job))
