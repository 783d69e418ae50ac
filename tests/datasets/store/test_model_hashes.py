"""Models are hashed once per machine, and again exactly when they change."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recapture.datasets.store import model_hashes
from recapture.datasets.store.model_hashes import directory_hash, remembered_hash

BIG = model_hashes.REMEMBERED
OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_hashes, "_noted", {})
    monkeypatch.setattr(model_hashes, "SETTLED", 0.0)  # the change of a file's times cannot be in the past
    return tmp_path / "cache/recapture/hashes"


@pytest.fixture
def read(monkeypatch):
    """The files that were read, in order."""
    paths, look = [], model_hashes.file_hash
    monkeypatch.setattr(model_hashes, "file_hash", lambda path: paths.append(Path(path).name) or look(path))
    return paths


def weights(path, byte=b"w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(byte * BIG)
    os.utime(path, (OLD, OLD))
    return str(path)


def test_a_model_is_not_read_again_in_the_next_process(tmp_path, read, monkeypatch):
    weights(tmp_path / "model/unet.safetensors")
    first = directory_hash(str(tmp_path / "model"))
    assert read == ["unet.safetensors"]
    code = (
        "import sys; from recapture.datasets.store import model_hashes as m; "
        "m.file_hash = lambda path: sys.exit('read again'); print(m.directory_hash(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == first, done.stderr


def test_a_replaced_file_of_equal_size_and_age_is_read_again(tmp_path, read):
    path = weights(tmp_path / "lora.safetensors")
    assert remembered_hash(path) == hashlib.sha256(b"w" * BIG).hexdigest()
    weights(tmp_path / "lora.safetensors", b"v")
    assert remembered_hash(path) == hashlib.sha256(b"v" * BIG).hexdigest()
    assert remembered_hash(path) == hashlib.sha256(b"v" * BIG).hexdigest()
    assert len(read) == 2


def test_a_file_that_has_only_just_changed_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(model_hashes, "SETTLED", 60.0)
    path = weights(tmp_path / "lora.safetensors")
    remembered_hash(path)
    remembered_hash(path)
    assert len(read) == 2


def test_notes_that_are_damaged_or_cannot_be_written_cost_time_only(tmp_path, cache, read, monkeypatch):
    path = weights(tmp_path / "lora.safetensors")
    right = remembered_hash(path)
    (note,) = cache.iterdir()
    for damage in (b"", b"{", b"[]", b'{"sha256": 5}', json.dumps({"sha256": "0" * 64}).encode()):
        note.write_bytes(damage)
        model_hashes._noted.clear()
        assert remembered_hash(path) == right
    assert len(read) == 6
    (tmp_path / "taken").write_text("a file where the cache should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    model_hashes._noted.clear()
    assert [remembered_hash(path), remembered_hash(path)] == [right, right]
    assert len(read) == 7  # within the process it is remembered even so


def test_what_a_download_leaves_beside_a_model_does_not_change_its_hash(tmp_path):
    weights(tmp_path / "model/vae/model.safetensors")
    before = directory_hash(str(tmp_path / "model"))
    for name in (
        ".cache/huggingface/x.metadata",
        ".git/HEAD",
        ".huggingface/y",
        ".gitattributes",
        "README.md",
    ):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("of the download")
    assert directory_hash(str(tmp_path / "model")) == before
    (tmp_path / "model/config.json").write_text("{}")
    assert directory_hash(str(tmp_path / "model")) != before


def test_a_snapshot_of_the_hub_s_cache_has_the_hash_of_the_plain_model(tmp_path, read):
    weights(tmp_path / "plain/vae/model.safetensors")
    blob = weights(tmp_path / "hub/blobs/abc")
    for revision in ("one", "two"):
        snapshot = tmp_path / "hub/snapshots" / revision / "vae"
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    plain = directory_hash(str(tmp_path / "plain"))
    assert directory_hash(str(tmp_path / "hub/snapshots/one")) == plain
    assert directory_hash(str(tmp_path / "hub/snapshots/two")) == plain
    assert read == ["model.safetensors", "abc"]  # a blob once, whatever links to it
    (tmp_path / "hub/blobs/abc").unlink()
    with pytest.raises(ValueError, match=r"vae/model.safetensors' is a link to a file that is missing"):
        directory_hash(str(tmp_path / "hub/snapshots/one"))


def test_a_link_back_to_the_model_does_not_hang(tmp_path):
    weights(tmp_path / "model/vae/model.safetensors")
    before = directory_hash(str(tmp_path / "model"))
    (tmp_path / "model/vae/self").symlink_to(tmp_path / "model")
    assert directory_hash(str(tmp_path / "model")) == before


def test_a_model_directory_is_known_by_names_and_bytes_and_not_by_place_or_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "vae").mkdir(parents=True)
        (tmp_path / name / "vae/model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "config.json").write_text("{}")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    os.utime(tmp_path / "two/config.json", (1, 1))
    before = directory_hash(one)
    assert directory_hash(two) == before
    (tmp_path / "two/vae/model.safetensors").write_bytes(b"WEIGHTS")
    assert directory_hash(two) != before
    (tmp_path / "one/config.json").rename(tmp_path / "one/other.json")
    assert directory_hash(one) != before


def test_a_missing_model_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        directory_hash(str(tmp_path / "nowhere"))
