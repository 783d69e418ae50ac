import importlib.util
import os
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(scope="session")
def tiny():
    """The module tests/support/tiny_base.py: tiny random bases on disk, for any test that needs a base."""
    return _load("support/tiny_base.py")


@pytest.fixture(scope="session")
def tiny_video_depth():
    """The module tests/support/tiny_video_depth.py: a tiny random video depth model on disk."""
    return _load("support/tiny_video_depth.py")


def _load(name):
    path = Path(__file__).parent / name
    spec = importlib.util.spec_from_file_location(f"recapture_tests_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
