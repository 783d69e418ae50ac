import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny():
    """The module tests/models/wan/tiny.py: tiny random bases on disk, for any test that needs a base."""
    path = Path(__file__).parent / "models" / "wan" / "tiny.py"
    spec = importlib.util.spec_from_file_location("recapture_tests_tiny", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
