"""One LoRA training on several GPUs against one: the same gradient, and what a step takes.

    python benchmarks/tuning_parallel.py

Wan2.1 1.3B's shape with random weights, 81 frames of 512 x 512, rank 128, a batch of one sample a GPU; once
by one process for the whole batch, once by a process a GPU that averages gradients over NCCL.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.distributed
from real_size import random_base
from tuning_speed import random_examples

from recapture.conf.tune import TrainingConfig
from recapture.models.tuning.parallel import mean_over_workers
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.lora import ATTENTION, add_lora
from recapture.models.wan.speed import speed_up
from recapture.tasks.tune.train_adapter import settings_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--clip", default="81x512x512")
    given = parser.parse_args()
    count = torch.cuda.device_count()
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (1, count, given.clip, given.steps, folder), nprocs=1)
        torch.multiprocessing.spawn(train, (count, count, given.clip, given.steps, folder), nprocs=count)
        (one, alone), (several, together) = (torch.load(f"{folder}/{n}.pt") for n in (1, count))
    error = (several - one).norm() / one.norm()
    print(
        f"{count} x {torch.cuda.get_device_name()}, torch {torch.__version__}, {date.today()}, batch {count}"
    )
    print(f"gradients of {len(one) / 1e6:.1f} million weights differ by {float(error):.1e} of their norm")
    print(
        f"a step: one GPU {alone:.3f} s, {count} GPUs {together:.3f} s, {alone / together:.2f} times as fast"
    )


def train(rank: int, workers: int, batch: int, clip: str, steps: int, folder: str) -> None:
    """Write the first step's gradient and the median seconds of a step."""
    torch.cuda.set_device(rank)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29581"}
    if workers > 1:
        torch.distributed.init_process_group("nccl", rank=rank, world_size=workers)
    base = random_base("1.3B", device=f"cuda:{rank}", vae=False)
    add_lora(base.transformer, rank=128, targets=ATTENTION)
    torch.manual_seed(1)
    for name, parameter in base.transformer.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.02)
    speed_up(base.transformer, attention="cudnn", compile_blocks=True)
    examples = random_examples(base, *map(int, clip.split("x")))
    trainer = LoraTrainer(
        base,
        examples,
        settings_of(TrainingConfig(batch=batch, micro_batch=1, log_every=1000), steps=100, seed=0),
        empty_text=torch.zeros_like(examples[0].text),
        worker=(rank, workers),
        reduce=mean_over_workers if workers > 1 else None,
    )
    found, _ = trainer.gradients(0)
    times = []
    for step in range(1, steps + 3):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        trainer.run(lambda step, values: None, stop_at=step)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    if rank == 0:
        flat = torch.cat([gradient.flatten() for gradient in found]).cpu()
        torch.save((flat, median(times[2:])), Path(folder) / f"{workers}.pt")
    if workers > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
