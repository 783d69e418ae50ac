"""An outage is told from one bad file: the storage is unreachable if nothing beside the file can be read."""

import errno
import os
import shutil
import uuid

import fsspec
import pytest
from support.faulty_proxy import faulty_proxy

from recapture.datasets.store.errors import ArtifactMissing
from recapture.datasets.store.outage import blame
from recapture.datasets.store.storage import StoreBusy


@pytest.fixture
def dataset(tmp_path):
    """Three clips in one folder, and one in a folder of its own."""
    root = tmp_path / "videos"
    (root / "own").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "c.mp4", "own/d.mp4"):
        (root / name).write_bytes(b"frames")
    return root


def missing(path):
    """Return the error of a reader that wraps the real one, as all readers do."""
    try:
        try:
            open(path, "rb").close()
        except OSError as error:
            raise ValueError(f"video {str(path)!r}: there is no such file") from error
    except ValueError as error:
        return error
    raise AssertionError


def test_one_missing_file_among_others_is_to_blame_itself(dataset):
    (dataset / "b.mp4").unlink()
    found = blame(missing(dataset / "b.mp4"), [str(dataset / "b.mp4")], [str(dataset)])
    assert found == ("file", str(dataset / "b.mp4"))


def test_a_missing_clip_in_a_folder_of_its_own_is_to_blame_while_others_can_be_read(dataset):
    (dataset / "own/d.mp4").unlink()
    assert blame(missing(dataset / "own/d.mp4"), [], [str(dataset)])[0] == "file"
    shutil.rmtree(dataset / "own")
    assert blame(missing(dataset / "own/d.mp4"), [], [str(dataset)])[0] == "file"


@pytest.mark.parametrize("how", ["gone", "unmounted"])
def test_a_dataset_that_is_gone_or_an_empty_mount_point_is_an_outage(dataset, how):
    dataset.rename(dataset.with_name("elsewhere"))
    if how == "unmounted":
        dataset.mkdir()
    assert blame(missing(dataset / "b.mp4"), [], [str(dataset)]) == ("storage", str(dataset))


def test_a_file_of_an_index_is_judged_by_its_own_folder(dataset, tmp_path):
    index = tmp_path / "index.csv"
    index.write_text("id,uri\n")
    (dataset / "b.mp4").unlink()
    assert blame(missing(dataset / "b.mp4"), [], [str(index)])[0] == "file"
    shutil.rmtree(dataset)
    assert blame(missing(dataset / "b.mp4"), [], [str(index)]) == ("storage", str(dataset / "b.mp4"))


def test_a_place_of_masks_or_adapters_that_vanishes_is_an_outage_whatever_the_error_says(dataset, tmp_path):
    error = ValueError("clip 'a': mask.uri has no mask for it")
    masks = tmp_path / "masks"
    assert blame(error, [], [str(dataset), str(masks)]) == ("storage", str(masks))
    masks.mkdir()
    assert blame(error, [], [str(dataset), str(masks)]) == ("storage", str(masks))
    (masks / "b.png").write_bytes(b"b")
    assert blame(error, [], [str(dataset), str(masks)]) == ("file", "")


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT]
)
def test_an_input_error_that_passes_is_worth_another_try(dataset, number):
    error = OSError(number, os.strerror(number), str(dataset / "a.mp4"))
    assert blame(error, [], [str(dataset)]) == ("passing", "")


def test_a_file_that_always_fails_among_readable_ones_is_never_an_outage(dataset, monkeypatch):
    local = type(fsspec.filesystem("file"))
    original = local.cat_file

    def bad_sector(self, path, *arguments, **settings):
        if path.endswith("b.mp4"):
            raise OSError(errno.EIO, "Input/output error", path)
        return original(self, path, *arguments, **settings)

    monkeypatch.setattr(local, "cat_file", bad_sector)
    error = OSError(errno.EIO, "Input/output error", str(dataset / "b.mp4"))
    assert blame(error, [], [str(dataset)]) == ("passing", str(dataset / "b.mp4"))
    monkeypatch.setattr(local, "cat_file", lambda *_, **__: (_ for _ in ()).throw(error))
    assert blame(error, [], [str(dataset)]) == ("storage", str(dataset / "b.mp4"))


def test_faults_of_the_store_and_of_a_full_disk_are_not_those_of_the_dataset(dataset):
    for error in (
        StoreBusy("slow down"),
        ArtifactMissing("no artifact"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("depth has 3 non-finite frames"),
    ):
        assert blame(error, [str(dataset / "a.mp4")], [str(dataset)]) == ("file", "")


def test_procedural_scenes_are_no_storage(tmp_path):
    assert blame(missing(tmp_path / "x"), [], ["scenes://?count=2"])[0] == "storage"  # the folder has no file
    assert blame(ValueError("x"), [], ["scenes://?count=2"]) == ("file", "")


@pytest.fixture
def bucket(s3_endpoint, monkeypatch):
    """Three objects behind a proxy that can be told to fail."""
    with faulty_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        name = f"videos-{uuid.uuid4().hex}"
        s3 = fsspec.filesystem("s3")
        s3.retries = 1
        s3.mkdir(name)
        for clip in "abc":
            s3.pipe_file(f"{name}/set/{clip}.mp4", b"frames")
        yield proxy, f"s3://{name}/set"
        proxy.fault = lambda method, path: None
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def read_error(uri):
    try:
        with fsspec.open(uri, "rb") as stream:
            stream.read()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["503", "expired", "drop"])
def test_an_outage_of_s3_is_the_storages_fault(bucket, fault):
    proxy, root = bucket
    proxy.fault = lambda method, path: fault
    error = read_error(f"{root}/b.mp4")
    assert blame(error, [f"{root}/b.mp4"], [root]) == ("storage", root)
    proxy.fault = lambda method, path: None
    assert blame(error, [f"{root}/b.mp4"], [root])[0] == "passing"


@pytest.mark.integration
def test_a_missing_object_is_to_blame_itself_and_a_missing_bucket_is_an_outage(bucket):
    _, root = bucket
    s3 = fsspec.filesystem("s3")
    s3.rm_file(f"{root}/b.mp4")
    error = read_error(f"{root}/b.mp4")
    assert blame(error, [f"{root}/b.mp4"], [root]) == ("file", f"{root}/b.mp4")
    s3.rm(root, recursive=True)
    assert blame(error, [f"{root}/b.mp4"], [root]) == ("storage", root)
