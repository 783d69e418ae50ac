"""Layered configuration: defaults < base < profile < dataset < environment < command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from recapture.conf.errors import ConfigError
from recapture.conf.pretrain import PretrainConfig
from recapture.conf.schema import RecaptureConfig

ENVIRONMENT_PREFIX = "RECAPTURE_"
Config = TypeVar("Config", bound=BaseModel)


def load_config(
    profile: str | None = None,
    dataset: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> RecaptureConfig:
    """Merge all layers and validate the result.

    profile, dataset: a name under conf/profile or conf/dataset, or a path to a YAML file.
    environment: variables like RECAPTURE_FILL__WINDOW=17; arguments: words like --fill.window 17.
    Raises ConfigError that names each bad key, its value and the nearest known key.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [("conf/base.yaml", _read_layer("base", None))]
    if profile is not None:
        layers.append((f"profile {profile}", _read_layer(profile, "profile")))
    if dataset is not None:
        layers.append((f"dataset {dataset}", _read_layer(dataset, "dataset")))
    layers.append(("the environment", from_environment(environment or {})))
    layers.append(("the command line", from_arguments(arguments)))
    return _validated(RecaptureConfig, layers)


def load_pretrain_config(
    path: str | None = None, *, environment: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
) -> PretrainConfig:
    """Merge the defaults of pre-training, a YAML file, the environment and words like --refine.steps 9000.

    Of the environment only `state` and `tracking` count, which pre-training shares with jobs. Raises
    ConfigError like load_config.
    """
    shared = {k: v for k, v in from_environment(environment or {}).items() if k in ("state", "tracking")}
    layers = [("the defaults", PretrainConfig().model_dump(mode="json"))]
    if path is not None:
        layers.append((path, _read_file(path, "settings")))
    layers += [("the environment", shared), ("the command line", from_arguments(arguments))]
    return _validated(PretrainConfig, layers)


def _validated(model: type[Config], layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Config:
    merged: dict[str, Any] = {}
    for _, layer in layers:
        merged = merge(merged, layer)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_readable(error, model, [name for name, layer in layers if layer])) from None


def profiles() -> list[str]:
    """Return the names of the profiles that ship with the package."""
    return sorted(Path(entry.name).stem for entry in files("recapture.conf").joinpath("profile").iterdir())


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` overlaid with `above`: mappings merge, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merge(inner, value)
        merged[key] = value
    return merged


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read RECAPTURE_SECTION__KEY=value variables; values are YAML."""
    layer: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            layer = merge(layer, _nest(path, _value(text, variable)))
    return layer


def from_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Read `--section.key value` and `--section.key=value` words; values are YAML."""
    layer: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"unexpected argument {word!r}; settings are written --section.key value")
        name, equals, text = word[2:].partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"--{name} has no value; write --{name} VALUE")
            text = words.pop(0)
        layer = merge(layer, _nest(name.replace("-", "_").split("."), _value(text, f"--{name}")))
    return layer


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: cannot read the value {text!r}: {error}") from None


def _read_layer(name: str, folder: str | None) -> dict[str, Any]:
    if folder is not None and (name.endswith((".yaml", ".yml")) or "/" in name):
        return _read_file(name, folder)
    resource = files("recapture.conf") / (f"{folder}/{name}.yaml" if folder else f"{name}.yaml")
    if not resource.is_file():
        known = ", ".join(profiles()) if folder == "profile" else "a path to a YAML file"
        raise ConfigError(f"no {folder} is called {name!r}; choose from: {known}")
    return _parsed(resource.read_text(encoding="utf-8"), name)


def _read_file(name: str, kind: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"{kind} file {name!r} does not exist")
    return _parsed(path.read_text(encoding="utf-8"), name)


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        layer = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(layer, dict):
        raise ConfigError(f"{name}: expected sections at the top level, found {type(layer).__name__}")
    return layer


def _readable(error: ValidationError, model: type[BaseModel], layers: Sequence[str]) -> str:
    lines = []
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    for problem in problems:
        if problem["type"] == "too_short" and any(
            place[: len(problem["loc"])] == problem["loc"] != place for place in places
        ):
            continue  # entries that are wrong themselves are not counted
        where = ".".join(str(part) for part in problem["loc"]) or "the configuration"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"; did you mean {'.'.join([*map(str, problem['loc'][:-1]), near[0]])}?" if near else ""
            lines.append(f"{where}: no such setting{hint}")
        elif problem["type"] == "literal_error":
            known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
            near = difflib.get_close_matches(str(problem["input"]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
            lines.append(f"{where}: {problem['input']!r} is unknown; {hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message} (got {problem['input']!r})" if problem["loc"] else message)
    return "the configuration has an error:\n  " + "\n  ".join(lines) + f"\n(read from: {', '.join(layers)})"


def _known_keys(model: Any, location: Sequence[str | int]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        annotation = getattr(field, "annotation", None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(getattr(model, "model_fields", {}))
