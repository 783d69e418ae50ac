"""Storage to test against: a local folder, memory, and a real S3 server on loopback."""

import uuid

import fsspec
import pytest


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
