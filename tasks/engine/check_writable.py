"""A check that a job can write to its store and outputs."""

from __future__ import annotations

import uuid

from recapture.conf.errors import UserError
from recapture.conf.redact import clean_error, remember_credentials, without_credentials
from recapture.datasets.store.storage import open_filesystem, put_file


def check_writable(setting: str, url: str) -> None:
    """Write a small file below `url` and remove it; raise UserError naming the setting if that fails."""
    try:
        filesystem, root = open_filesystem(url)
        probe = f"{root}/.probe-{uuid.uuid4().hex}"
        filesystem.makedirs(root, exist_ok=True)
        put_file(filesystem, probe, b"recapture")
        filesystem.rm_file(probe)
    except Exception as error:
        way_out = f"set {setting} to a place that can be written, or give the credentials"
        if isinstance(error, ImportError):
            way_out = "pip install 'recapture[s3]'"
        remember_credentials(url)
        message = f"{setting} {url} cannot be written: {type(error).__name__}: {error}; {way_out}"
        clean_error(error)
        raise UserError(without_credentials(message)) from error
