"""deploy/compose.yaml as Compose reads it: variables filled in, and what a service is to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


def example_values() -> dict[str, str]:
    """Return the variables of .env.example."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables replaced; raises KeyError for one without value and default."""

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        return values.get(name, default) if kind == "-" else values[name]

    return VARIABLE.sub(value, text)


def read(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a compose file with its variables filled in."""
    found = yaml.safe_load(filled_in((DEPLOY / name).read_text(), values))
    assert isinstance(found, dict)
    return found
