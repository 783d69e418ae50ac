"""A scripted stage and the store of the executor that runs it."""

import pytest
from support.scripted import Scripted

from recapture.datasets.store.store import ArtifactStore


@pytest.fixture
def store(store_root):
    return ArtifactStore(store_root)


@pytest.fixture
def stage(tmp_path):
    return Scripted(str(tmp_path / "log"))
