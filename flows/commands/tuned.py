"""What a tuning prints when it is done."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.jobs.summary import format_value
from recapture.tasks.tune.summary import BASE, METRICS, TUNED, TuneSummary

SHOWN_FAILURES = 20


def recapture_with(adapter: str, config: RecaptureConfig) -> str:
    """Return the command that recaptures the dataset with its adapter, packed as in training."""
    packing = config.fill.packing.model_dump(exclude_defaults=True)
    words = {"dataset.uri": config.dataset.uri, "fill.adapter": adapter}
    words |= {f"fill.packing.{name}": str(value) for name, value in packing.items()}
    return shlex.join(
        ["recapture", "run", *(word for one in words.items() for word in (f"--{one[0]}", one[1]))]
    )


def print_tuned(summary: TuneSummary, config: RecaptureConfig, console: Console | None = None) -> None:
    """Print the angle-quality table, missing items, and where adapters, curve and sheets are stored."""
    console = console or Console()
    if summary.reused_everything:
        console.print("[bold]Reused[/bold]: every artifact was already there.")
    if rows := summary.table():
        table = Table(title="dB, mean over clips", title_justify="left")
        for name in ("metric", "degrees", "clips", BASE, TUNED, "gain"):
            table.add_column(name, justify="left" if name == "metric" else "right")
        for row in rows:
            values = (format_value(float(row[name])) for name in (BASE, TUNED))
            gain = f"{float(row['gain']):+.2f}"
            table.add_row(str(row["metric"]), f"{row['angle']:g}", str(row["clips"]), *values, gain)
        console.print(table)
        for metric in dict.fromkeys(str(row["metric"]) for row in rows):
            console.print(f"  {metric}: {METRICS[metric]}")
    for failure in summary.failures[:SHOWN_FAILURES]:
        text = f"[red]missing[/red] {escape(failure.item)} at {failure.stage}: {escape(failure.error)}"
        console.print(text, soft_wrap=True)
    if len(summary.failures) > SHOWN_FAILURES:
        console.print(f"… and {len(summary.failures) - SHOWN_FAILURES} more; see `recapture quarantine ls`")
    colour = "green" if summary.acceptable else "red"
    console.print(
        f"[{colour}]adapters for {len(summary.adapted)} of {summary.clips} clips[/{colour}] after "
        f"{len(summary.rounds)} rounds in {summary.seconds:.0f} s. {summary.ended}",
        soft_wrap=True,
    )
    if summary.adapter:
        outputs = without_credentials(summary.adapter.removesuffix("/adapter"))
        console.print(
            f"curve and sheets: {outputs}/tuning/curve.png, {outputs}/tuning/CLIP.png", soft_wrap=True
        )
        console.print(
            f"to use it: {escape(without_credentials(recapture_with(summary.adapter, config)))}",
            soft_wrap=True,
        )
    console.print("dashboards: [bold]recapture ui[/bold]")
