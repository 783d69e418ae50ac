"""Two real processes average their gradients."""

import subprocess
import sys

SCRIPT = """
import sys
from datetime import timedelta
import torch
from recapture.models.tuning.parallel import mean_over_workers

rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
)
shapes = [(3, 4), (2,), (1, 5)]
def gradients(rank):
    random = torch.Generator().manual_seed(rank)
    return [torch.randn(shape, generator=random) for shape in shapes]
mine = gradients(rank)
mean_over_workers(mine)
for got, first, second in zip(mine, gradients(0), gradients(1)):
    torch.testing.assert_close(got, (first + second) / 2)
poisoned = [torch.tensor([float("nan") if rank else 1.0]), torch.tensor([2.0])]
mean_over_workers(poisoned)
assert torch.isnan(poisoned[0]).all() and poisoned[1] == 2.0
torch.distributed.destroy_process_group()
"""


def test_two_workers_end_up_with_the_mean(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "meeting")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=150)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
