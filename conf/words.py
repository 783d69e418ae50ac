"""Settings as words: `--section.key value` on the command line, RECAPTURE_SECTION__KEY=value outside of it.

The value of a setting that holds text is taken literally, where `null` alone means unset. Any other value is
YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import yaml
from pydantic import BaseModel

from recapture.conf.annotations import annotation_at, is_only, members
from recapture.conf.errors import ConfigError

ENVIRONMENT_PREFIX = "RECAPTURE_"
TRUTH_VALUES = {"true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0", "null"}


def from_environment(environment: Mapping[str, str], model: type[BaseModel]) -> dict[str, Any]:
    """Return the layer of RECAPTURE_SECTION__KEY=value variables for settings of `model`."""
    layer: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            layer = merge(layer, _nested(path, _value(text, annotation_at(model, path), variable)))
    return layer


def from_arguments(words: Sequence[str], model: type[BaseModel]) -> dict[str, Any]:
    """Return the layer of `--section.key value` and `--section.key=value` words for settings of `model`.

    Raises ConfigError for a word that is no setting, a setting without value, and YAML that cannot be read.
    """
    settings, others = split_words(words, model)
    if others:
        raise ConfigError(f"unexpected argument {others[0]!r}; settings are written --section.key value")
    layer: dict[str, Any] = {}
    for word in settings:
        name, _, text = word.removeprefix("--").partition("=")
        path = _path(name)
        layer = merge(layer, _nested(path, _value(text, annotation_at(model, path), f"--{name}")))
    return layer


def split_words(words: Sequence[str], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the settings, each as one word `--section.key=value`, and the words that belong to none.

    A setting takes the next word as its value; a bool setting may stand alone, which means true.
    """
    settings, others = list[str](), list[str]()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            others.append(word)
        elif "=" in word:
            settings.append(word)
        elif is_only(annotation_at(model, _path(word[2:])), bool) and (
            not rest or rest[0].lower() not in TRUTH_VALUES
        ):
            settings.append(f"{word}=true")
        elif not rest or rest[0].startswith("--"):
            raise ConfigError(f"{word} has no value; write {word} VALUE")
        else:
            settings.append(f"{word}={rest.pop(0)}")
    return settings, others


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` overlaid with `above`: mappings are merged, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merge(inner, value)
        merged[key] = value
    return merged


def _path(name: str) -> list[str]:
    return name.replace("-", "_").split(".")


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _value(text: str, annotation: Any, where: str) -> Any:
    if is_only(annotation, str):
        return None if text == "null" and NoneType in members(annotation) else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: cannot read the value {text!r}: {error}") from None
