"""Content keys: the name of an artifact is the hash of everything that its bytes depend on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import fsspec

from recapture.conf.heartbeat import beat

KEY_LENGTH = 32
_BLOCK = 1 << 20
_ATOMS = frozenset({str, int, bool, type(None)})  # exact in JSON; checked first, as plans make many keys
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(
    stage: str, version: str, config: Mapping[str, Any], inputs: Mapping[str, str], params: Mapping[str, Any]
) -> str:
    """Return 32 hex characters of the sha256 of the canonical JSON of all arguments.

    inputs: parent stage -> parent key. Raises ValueError for what JSON cannot express exactly (NaN, objects).
    """
    return content_keys(stage, version, config)(inputs, params)


def content_keys(
    stage: str, version: str, config: Mapping[str, Any]
) -> Callable[[Mapping[str, str], Mapping[str, Any]], str]:
    """Return content_key of one stage as a function of inputs and params; the rest is serialised once."""
    settings = canonical_json(config)
    ending = f'"stage":{canonical_json(stage)},"version":{canonical_json(version)}}}'

    def key(inputs: Mapping[str, str], params: Mapping[str, Any]) -> str:
        own = canonical_json({"inputs": inputs, "params": params})[1:-1]
        described = f'{{"config":{settings},{own},{ending}'  # the canonical JSON of all five, names sorted
        return hashlib.sha256(described.encode()).hexdigest()[:KEY_LENGTH]

    return key


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces; equal values give equal text."""
    try:
        return _CANONICAL.encode(_plain(value))
    except TypeError as error:
        raise ValueError(f"a key cannot be made of {value!r}: {error}") from None


def file_hash(uri: str) -> str:
    """Return the sha256 of one file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with fsspec.open(uri, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            beat()
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Mapping):
        plain = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key cannot be made of a mapping with name {key!r}; names must be text")
            plain[key] = inner if type(inner) in _ATOMS else _plain(inner)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a key cannot be made of {value!r}; give a finite number")
    return value
