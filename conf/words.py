"""Settings as words: `--section.key value` on the command line, RECAPTURE_SECTION__KEY=value outside of it.

The value of a setting that holds text or a number is taken literally, where `null` alone means unset: YAML
would cut `a #5`, and read `010` as 8 and `no` as false. Any other value is YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import yaml
from pydantic import BaseModel

from recapture.conf.annotations import annotation_at, is_number, is_only, is_text, members, section_of
from recapture.conf.errors import ConfigError
from recapture.conf.yaml_text import load_yaml

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


def from_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer of a mapping of sections, in which a name such as "fill.window" is one setting."""
    layer: dict[str, Any] = {}
    for name, value in given.items():
        layer = merge(layer, _nested(str(name).split("."), value))
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
            raise ConfigError(
                f"{word} has no value; write {word} VALUE, or {word}=VALUE where it begins with --"
            )
        else:
            settings.append(f"{word}={rest.pop(0)}")
    return settings, others


def joined(words: Sequence[str], model: type[BaseModel]) -> list[str]:
    """Return the words with `--section.key value` as one word each, so that no value is taken for an option.

    Options, their values and settings that miss a value stay as they are.
    """
    found, rest = list[str](), list(words)
    while rest:
        word = rest.pop(0)
        annotation = (
            annotation_at(model, _path(word[2:])) if word.startswith("--") and "=" not in word else None
        )
        if annotation is None or section_of(annotation) is not None or not rest or rest[0].startswith("--"):
            found.append(word)
        elif is_only(annotation, bool) and rest[0].lower() not in TRUTH_VALUES:
            found.append(f"{word}=true")
        else:
            found.append(f"{word}={rest.pop(0)}")
    return found


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
    if is_text(annotation) or is_number(annotation):
        if text == "null" and NoneType in members(annotation):
            return None
        return text if is_text(annotation) else _number(text)
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: cannot read the value {text!r}: {error}") from None


def _number(text: str) -> int | float | str:
    """Return a number; the text itself, which validation refuses, if it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
