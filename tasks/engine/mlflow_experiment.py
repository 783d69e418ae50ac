"""What an experiment looks like in MLflow's UI: its kind, its description and the columns of its first view.

The tags are those that the UI of MLflow 3 reads. `mlflow.experimentKind` decides in most versions whether an
experiment opens with runs or with traces; 3.17 asks the link (`workflowType`) or the browser's last choice
instead, so links say it. A view that is shared is stored as `mlflow.sharedViewState.KEY`, and opened by
`?viewStateShareKey=KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

KIND = {"mlflow.experimentKind": "custom_model_development"}
VIEW = "recapture"
TRAINING = "workflowType=machine_learning"  # otherwise a browser that is new to MLflow shows evaluations
NOTE = "mlflow.note.content"
GIVEN_KINDS = ("", "no_inferred_type")  # of the UI, for experiments without a run
FIRST = ("attributes.`Created`", "attributes.`Duration`", "attributes.`Dataset`")


def shown(columns: Sequence[str]) -> dict[str, str]:
    """Return the tag of a view whose table begins with these metrics."""
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*FIRST[:2], *(f"metrics.`{name}`" for name in columns), FIRST[2]],
    }
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(state)}


def described(experiment_id: str, text: str) -> dict[str, str]:
    """Return the tag of the description, which links the view."""
    link = f"#/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={VIEW}"
    return {NOTE: f"[Runs with the figures that matter]({link})\n\n{text}"}


def bring_up_to_date(client: Any, experiment: Any, columns: Sequence[str], text: str) -> None:
    """Set the tags of an experiment that are missing or ours; a kind or text that a person has set stays."""
    have = dict(experiment.tags)
    wanted = shown(columns) if columns else {}
    if have.get("mlflow.experimentKind", "") in GIVEN_KINDS or have["mlflow.experimentKind"].endswith(
        "_inferred"
    ):
        wanted |= KIND
    ours = have.get(NOTE, "").startswith("[Runs with the figures that matter]")
    if text and (ours or not have.get(NOTE)):
        wanted |= described(experiment.experiment_id, text)
    for name, value in wanted.items():
        if have.get(name) != value:
            client.set_experiment_tag(experiment.experiment_id, name, value)
