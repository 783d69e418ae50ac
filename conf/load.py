"""Layered configuration: defaults < profile < dataset < environment < command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from recapture.conf.annotations import annotation_at, section_of
from recapture.conf.errors import ConfigError
from recapture.conf.pretrain import PretrainConfig
from recapture.conf.schema import RecaptureConfig
from recapture.conf.words import from_arguments, from_environment, from_mapping, merge
from recapture.conf.yaml_text import load_yaml

Config = TypeVar("Config", bound=BaseModel)


def load_config(
    profile: str | None = None,
    dataset: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> RecaptureConfig:
    """Merge all layers and validate the result.

    profile: a name in conf/profile, or a path to a YAML file; dataset: a path to a YAML file.
    environment: variables like RECAPTURE_FILL__WINDOW=17; arguments: words like --fill.window 17; settings:
    the last layer, sections as mappings, or names such as "fill.window".
    Raises ConfigError that names each bad key, its value and the nearest known key.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if profile is not None:
        layers.append((f"profile {profile}", _read_profile(profile)))
    if dataset is not None:
        layers.append((f"dataset {dataset}", _read_file(dataset, "dataset")))
    layers.append(("the environment", from_environment(environment or {}, RecaptureConfig)))
    layers.append(("the command line", from_arguments(arguments, RecaptureConfig)))
    layers.append(("the settings given", from_mapping(settings or {})))
    return _validated(RecaptureConfig, layers)


def section_from(section: type[Config], given: Mapping[str, Any] | Config | None) -> Config:
    """Return one section of the settings from a mapping. Raises ConfigError like load_config."""
    if isinstance(given, section):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{section.__name__}: give a mapping of settings, not {given!r}")
    return _validated(section, [("the settings given", from_mapping(given or {}))])


def load_pretrain_config(
    path: str | None = None, *, environment: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
) -> PretrainConfig:
    """Merge the defaults of pre-training, a YAML file, the environment and words like --refine.steps 9000.

    Only `state` and `tracking`, which pre-training shares with jobs, are read from the environment. Raises
    ConfigError like load_config.
    """
    variables = from_environment(environment or {}, PretrainConfig)
    shared = {name: value for name, value in variables.items() if name in ("state", "tracking")}
    layers = [("the defaults", PretrainConfig().model_dump(mode="json"))]
    if path is not None:
        layers.append((path, _read_file(path, "settings")))
    layers += [("the environment", shared), ("the command line", from_arguments(arguments, PretrainConfig))]
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


def _read_profile(name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return _read_file(name, "profile")
    resource = files("recapture.conf") / f"profile/{name}.yaml"
    if not resource.is_file():
        raise ConfigError(
            f"no profile is called {name!r}; choose {', '.join(profiles())} or a path to a YAML file"
        )
    return _parsed(resource.read_text(encoding="utf-8"), name)


def _read_file(name: str, kind: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        way_out = "; set dataset.uri to name the clips" if kind == "dataset" else ""
        raise ConfigError(f"{kind} file {name!r} does not exist; give a path to a YAML file{way_out}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{kind} file {name!r} cannot be read ({error}); save it as UTF-8 text") from None
    return _parsed(text, name)


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        layer = load_yaml(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(layer, dict):
        raise ConfigError(f"{name}: expected sections at the top level, found {type(layer).__name__}")
    return layer


def _readable(error: ValidationError, model: type[BaseModel], layers: Sequence[str]) -> str:
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    lines = [
        f"  {_line(problem, model)}"
        for problem in problems
        if problem["type"] != "too_short" or not _within(problem["loc"], places)  # bad entries are no entries
    ]
    read_from = f"(read from: {', '.join(layers) or 'the defaults'})"
    return "\n".join(["the configuration has an error:", *lines, read_from])


def _line(problem: Any, model: type[BaseModel]) -> str:
    location, given = problem["loc"], problem["input"]
    where = ".".join(map(str, location)) or "the configuration"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_keys(model, location[:-1]), n=1)
        hint = f"; did you mean {'.'.join(map(str, [*location[:-1], near[0]]))}?" if near else ""
        return f"{where}: no such setting{hint}"
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        near = difflib.get_close_matches(str(given), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        return f"{where}: {given!r} is unknown; {hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message} (got {given!r})" if location else message


def _within(location: tuple[Any, ...], places: Sequence[tuple[Any, ...]]) -> bool:
    return any(place[: len(location)] == location != place for place in places)


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    section = section_of(annotation_at(model, location))
    return [] if section is None else list(section.model_fields)
