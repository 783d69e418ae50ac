"""Fills in batches: every seed once, in order; half as many at once where memory does not suffice."""

import pytest
import torch

from recapture.models.fill.several import CPU_PIXELS, batch_size, in_batches


def test_batches_shrink_until_they_fit_and_keep_the_order():
    calls = []

    def fill(seeds):
        calls.append(list(seeds))
        if len(seeds) > 2:
            raise torch.OutOfMemoryError
        return [10 * seed for seed in seeds]

    assert list(in_batches(range(5), fill, 5)) == [0, 10, 20, 30, 40]
    assert calls == [[0, 1, 2, 3, 4], [0, 1], [2, 3], [4]]


def test_one_that_does_not_fit_alone_is_an_error():
    def full(seeds):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError, match="full"):
        list(in_batches(range(3), full, 2))


def test_a_step_cache_and_a_hosts_memory_bound_the_batch():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert batch_size(4, 1000, cpu, cached=True) == 1
    assert batch_size(4, 1000, cpu, cached=False) == 4
    assert batch_size(4, CPU_PIXELS // 2, cpu, cached=False) == 2
    assert batch_size(4, 10 * CPU_PIXELS, cpu, cached=False) == 1
    assert batch_size(4, 10 * CPU_PIXELS, gpu, cached=False) == 4
