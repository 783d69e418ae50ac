"""Storage to test against: a local folder, memory, and a real S3 server on loopback."""

import os
import uuid

import fsspec
import pytest


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


@pytest.fixture(params=["local", "memory", "s3"])
def root(request, tmp_path):
    """The URL of empty storage."""
    if request.param == "local":
        return str(tmp_path / "artifacts")
    if request.param == "memory":
        return f"memory://test-{uuid.uuid4().hex}"
    request.getfixturevalue("s3_endpoint")
    bucket = f"test-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/prefix"
