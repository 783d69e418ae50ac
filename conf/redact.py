"""Removal of users, passwords, signatures and tokens from texts that are shown, logged or stored."""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

NAMES = (
    r"token(?!iz|s\b)|secret|signature|credential|passw|passphrase|access[-_]?key|account[-_]?key|api[-_]?key"
)
USER_AND_PASSWORD = re.compile(r"://[^/\s\"'<>?#]*@")
SECRET_PARAMETER = re.compile(
    rf"([?&;](?:[\w.-]*(?:{NAMES})[\w.-]*|sig|sas|pwd|key|auth|code)=)[^&;#\s\"'<>]+", re.IGNORECASE
)
# Outside of a URL: options as Python, JSON, YAML and command lines write them, and HTTP headers.
SECRET_OPTION = re.compile(
    rf"((?<![\w?&;])[\"']?[\w.-]*(?:{NAMES})[\w.-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&)}}\]]{{6,}}",
    re.IGNORECASE,
)
HEADER = re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9+/._~=-]{8,}")
SECRET_VARIABLE = re.compile(r"secret|passw|token|credential|api_?key|auth_string", re.IGNORECASE)
SHORTEST_SECRET = 8  # a shorter value of a variable could match ordinary words
SHORTEST_PASSWORD = 6  # likewise of a URI, where it stands without its URI
_known: set[str] = set()  # secrets of the settings, as they stand in texts


def without_credentials(text: str) -> str:
    """Return a text without credentials.

    Removed are users, passwords, signatures and tokens of URIs and of options, the values of environment
    variables whose names mark them as secrets, and whatever `remember_credentials` has found.
    """
    return credentials_remover()(text)


def credentials_remover() -> Callable[[str], str]:
    """Return a function like without_credentials that reads the environment only once."""
    secrets = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SECRET and SECRET_VARIABLE.search(name)
    }
    found = sorted({form for value in secrets | _known for form in (value, quote(value, safe=""))}, key=len)

    def removed(text: str) -> str:
        for value in reversed(found):  # longest first, as one may contain another
            text = text.replace(value, "***")
        text = SECRET_PARAMETER.sub(r"\1***", USER_AND_PASSWORD.sub("://", text))
        return HEADER.sub(r"\1***", SECRET_OPTION.sub(r"\1***", text))

    return removed


def remember_credentials(*texts: str) -> None:
    """Remember the passwords and tokens of URIs, which libraries also show without their URIs."""
    for text in texts:
        for match in USER_AND_PASSWORD.finditer(text):
            user, colon, password = match[0][len("://") : -1].partition(":")
            _remember(password if colon else user)
        for match in SECRET_PARAMETER.finditer(text):
            _remember(match[0][len(match[1]) :])


def without_credentials_inside(value: Any) -> Any:
    """Return JSON-like data with every text in it cleaned."""
    remove = credentials_remover()

    def cleaned(one: Any) -> Any:
        if isinstance(one, str):
            return remove(one)
        if isinstance(one, dict):
            return {cleaned(name): cleaned(inner) for name, inner in one.items()}
        return [cleaned(inner) for inner in one] if isinstance(one, list | tuple) else one

    return cleaned(value)


def clean_error(error: BaseException) -> None:
    """Remove credentials from the texts of an error and of its causes, in place."""
    for one in _chain(error):
        one.args = tuple(without_credentials(part) if isinstance(part, str) else part for part in one.args)
        for name in ("filename", "filename2", "strerror"):
            if (
                isinstance(text := getattr(one, name, None), str)
                and (clean := without_credentials(text)) != text
            ):
                setattr(one, name, clean)
        one.__notes__ = [without_credentials(note) for note in getattr(one, "__notes__", ())]


def clean_logs() -> None:
    """Remove credentials from every log record of this process, tracebacks included, whoever logs it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "cleans", False):
        return

    def made(*arguments: Any, **settings: Any) -> logging.LogRecord:
        record = make(*arguments, **settings)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            return record  # logging reports it
        if (clean := without_credentials(message)) != message:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            if (clean := without_credentials(trace)) != trace:
                record.exc_info, record.exc_text = None, clean
        return record

    made.cleans = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)


def _remember(secret: str) -> None:
    _known.update(form for form in (secret, unquote(secret)) if len(form) >= SHORTEST_PASSWORD)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is earlier for earlier in seen):
            seen.append(one)
            yield one
            waiting += [one.__cause__, one.__context__]
