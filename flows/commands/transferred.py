"""What a motion transfer prints when it is done."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.transfer.deliver_stage import RESULT
from recapture.tasks.transfer.summary import TransferSummary

SHOWN_FAILURES = 20


def print_transferred(
    summary: TransferSummary, config: RecaptureConfig, console: Console | None = None
) -> None:
    """Print measurements, missing results, and where results and motion adapters are stored."""
    console = console or Console()
    if summary.reused_everything:
        console.print("[bold]Reused[/bold]: every artifact was already there.")
    if rows := summary.table():
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for warning in summary.warnings[:SHOWN_FAILURES]:
        console.print(f"[yellow]{escape(warning)}[/yellow]")
    for failure in summary.failures[:SHOWN_FAILURES]:
        text = f"[red]missing[/red] {escape(failure.item)} at {failure.stage}: {escape(failure.error)}"
        console.print(text, soft_wrap=True)
    if len(summary.failures) > SHOWN_FAILURES:
        console.print(f"… and {len(summary.failures) - SHOWN_FAILURES} more; see `recapture quarantine ls`")
    colour = "green" if summary.acceptable else "red"
    outputs = without_credentials(f"{config.outputs.rstrip('/')}/{config.dataset.name}")
    console.print(
        f"[{colour}]{summary.delivered} of {summary.wanted} transfers[/{colour}] in {summary.seconds:.0f} s: "
        f"{outputs}/CLIP/motion-REFERENCE/{RESULT}",
        soft_wrap=True,
    )
    for folder in list(summary.adapters.values())[:1]:
        command = ["recapture", "run", "--dataset.uri", config.dataset.uri, "--fill.adapter", folder]
        console.print(
            f"motion adapters: {outputs}/motions/REFERENCE; to use one elsewhere: "
            f"{escape(without_credentials(shlex.join(command)))}",
            soft_wrap=True,
        )
    console.print("dashboards: [bold]recapture ui[/bold]")
