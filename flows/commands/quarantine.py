"""`recapture quarantine`: list, retry and drop items that failed for good."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.errors import UserError
from recapture.conf.redact import credentials_remover, without_credentials_inside
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.quarantine import Quarantine, Quarantined

SHOWN_KEY = 10
WAYS_OUT = {
    "OutOfMemoryError": "use more memory, or a smaller ingest.short_side, window or batch; then retry",
    "WorkerLost": "it kills its worker: run it with --execution.executor inline; retry or drop",
    "WorkerHung": "raise execution.timeout_seconds, then retry; or drop",
    "ClipError": "fix the file (its new content has a new key, so the next run takes it), or drop",
    "ArtifactError": "`recapture manifest verify --delete` removes the damaged artifact; then retry",
}
WAY_OUT = "fix what the error names, then retry; or drop"


def way_out(entry: Quarantined) -> str:
    """Return what can be done about an entry."""
    if entry.state == "dropped":
        return "dropped; retry takes it back"
    return WAYS_OUT.get(entry.error_type, WAY_OUT)


def select(quarantine: Quarantine, pattern: str | None, everything: bool = False) -> list[Quarantined]:
    """Return the entries to retry or drop: those that match a pattern, or all that are quarantined.

    Dropped entries must be named by item, clip or a key of their own; a glob or `everything` leaves them out.
    Raises UserError if nothing matches.
    """
    if (pattern is None) != everything:
        raise UserError("name the items: a pattern such as 'bmx/*', the beginning of a key, or --all")
    entries = quarantine.entries()
    if pattern is None:
        return [entry for entry in entries if entry.state == "quarantined"]
    named = [entry for entry in entries if pattern in (entry.item, entry.clip_id)]
    matching = named or find(quarantine, pattern)
    if not named and len(matching) > 1:
        matching = [entry for entry in matching if entry.state == "quarantined"]
    if not matching:
        raise UserError(
            f"every item that matches {pattern!r} is dropped; name each as `recapture quarantine ls` does"
        )
    return matching


def find(quarantine: Quarantine, pattern: str) -> list[Quarantined]:
    """Return the entries that match a glob over items or clips, else those whose key begins with it.

    Raises UserError if nothing matches.
    """
    entries = quarantine.entries()
    found = [
        entry
        for entry in entries
        if any(fnmatch.fnmatchcase(name, pattern) for name in (entry.item, entry.clip_id))
    ] or quarantine.matching(pattern)
    if not found:
        raise UserError(
            f"nothing in quarantine matches {pattern!r}; `recapture quarantine ls` lists all {len(entries)}"
        )
    return found


def print_quarantine(config: RecaptureConfig, as_json: bool = False) -> None:
    """Print every entry with its reason and the way out."""
    entries = Quarantine(config.store, config.dataset.name).entries()
    if as_json:
        print(_json(entries))
        return
    console, remove = Console(), credentials_remover()
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
        console.print(
            f"    {escape(remove(f'{entry.error_type}: {entry.error}'))}", highlight=False, soft_wrap=True
        )
        console.print(f"    way out: {way_out(entry)}", highlight=False, soft_wrap=True)


def show_quarantined(config: RecaptureConfig, pattern: str | None, as_json: bool = False) -> None:
    """Print all that is known about the entries that match a pattern."""
    if pattern is None:
        raise UserError("name the items: a pattern such as 'bmx/*' or the beginning of a key")
    entries = find(Quarantine(config.store, config.dataset.name), pattern)
    if as_json:
        print(_json(entries))
        return
    console, remove = Console(), credentials_remover()
    for entry in entries:
        table = Table(show_header=False, box=None)
        for name, value in asdict(entry).items():
            if name != "traceback":
                table.add_row(name, escape(remove(str(value))))
        table.add_row("way out", way_out(entry))
        console.print(table)
        if entry.traceback:
            console.print(escape(remove(entry.traceback)), highlight=False, soft_wrap=True)


def retry_quarantined(
    config: RecaptureConfig, pattern: str | None, everything: bool, as_json: bool = False
) -> None:
    """Remove the matching entries from quarantine: the next run tries them again."""
    quarantine = Quarantine(config.store, config.dataset.name)
    chosen = select(quarantine, pattern, everything)
    for entry in chosen:
        quarantine.retry(entry)
    _say("the next run tries again", chosen, as_json)


def drop_quarantined(
    config: RecaptureConfig, pattern: str | None, everything: bool, as_json: bool = False
) -> None:
    """Exclude the matching entries from all jobs."""
    quarantine = Quarantine(config.store, config.dataset.name)
    chosen = select(quarantine, pattern, everything)
    for entry in chosen:
        quarantine.drop(entry)
    _say("excluded from now on", chosen, as_json)


def _json(entries: list[Quarantined]) -> str:
    found = [asdict(entry) | {"way_out": way_out(entry)} for entry in entries]
    return json.dumps(without_credentials_inside(found), indent=1)


def _say(what: str, entries: list[Quarantined], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"item": entry.item, "stage": entry.stage, "key": entry.key} for entry in entries]))
        return
    for entry in entries:
        print(f"{what}: {entry.item} at {entry.stage}")
    if not entries:
        print("nothing is in quarantine")
