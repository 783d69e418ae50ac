"""What a recapture, inpainting or preview job prints when it is done."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.jobs.summary import JobSummary, format_value, method_table, table_columns

SHOWN_FAILURES = 20
BETTER = {True: "↑", False: "↓", None: ""}


def print_summary(summary: JobSummary, config: RecaptureConfig) -> None:
    """Print measurements, missing videos, where the finished ones are stored, and where to look further."""
    console = Console()
    if summary.reused_everything:
        console.print("[bold]Reused[/bold]: every artifact was already there.")
    print_measurements(summary.metrics, console)
    for warning in summary.warnings[:SHOWN_FAILURES]:
        console.print(f"[yellow]{escape(warning)}[/yellow]")
    for failure in summary.failures[:SHOWN_FAILURES]:
        text = f"[red]missing[/red] {escape(failure.item)} at {failure.stage}: {escape(failure.error)}"
        console.print(text, soft_wrap=True)
    if len(summary.failures) > SHOWN_FAILURES:
        console.print(f"… and {len(summary.failures) - SHOWN_FAILURES} more; see `recapture status`")
    colour = "green" if summary.acceptable else "red"
    video = "preview.mp4" if summary.last_stage == "preview" else config.deliver.file
    console.print(
        f"[{colour}]{summary.delivered} of {summary.wanted} videos[/{colour}] "
        f"in {summary.seconds:.0f} s: "
        f"{without_credentials(config.outputs)}/{config.dataset.name}/CLIP/TRAJECTORY/{video}",
        soft_wrap=True,
    )
    if not summary.acceptable:
        console.print(
            f"[red]{summary.failure_share:.0%} are missing, more than execution.max_failure_share="
            f"{summary.max_failure_share:.0%}[/red]"
        )
    console.print("dashboards: [bold]recapture ui[/bold]")


def print_measurements(
    metrics: Mapping[str, Mapping[str, float]], console: Console, explain: bool = False
) -> None:
    """Print one column per method, averaged over items; metrics: item -> `method/metric` -> value.

    explain: also print the definition of each metric.
    """
    from recapture.models.metrics.learned import LEARNED_METRICS
    from recapture.models.metrics.suite import METRICS

    definitions = {**METRICS, **LEARNED_METRICS}
    rows = method_table(metrics)
    columns = table_columns(rows)
    if not columns:
        return
    table = Table(title="measured, mean over clips and trajectories", title_justify="left")
    table.add_column("metric", no_wrap=True)
    for method in rows:
        table.add_column(method, justify="right")
    for column in columns:
        metric = definitions[column]
        values = (format_value(row.get(column)) for row in rows.values())
        unit = "" if column.endswith(metric.unit) else metric.unit
        label = " ".join(filter(None, (column, unit, BETTER[metric.higher_is_better])))
        table.add_row(label, *values)
    console.print(table)
    if not explain:
        console.print(
            "↑ higher is better, ↓ lower; `recapture status --explain` defines the metrics", highlight=False
        )
        return
    for column in columns:
        console.print(f"  {column}: {definitions[column].definition}", highlight=False, soft_wrap=True)
