"""`recapture quarantine`: items that failed for good, why, and what to do with them."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.quarantine import Quarantine, Quarantined

SHOWN_KEY = 10
WAYS_OUT = {
    "OutOfMemoryError": "more memory, or a smaller ingest.short_side, window or batch; then retry",
    "WorkerLost": "it kills its worker: look at it with --execution.executor inline; retry or drop",
    "WorkerHung": "raise execution.timeout_seconds, then retry; or drop",
    "ClipError": "mend the file (its new content is a new key, so it runs by itself), or drop",
    "ArtifactError": "delete the parent's artifact so that it is made again, then retry",
}
WAY_OUT = "mend what the error says, then retry; or drop"


def way_out(entry: Quarantined) -> str:
    """Say what can be done about an entry."""
    if entry.state == "dropped":
        return "dropped for good; retry takes it back"
    return WAYS_OUT.get(entry.error_type, WAY_OUT)


def select(quarantine: Quarantine, pattern: str | None, everything: bool) -> list[Quarantined]:
    """Return the entries that a pattern means: a glob over items or clips, else the beginning of a key.

    everything: all that are quarantined; what somebody dropped is only meant by its own name.
    Raises UserError when nothing is meant.
    """
    if (pattern is None) != everything:
        raise UserError("say which items: a pattern such as 'bmx/*', the beginning of a key, or --all")
    if pattern is None:
        return [entry for entry in quarantine.entries() if entry.state == "quarantined"]
    entries = quarantine.entries()
    named = [
        entry
        for entry in entries
        if fnmatch.fnmatchcase(entry.item, pattern) or fnmatch.fnmatchcase(entry.clip_id, pattern)
    ]
    found = named or quarantine.matching(pattern)
    if not found:
        raise UserError(
            f"nothing in quarantine is called {pattern!r}; `recapture quarantine ls` lists all {len(entries)}"
        )
    return found


def print_quarantine(config: RecaptureConfig, as_json: bool = False) -> None:
    """List every entry with its reason and the way out."""
    entries = Quarantine(config.store, config.dataset.name).entries()
    if as_json:
        print(json.dumps([asdict(entry) | {"way_out": way_out(entry)} for entry in entries], indent=1))
        return
    console = Console()
    if not entries:
        console.print(f"{config.dataset.name}: nothing is in quarantine")
        return
    for entry in entries:
        colour = "red" if entry.state == "quarantined" else "dim"
        console.print(
            f"[{colour}]{entry.state}[/{colour}] [bold]{escape(entry.item)}[/bold] at {entry.stage}, "
            f"key {entry.key[:SHOWN_KEY]}, {entry.attempts} attempts",
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"    {escape(f'{entry.error_type}: {entry.error}')}", highlight=False, soft_wrap=True)
        console.print(f"    way out: {way_out(entry)}", highlight=False, soft_wrap=True)


def show_quarantined(config: RecaptureConfig, pattern: str | None, as_json: bool = False) -> None:
    """Print everything that is known of the entries that a pattern means."""
    entries = select(Quarantine(config.store, config.dataset.name), pattern, everything=False)
    if as_json:
        print(json.dumps([asdict(entry) | {"way_out": way_out(entry)} for entry in entries], indent=1))
        return
    console = Console()
    for entry in entries:
        table = Table(show_header=False, box=None)
        for name, value in asdict(entry).items():
            if name != "traceback":
                table.add_row(name, escape(str(value)))
        table.add_row("way out", way_out(entry))
        console.print(table)
        if entry.traceback:
            console.print(escape(entry.traceback), highlight=False, soft_wrap=True)


def retry_quarantined(
    config: RecaptureConfig, pattern: str | None, everything: bool, as_json: bool = False
) -> None:
    """Forget the entries that are meant: the next run tries them again."""
    quarantine = Quarantine(config.store, config.dataset.name)
    chosen = select(quarantine, pattern, everything)
    for entry in chosen:
        quarantine.retry(entry)
    _say("the next run tries again", chosen, as_json)


def drop_quarantined(
    config: RecaptureConfig, pattern: str | None, everything: bool, as_json: bool = False
) -> None:
    """Leave the entries that are meant out of every job."""
    quarantine = Quarantine(config.store, config.dataset.name)
    chosen = select(quarantine, pattern, everything)
    for entry in chosen:
        quarantine.drop(entry)
    _say("left out from now on", chosen, as_json)


def _say(what: str, entries: list[Quarantined], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"item": entry.item, "stage": entry.stage, "key": entry.key} for entry in entries]))
        return
    for entry in entries:
        print(f"{what}: {entry.item} at {entry.stage}")
    if not entries:
        print("nothing is in quarantine")
