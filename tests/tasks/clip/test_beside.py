"""Work on a GPU beside a turn."""

import pytest
import torch

from recapture.models.fill.packed import FinishedView
from recapture.models.fill.view import RenderedView, SourceView
from recapture.tasks.clip import beside as beside_module
from recapture.tasks.clip.beside import ROOM, beside, taken
from recapture.tasks.jobs.fill_windows import GivenWindow


def test_on_a_cpu_nothing_is_done_beside():
    assert beside(lambda: pytest.fail("computed"), torch.device("cpu"), 1) is None


def test_without_room_nothing_is_done_beside(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * ROOM - 1, 1 << 40))
    assert beside(lambda: pytest.fail("computed"), torch.device("cuda"), 100) is None


def test_every_tensor_is_handed_over(monkeypatch):
    """Memory that one of them leaves must not be written to while the turn's work still reads it."""
    count = iter(range(100))
    number = lambda: torch.tensor(float(next(count)))  # noqa: E731
    view = RenderedView(*(number() for _ in range(7)))
    source = SourceView(*(number() for _ in range(7)))
    shown = torch.full((1, 3, 1, 1), 14.0), torch.full((1, 1, 1), 15.0), torch.full((1,), 16.0)
    given = GivenWindow(view, source, None, [FinishedView(*shown)], torch.tensor(17.0))
    found = {float(tensor.mean()) for tensor in beside_module._tensors(given)}
    assert found == set(map(float, range(18)))
    assert taken(given) is given


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same_beside_other_work():
    device = torch.device("cuda")
    values = torch.randn(1000, 1000)

    def make():
        found = values.to(device)
        for _ in range(20):
            found = torch.nn.functional.normalize(found @ found.T)
        return found

    expected, busy = make(), torch.randn(8192, 8192, device=device)
    for _ in range(20):
        busy = torch.nn.functional.normalize(busy @ busy)
    made = taken(beside(make, device, 1))
    assert torch.equal(made, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_where_memory_runs_out_nothing_is_made():
    device = torch.device("cuda")
    _, total = torch.cuda.mem_get_info()
    assert beside(lambda: torch.empty(2 * total, dtype=torch.uint8, device=device), device, 1) is None
