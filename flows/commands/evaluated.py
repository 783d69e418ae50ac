"""`recapture evaluate`: score a folder of videos by a published protocol, beside the papers' numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import fsspec

from recapture.conf.errors import UserError
from recapture.conf.evaluate import PROTOCOLS, UNKNOWN
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.tasks.evaluate.protocol import Protocol
from recapture.tasks.evaluate.protocols import BY_NAME
from recapture.tasks.evaluate.score import frame_metrics, score_folder
from recapture.tasks.evaluate.table import as_json, as_markdown


@dataclass(frozen=True)
class Given:
    """What the command was given: folders, the name of the method, and metrics to leave out."""

    results: str | None
    truth: str | None
    name: str | None
    without: tuple[str, ...]


def evaluate(config: RecaptureConfig, protocol: str, given: Given) -> bool:
    """Write and print the table of a folder of results; return whether every scene was scored.

    Raises UserError for a protocol that is unknown or not fully defined, a folder that is missing, a metric
    whose network is missing, or if no scene could be scored.
    """
    chosen = _protocol(protocol)
    metrics = frame_metrics(chosen, given.without, config.measure.learned.lpips)
    videos = _folder(
        "--results", given.results, "a folder of videos, or of folders of pictures, named as scenes"
    )
    method = given.name or videos.rsplit("/", 1)[-1]
    if "/" in method or method.startswith("."):
        raise UserError(f"the table of {method!r} cannot be a file of that name; give --name NAME")
    scores = score_folder(chosen, videos, _folder("--truth", given.truth, chosen.needs), metrics)
    if not scores.scenes:
        scene, reason = next(iter(scores.failed.items()))
        raise UserError(f"evaluate {protocol}: no scene could be scored; {scene}: {reason}")
    page = as_markdown(chosen, method, scores)
    filesystem, place = open_filesystem(f"{config.outputs.rstrip('/')}/evaluate/{protocol}")
    filesystem.makedirs(place, exist_ok=True)
    put_file(filesystem, f"{place}/{method}.md", page.encode())
    written = json.dumps(as_json(chosen, method, scores), indent=1)
    put_file(filesystem, f"{place}/{method}.json", written.encode())
    print(without_credentials(page))
    print(without_credentials(f"{config.outputs.rstrip('/')}/evaluate/{protocol}/{method}.md"))
    return not scores.failed


def _protocol(name: str) -> Protocol:
    if name in UNKNOWN:
        raise UserError(
            f"evaluate {name}: {UNKNOWN[name]}; no number would be comparable. Use {', '.join(PROTOCOLS)}"
        )
    if name not in BY_NAME:
        raise UserError(f"there is no protocol {name!r}; use {', '.join(PROTOCOLS)}")
    return BY_NAME[name]


def _folder(option: str, uri: str | None, what: str) -> str:
    if uri is None:
        raise UserError(f"evaluate needs {option} FOLDER: {what}")
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.isdir(path):
        raise UserError(f"{option} {uri!r} is not a folder; give {what}")
    return uri.rstrip("/")
