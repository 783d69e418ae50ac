"""Removal of users, passwords, signatures and tokens from texts that are shown or logged."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

USER_AND_PASSWORD = re.compile(r"://[^/\s\"'<>?#]*@")
SECRET_PARAMETER = re.compile(
    r"([?&](?:[\w.-]*(?:token|secret|signature|credential|passw|access-?key|api-?key)[\w.-]*|sig|pwd)=)"
    r"[^&#\s\"'<>]+",
    re.IGNORECASE,
)
SECRET_VARIABLE = re.compile(r"secret|passw|token|credential|api_?key|auth_string", re.IGNORECASE)
SHORTEST_SECRET = 8  # a shorter value could match ordinary words


def without_credentials(text: str) -> str:
    """Return a text without credentials.

    Removed are users, passwords and signatures of URIs, and the values of environment variables whose names
    mark them as secrets.
    """
    return credentials_remover()(text)


def credentials_remover() -> Callable[[str], str]:
    """Return a function like without_credentials that reads the environment only once."""
    secrets = [
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SECRET and SECRET_VARIABLE.search(name)
    ]

    def removed(text: str) -> str:
        for value in secrets:
            text = text.replace(value, "***")
        return SECRET_PARAMETER.sub(r"\1***", USER_AND_PASSWORD.sub("://", text))

    return removed
