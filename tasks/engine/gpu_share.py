"""What part of a GPU means: so much of its memory, and no more."""

from __future__ import annotations

CONTEXT = 0.75 * 2**30  # bytes of a process's CUDA context and libraries, which no limit of torch counts


def limit_memory(gpus: float) -> None:
    """Limit this process to its part of a GPU's memory; a whole GPU or none has no limit.

    A worker that grows then fails alone, in place of the one that it shares the GPU with.
    """
    if not 0 < gpus < 1:
        return
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_share(gpus, total))


def memory_share(gpus: float, total: float) -> float:
    """Return the share of a GPU's bytes that torch may reserve in a worker with part of the GPU."""
    return max(gpus / 2, gpus - CONTEXT / total)


def hint(stage: str, gpus: float) -> str:
    """Return what to do where a worker with part of a GPU has run out of memory; empty for a whole GPU."""
    if not 0 < gpus < 1:
        return ""
    return f"; a worker has {gpus:g} of a GPU's memory: raise execution.resources.{stage}.gpus"
