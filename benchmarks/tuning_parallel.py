"""One LoRA training on all GPUs of a machine against one GPU: difference of gradients, seconds per step.

    python benchmarks/tuning_parallel.py

Wan2.1 1.3B's shape with random weights, 81 frames of 512 x 512, rank 128, one sample per GPU in a batch: once
one process computes the whole batch, once one process per GPU, averaging gradients over NCCL. Takes a few
minutes.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.distributed

from bench.real_size import random_base, random_examples
from bench.tables import Column, Run, Table, add_write, publish, this_run
from recapture.conf.tune import TrainingConfig
from recapture.models.training.parallel import mean_over_workers
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.lora import ATTENTION, add_lora
from recapture.models.wan.speed import speed_up
from recapture.tasks.tune.train_adapter import settings_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--clip", default="81x512x512")
    add_write(parser, "tuning_parallel")
    given = parser.parse_args()
    count = torch.cuda.device_count()
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (1, count, given.clip, given.steps, folder), nprocs=1)
        torch.multiprocessing.spawn(train, (count, count, given.clip, given.steps, folder), nprocs=count)
        (one, alone), (several, together) = (torch.load(f"{folder}/{n}.pt") for n in (1, count))
    error = float((several - one).norm() / one.norm())
    columns = [
        Column("GPUs", "d"),
        Column("one GPU, s per step", ".3f"),
        Column("all GPUs, s per step", ".3f"),
    ]
    columns += [Column("times as fast", ".2f"), Column("difference of gradients", ".1e")]
    here = this_run(device="cuda")
    run = Run(here.command, f"{count} x {here.machine}", here.date, here.commit)
    title = f"Wan2.1 1.3B, {given.clip}, rank 128, one sample per GPU"
    row = [count, alone, together, alone / together, error]
    made = Table(given.write or "tuning_parallel", title, columns, [row], run)
    publish([made], write=given.write is not None)


def train(rank: int, workers: int, batch: int, clip: str, steps: int, folder: str) -> None:
    """Write the first step's gradient and the median seconds per step."""
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
    speed_up(base.transformer, attention="cudnn", compiler=Compiler("the transformer"))
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
