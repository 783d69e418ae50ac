"""Names for what an item fails of: PyTorch says the same of its devices in many ways."""

from __future__ import annotations

import re

OUT_OF_MEMORY, DEVICE_LOST = "OutOfMemoryError", "DeviceLost"
WITHDRAWN = "Withdrawn"  # no failure: the item has not had its turn, and another worker is free for it
# After one of these a process has lost its GPU: everything that it does next fails too.
DEVICE_FAULT = re.compile(r"CUDA error|cuDNN error|CUBLAS_STATUS|CUDNN_STATUS|device-side assert")


def error_type(error: Exception) -> str:
    """Return the name of an error's type; PyTorch's many device errors are mapped to two names."""
    if isinstance(error, RuntimeError) and DEVICE_FAULT.search(str(error)):
        full = "out of memory" in str(error) or "ALLOC_FAILED" in str(error)
        return OUT_OF_MEMORY if full else DEVICE_LOST
    return OUT_OF_MEMORY if isinstance(error, MemoryError) else type(error).__name__


def first_line(error: Exception) -> str:
    """Return the first line of an error that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
