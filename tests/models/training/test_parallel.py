"""Two real processes average their gradients, and train together."""

import os
import socket
import subprocess
import sys

import torch

SCRIPT = """
import sys
from datetime import timedelta
import torch
from recapture.models.training.parallel import mean_over_workers

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


TRAINING = """
import sys
from pathlib import Path
import torch
from recapture.models.pretraining.trainer import Trainer
from recapture.models.training.parallel import Workers
from recapture.models.training.schedule import Schedule
from recapture.models.training.seeds import generator

class Line:
    companion = None
    def __init__(self, seeds):
        torch.manual_seed(0)
        self.module, self.seeds = torch.nn.Linear(6, 4), seeds
    def is_matrix(self, name, parameter):
        return parameter.ndim == 2
    def loss(self, step):
        losses = []
        for seed in self.seeds:
            x = torch.randn(8, 6, generator=generator(seed, step, "cpu"))
            losses.append((self.module(x) - x[:, :4] * 2).square().mean())
        return torch.stack(losses).mean(), {}

folder, seeds = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
workers = Workers.from_environment()
mine = [workers.seed(3)] if workers.size > 1 else seeds
trainer = Trainer("line", Line(mine), Schedule(12, 0.05, 2, 0.5), folder, 0.9, workers=workers)
trainer.run(lambda step, values: None, log_every=4, stop_at=5)
trainer = Trainer("line", Line(mine), Schedule(12, 0.05, 2, 0.5), folder, 0.9, workers=workers)
assert trainer.run(lambda step, values: None, log_every=4)
torch.save(trainer.learner.module.state_dict(), folder / f"{workers.rank}.pt")
"""


def test_two_workers_train_as_one_with_both_their_clips_would(tmp_path):
    """Twice: once as two processes, each with its own seed and resumed from one checkpoint, once as one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir(), alone.mkdir()
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    runs = [(together, {**os.environ, **meeting, "RANK": str(rank)}) for rank in range(2)]
    runs.append((alone, {**os.environ}))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(folder), "3", str(3 + 1009)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, environment in runs
    ]
    errors = [process.communicate(timeout=150)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], errors
    first, second, one = (
        torch.load(path, weights_only=True) for path in (together / "0.pt", together / "1.pt", alone / "0.pt")
    )
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)
