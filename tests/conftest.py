import os
from itertools import groupby

import fsspec
import pytest

COMPUTING, WAITING = ("tests/flows/", "tests/tasks/tune/"), "tests/tasks/engine/"


def pytest_collection_modifyitems(items):
    """Put files of whole jobs first: a worker that begins one last would end long after the others.

    Files that mostly wait for processes are dealt out among those that compute, so that the cores stay busy.
    """
    files = [list(found) for _, found in groupby(items, lambda item: item.path)]
    computing = [file for file in files if file[0].nodeid.startswith(COMPUTING)]
    waiting = [file for file in files if file[0].nodeid.startswith(WAITING)]
    others = [file for file in files if not file[0].nodeid.startswith((*COMPUTING, WAITING))]
    shares = [number * len(waiting) // max(1, len(computing)) for number in range(len(computing) + 1)]
    order = [] if computing else waiting
    for file, begin, end in zip(computing, shares, shares[1:]):
        order += [file, *waiting[begin:end]]
    items[:] = [item for file in [*order, *others] for item in file]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Hashes of models are remembered below a folder of this run, not in the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def s3_endpoint():
    """An S3 server over HTTP; s3fs finds it by the variables that users set."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield settings["AWS_ENDPOINT_URL"]
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def migrated_mlflow(tmp_path_factory):
    """The path of an empty MLflow database; tests copy it, because creating one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
