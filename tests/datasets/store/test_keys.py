"""A key is the same for equal descriptions, everywhere and always, and another for anything else."""

import math
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recapture.datasets.store.keys import canonical_json, content_key, file_hash

DESCRIPTION: dict[str, Any] = {
    "stage": "depth",
    "version": "2",
    "config": {"side": 518, "scale": 0.1, "model": {"name": "tiny", "revision": None}},
    "inputs": {"ingest": "a" * 32},
    "params": {"clip": "bmx/003", "frames": [0, 5]},
}
GOLDEN = "28cc89e4e3206fc1ac468d080cc40196"


def test_a_key_never_changes_between_releases():
    # Were it to change, everything that users have stored would be made again.
    assert content_key(**DESCRIPTION) == GOLDEN


def test_a_key_is_the_same_in_every_process():
    code = f"from recapture.datasets.store.keys import content_key; print(content_key(**{DESCRIPTION!r}))"
    for hash_seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        printed = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert printed.stdout.strip() == GOLDEN


def test_any_change_gives_another_key():
    changes = [
        {"stage": "fill"},
        {"version": "3"},
        {"config": {**DESCRIPTION["config"], "side": 519}},
        {"config": {**DESCRIPTION["config"], "scale": math.nextafter(0.1, 1)}},
        {"config": {**DESCRIPTION["config"], "model": {"name": "tiny", "revision": "b"}}},
        {"config": {**DESCRIPTION["config"], "new": None}},
        {"inputs": {"ingest": "b" * 32}},
        {"inputs": {"scan": "a" * 32}},
        {"inputs": {}},
        {"params": {"clip": "bmx/003", "frames": [5, 0]}},
        {"params": {"clip": "bmx/004", "frames": [0, 5]}},
        {"params": {"clip": "bmx/003", "frames": ["0", 5]}},
        {"params": {"clip": "bmx/003", "frames": [False, 5]}},
    ]
    made = {content_key(**{**DESCRIPTION, **change}) for change in changes}
    assert len(made | {GOLDEN}) == len(changes) + 1


def test_the_order_of_a_mapping_does_not_matter():
    turned = {
        name: dict(reversed(value.items())) if isinstance(value, dict) else value
        for name, value in reversed(DESCRIPTION.items())
    }
    assert content_key(**turned) == GOLDEN


def test_a_tuple_is_a_list():
    assert canonical_json({"frames": (1, 2)}) == canonical_json({"frames": [1, 2]})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values, values)
def test_text_is_equal_exactly_when_the_values_are(one, other):
    assert (canonical_json(one) == canonical_json(other)) == (repr_of(one) == repr_of(other))


def repr_of(value):
    """A slow twin: types told apart, mappings without order."""
    if isinstance(value, dict):
        return ("map", frozenset((key, repr_of(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(repr_of, value)))
    return (type(value).__name__, repr(value))


def test_what_json_cannot_express_is_refused():
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"a key cannot be made of {value!r}"):
            canonical_json({"deep": [value]})
    for value in ({1, 2}, b"bytes", object(), 1j):
        with pytest.raises(ValueError, match="a key cannot be made of"):
            canonical_json({"value": value})


def test_a_name_that_is_no_text_is_refused():
    # 1 and "1" would be one name in JSON, and one of the two values would be lost.
    with pytest.raises(ValueError, match="name 1; names must be text"):
        canonical_json({"1": "text", 1: "number"})


def test_a_file_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert file_hash(str(tmp_path / "a.bin")) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
