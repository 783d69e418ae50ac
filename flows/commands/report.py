"""`recapture report`: make the results page anew, and compare two jobs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.report.record import read_record, run_names, write_record
from recapture.tasks.report.write import PAGE_VIDEO, Fetch, write_comparison, write_pages


def make_report(config: RecaptureConfig, against: str | None = None) -> None:
    """Write the pages of the last job of the dataset again; with `against`, compare it with an earlier one.

    against: the id of a run, or its beginning. Raises UserError if there is no such record.
    """
    root = f"{config.outputs.rstrip('/')}/{config.dataset.name}"
    report = read_record(root)
    made = []
    if against is not None:
        before = read_record(root, against)
        if before.run == report.run:
            others = ", ".join(name for name in run_names(root) if name != report.run) or "there is no other"
            raise UserError(
                f"run {before.run} is the last one itself; compare it with an earlier one: {others}"
            )
        made.append(write_comparison(root, before, report, _videos_of(ArtifactStore(config.store))))
    clips = write_pages(root, report, all_clips=True)
    if report.share is None:
        write_record(root, report)
    for page in (f"{root}/index.html", *made):
        print(without_credentials(page))
    print(f"{clips} pages of clips")


def _videos_of(store: ArtifactStore) -> Fetch:
    """Return a function from the key of a delivered artifact to the page's video; empty if it is gone."""

    def fetch(key: str) -> Mapping[str, bytes]:
        for stage in ("deliver", "preview"):
            with suppress(ArtifactError):
                artifact = store.open(stage, key)
                if set(PAGE_VIDEO) <= set(artifact.names()):
                    return {name: artifact.read_bytes(name) for name in PAGE_VIDEO}
        return {}

    return fetch
