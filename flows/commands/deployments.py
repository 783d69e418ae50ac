"""`recapture deployments`: print a prefect.yaml whose deployments have the given settings as parameters."""

from __future__ import annotations

from copy import deepcopy
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import typer

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.flows.commands.settings import Dataset, Profile, config_of

if TYPE_CHECKING:
    from recapture.conf.schema import RecaptureConfig

HEAD = """\
# Made by `recapture deployments`. Register with `prefect --no-prompt deploy --all` in the folder that the
# runs are to work in, while PREFECT_API_URL names the server.
"""


def deployments(context: typer.Context, profile: Profile = None, dataset: Dataset = None) -> None:
    """Print a prefect.yaml: nightly, weekly, outpaint and transfer, with these settings as parameters."""
    typer.echo(deployments_text(config_of(context, profile, dataset)), nl=False)


def deployments_text(config: RecaptureConfig) -> str:
    """Return the text of a prefect.yaml with all settings beside the defaults as parameters.

    A deployment's own settings, such as its dataset or the mask of outpaint, stay where the given ones are
    the defaults.
    Raises UserError if a setting contains credentials: Prefect stores parameters as they are.
    """
    import yaml

    given = config.model_dump(mode="json", exclude_defaults=True)
    if "dataset" in given:
        given["dataset"] = {"name": config.dataset.name, "uri": config.dataset.uri} | given["dataset"]
    written = yaml.safe_dump(given)
    if without_credentials(written) != written:
        raise UserError(
            "a setting contains credentials, and Prefect stores the parameters of deployments as they are; "
            "put them into the environment of the worker"
        )
    document: dict[str, Any] = yaml.safe_load(files("recapture.flows").joinpath("prefect.yaml").read_text())
    for deployment in document["deployments"]:
        parameters = deployment["parameters"]
        parameters["config"] = parameters["config"] | deepcopy(given)  # YAML would name what is shared
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=110)
