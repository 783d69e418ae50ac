"""Workers with part of a GPU: their part of its memory, and what they say when it runs out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recapture.tasks.engine import gpu_share
from recapture.tasks.engine.gpu_share import CONTEXT, hint, limit_memory, memory_share

GIB = 2**30


@given(fill=st.floats(0.1, 0.9), total=st.integers(8, 200), others=st.integers(1, 5))
def test_workers_and_their_contexts_fit_on_a_gpu_together(fill, total, others):
    total *= GIB
    parts = [fill, *[(1 - fill) / others] * others]
    shares = [memory_share(part, total) for part in parts]
    assert all(0 < share < 1 for share in shares)
    if min(parts) * total >= 2 * CONTEXT:
        assert sum(shares) * total + len(parts) * CONTEXT <= total * (1 + 1e-9)


def test_only_a_part_of_a_gpu_is_limited(monkeypatch):
    set_to = []
    properties = type("Properties", (), {"total_memory": 80 * GIB})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_to.append)
    for gpus in (0, 1, 2):
        limit_memory(gpus)
    assert set_to == []
    limit_memory(0.2)
    assert set_to == [pytest.approx(0.2 - gpu_share.CONTEXT / (80 * GIB))]


def test_a_worker_that_ran_out_of_its_part_names_the_setting():
    assert hint("depth", 0.2).endswith("raise execution.resources.depth.gpus")
    assert hint("depth", 1) == hint("depth", 0) == ""
