"""Python in a process of its own, which finds the packages of the tests as pytest does."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = str(Path(__file__).parents[1])


def run_python(*words: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run `python` with words; `support` can be imported. The result holds what it wrote, as text."""
    path = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
