"""The storage's own faults are told from those of an artifact, on every storage."""

import errno
import itertools
import os
import subprocess
import sys

import pytest

from recapture.datasets.store.errors import ArtifactDamaged, ArtifactMissing
from recapture.datasets.store.storage import (
    StoreBusy,
    StoreFailed,
    check_plain,
    open_filesystem,
    put_file,
    raising_storage_faults,
)
from recapture.datasets.store.store import ArtifactStore

KEYS = [f"{number:032x}" for number in range(5)]


def make(store, key, content=b"payload"):
    with store.create("depth", key) as output:
        output.write_bytes("a.bin", content)
        output.metrics = {"score": 0.5}


def test_whole_gives_the_committed_and_undamaged_of_the_keys_with_their_metrics(root):
    store = ArtifactStore(root)
    for key in KEYS[:4]:
        make(store, key)
    filesystem, base = open_filesystem(root)
    folders = [f"{base}/objects/depth/{key[:2]}/{key}" for key in KEYS]
    filesystem.rm_file(f"{folders[0]}/meta.json")
    filesystem.rm_file(f"{folders[1]}/a.bin")
    filesystem.pipe_file(f"{folders[2]}/a.bin", b"cut")
    found = store.whole("depth", [*KEYS, KEYS[3]])
    assert found.keys() == {KEYS[3]} == {key for key in KEYS if store.exists("depth", key)}
    assert (found[KEYS[3]].metrics, found[KEYS[3]].total_bytes) == ({"score": 0.5}, 7)
    assert store.whole("depth", []) == {}


def test_missing_and_damaged_are_told_apart(root):
    store = ArtifactStore(root)
    make(store, KEYS[0])
    with pytest.raises(ArtifactMissing):
        store.open("depth", KEYS[1])
    filesystem, base = open_filesystem(root)
    filesystem.pipe_file(f"{base}/objects/depth/{KEYS[0][:2]}/{KEYS[0]}/a.bin", b"payl0ad")
    with pytest.raises(ArtifactDamaged) as damaged:
        store.open("depth", KEYS[0]).read_bytes("a.bin")
    assert (damaged.value.stage, damaged.value.key) == ("depth", KEYS[0])


class NoCredentialsError(Exception):
    """As botocore's, which is no OSError."""


class EndpointConnectionError(Exception):
    """As botocore's."""


NoCredentialsError.__module__ = EndpointConnectionError.__module__ = "botocore.exceptions"


FAULTS = [
    (OSError(errno.ENOSPC, "No space left on device"), StoreFailed, "free space"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreFailed, "free space"),
    (OSError(errno.EROFS, "Read-only file system"), StoreFailed, "make it writable"),
    (PermissionError("The provided token has expired."), StoreFailed, "renew the credentials"),
    (NoCredentialsError("Unable to locate credentials"), StoreFailed, "renew the credentials"),
    (OSError(errno.EBUSY, "Please reduce your request rate"), StoreBusy, "run the job again"),
    (ConnectionResetError("peer"), StoreBusy, "run the job again"),
    (TimeoutError("slow"), StoreBusy, "run the job again"),
    (EndpointConnectionError("no route"), StoreBusy, "run the job again"),
]


def test_a_fault_of_the_storage_names_the_path_and_the_way_out():
    for (error, kind, way_out), (writing, verb) in itertools.product(
        FAULTS, [(True, "written"), (False, "read")]
    ):
        with pytest.raises(StoreFailed) as told, raising_storage_faults("s3://b/x", writing=writing):
            raise error
        assert type(told.value) is kind, error
        assert str(told.value).startswith(f"s3://b/x cannot be {verb}: "), error
        assert way_out in str(told.value), error
        assert told.value.__cause__ is error


def test_what_is_no_fault_of_the_storage_stays_what_it_is():
    for error in (ValueError("x"), KeyError("x"), IsADirectoryError("x"), ArtifactMissing("x")):
        with pytest.raises(type(error)) as told, raising_storage_faults("p", writing=True):
            raise error
        assert told.value is error


def test_a_file_that_is_not_there_is_a_fault_only_where_it_was_to_be_written():
    with pytest.raises(FileNotFoundError), raising_storage_faults("p", writing=False):
        raise FileNotFoundError
    with pytest.raises(StoreFailed), raising_storage_faults("p", writing=True):
        raise FileNotFoundError("The specified bucket does not exist")


FULL = """
import errno, os, sys
from recapture.datasets.store.storage import StoreFailed, open_filesystem, put_file

def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")
filesystem, base = open_filesystem(sys.argv[1])
put_file(filesystem, f"{base}/f.bin", b"old")
os.fsync = full
try:
    put_file(filesystem, f"{base}/f.bin", b"new")
except StoreFailed as error:
    print(error)
"""


def test_a_full_disk_in_a_real_process_leaves_the_old_file_and_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (
        f"{tmp_path}/f.bin cannot be written: [Errno 28] No space left on device; free space" in done.stdout
    )
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_folder_without_permission_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    filesystem, base = open_filesystem(str(tmp_path))
    with pytest.raises(StoreFailed, match="make it writable"):
        put_file(filesystem, f"{base}/f.bin", b"x")


def test_plain_names_are_plain():
    for name in ("depth", "0123abcdef", "part-1.2_x"):
        check_plain("key", name)
