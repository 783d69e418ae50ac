"""Memory of a base at real size, and what it costs to have less: Wan's shapes with random weights, on a GPU.

    python benchmarks/memory.py
    python benchmarks/memory.py --size tiny --device cpu --clip 9x32x48

Passes over one clip (bfloat16, 512 text tokens) with the transformer on the GPU and with its blocks in turns,
under a limit of the process's memory (`torch.cuda.set_per_process_memory_fraction`); the VAE both ways; the
text encoder's blocks in turns; Wan2.2's two experts; a LoRA training step. Peaks are what torch reserves, to
which the CUDA context adds about 0.5 GiB. Medians of --passes passes after two. Each row is printed, and
written to --out, as soon as it is there; rows that --seconds leaves no time for are left out and named.
Takes about four minutes on an H100, and 75 GB of the host's memory.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from bench.memory_models import default_dtype, far, random_inputs, random_transformer, velocity
from bench.memory_rows import Bench
from bench.real_size import HEADS_LAYERS_FFN, random_examples
from bench.tables import Column, Table, add_write, publish, this_run
from recapture.conf.tune import TrainingConfig
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.footprint import GIB, ClipSize, footprint_of
from recapture.models.wan.load import Base
from recapture.models.wan.lora import add_lora, remove_lora
from recapture.models.wan.memory import EncoderPlace, Mode, needed
from recapture.models.wan.offload import layers_open, offload, take_off
from recapture.models.wan.vae import decode_latents, encode_video
from recapture.tasks.tune.train_adapter import settings_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", choices=HEADS_LAYERS_FFN, default="14B", help="Of the transformer that is offloaded."
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clip", default="81x480x832")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--out", type=Path, help="File for the rows as they come.")
    add_write(parser, "memory")
    given = parser.parse_args()
    clip = ClipSize(*map(int, given.clip.split("x")))
    bench = Bench(torch.device(given.device), clip, given.passes, given.seconds, given.out)
    small = "tiny" if given.size == "tiny" else "1.3B"
    with torch.no_grad():
        transformer = passes(bench, given.size)
        two_experts(bench, given.size, transformer)
        del transformer
        text_encoder(bench, small == "tiny")
    training(bench, small)
    with torch.no_grad():
        adapted(bench, small)
        vae(bench, small == "tiny")
    columns = [Column(""), Column("limit, GiB", ".0f"), Column("s", ".2f"), Column("against resident", ".3f")]
    columns += [Column("peak, GiB", ".1f"), Column("estimate, GiB", ".1f"), Column("same bits")]
    title = f"{given.size}, {given.clip}, bfloat16, {given.passes} calls per row"
    notes = [f"Left out for time: {', '.join(bench.left_out)}."] if bench.left_out else []
    run = this_run(device=given.device)
    publish(
        [Table(given.write or "memory", title, columns, bench.rows, run, notes)],
        write=given.write is not None,
    )


def passes(bench: Bench, size: str) -> WanTransformer3DModel:
    """Measure passes of the transformer on the GPU and with its blocks in turns; return it, offloaded."""
    model, inputs = random_transformer(size, bench.device), random_inputs(bench.clip, size, bench.device)
    with bench.limited(None):
        plain, expected = bench.timed(lambda: velocity(model, inputs))
        bench.add(
            f"pass, {size}, resident", None, plain, 1.0, bench.peak(), estimate(bench, model, "gpu"), ""
        )
    expected = expected.cpu()
    begun = time.perf_counter()
    offload(model, bench.device)
    print(f"moved to locked memory in {time.perf_counter() - begun:.0f} s", flush=True)
    for limit in (24.0, 16.0, 8.0):
        guarded(bench, f"pass, {size}, blocks in turns", limit, plain, model, inputs, expected)
    if bench.device.type == "cuda" and bench.has_time("recorded streams", 8 * plain):
        with layers_open(model):
            pass
        take_off(model)
        model.enable_group_offload(
            bench.device,
            num_blocks_per_group=1,
            use_stream=True,
            record_stream=True,
        )
        guarded(bench, f"pass, {size}, in turns, recorded streams", 24.0, plain, model, inputs, expected)
        take_off(model)
        offload(model, bench.device)
    if bench.has_time("compiled", 60 + 10 * plain):
        compiled_passes(bench, size, model, inputs)
    return model


def compiled_passes(bench: Bench, size: str, model: Any, inputs: dict[str, Tensor]) -> None:
    """Measure passes whose blocks are compiled, in turns and on the GPU; leave the model offloaded."""
    backend = "inductor" if bench.device.type == "cuda" else "aot_eager"
    with layers_open(model):
        plain_forwards = [block.forward for block in model.blocks]
        for block in model.blocks:
            block.forward = torch.compile(block.forward, dynamic=False, backend=backend)
    with bench.limited(24.0):
        seconds, found = bench.timed(lambda: velocity(model, inputs))
        peak, found = bench.peak(), found.cpu()
    take_off(model)
    model.to(bench.device)
    with bench.limited(None):
        plain, expected = bench.timed(lambda: velocity(model, inputs))
        bench.add(f"pass, {size}, compiled, resident", None, plain, 1.0, bench.peak(), None, "")
    same = "yes" if torch.equal(found, expected.cpu()) else f"no, {far(found, expected.cpu()):.1e}"
    bench.add(f"pass, {size}, compiled, blocks in turns", 24.0, seconds, seconds / plain, peak, None, same)
    for block, forward in zip(model.blocks, plain_forwards):
        block.forward = forward
    offload(model, bench.device)


def guarded(
    bench: Bench,
    row: str,
    limit: float,
    plain: float,
    model: Any,
    inputs: dict[str, Tensor],
    expected: Tensor,
) -> None:
    """Measure an offloaded pass within a limit, and compare its result with the resident one."""
    if not bench.has_time(row, 5 * plain):
        return
    try:
        with bench.limited(limit):
            seconds, found = bench.timed(lambda: velocity(model, inputs))
            peak = bench.peak()
    except torch.OutOfMemoryError:
        bench.add(row, limit, None, None, None, estimate(bench, model, "offload"), "does not fit")
        return
    found = found.cpu()
    same = "yes" if torch.equal(found, expected) else f"no, {far(found, expected):.1e}"
    bench.add(row, limit, seconds, seconds / plain, peak, estimate(bench, model, "offload"), same)


def two_experts(bench: Bench, size: str, first: WanTransformer3DModel) -> None:
    """Measure Wan2.2's two experts, both on the GPU, each used once."""
    if not bench.has_time("two experts", 40):
        return
    take_off(first)
    first.to(bench.device)
    second, inputs = random_transformer(size, bench.device), random_inputs(bench.clip, size, bench.device)
    with bench.limited(80.0 if size == "14B" else None):
        try:
            seconds, _ = bench.timed(lambda: (velocity(first, inputs), velocity(second, inputs)), first=1)
            bench.add(f"pass of each of two experts, {size}", 80.0, seconds, None, bench.peak(), None, "")
        except torch.OutOfMemoryError:
            bench.add(f"pass of each of two experts, {size}", 80.0, None, None, None, None, "does not fit")


def vae(bench: Bench, tiny: bool) -> None:
    """Measure encoding and decoding of the clip, in float32 and bfloat16."""
    made = {"base_dim": 8, "num_res_blocks": 1} if tiny else {}
    with bench.device:
        model = AutoencoderKLWan(**made).eval()
    random = torch.Generator().manual_seed(0)
    video = torch.rand(bench.clip.frames, 3, bench.clip.height, bench.clip.width, generator=random) * 2 - 1
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        name = str(dtype).removeprefix("torch.")
        for limit in (24.0, 16.0, 8.0):
            if not bench.has_time(f"VAE in {name}", 12):
                return
            vae_both_ways(bench, model, video, name, limit)
            if bench.device.type != "cuda":
                break


def vae_both_ways(bench: Bench, model: Any, video: Tensor, name: str, limit: float) -> None:
    """Measure encoding and decoding within a limit."""
    try:
        with bench.limited(limit):
            encoding, latents = bench.timed(lambda: encode_video(model, video), first=0)
            bench.add(f"VAE encodes, {name}", limit, encoding, None, bench.peak(), None, "")
        with bench.limited(limit):
            decoding, _ = bench.timed(lambda: decode_latents(model, latents), first=0)
            bench.add(f"VAE decodes, {name}", limit, decoding, None, bench.peak(), None, "")
    except torch.OutOfMemoryError:
        bench.add(f"VAE, {name}", limit, None, None, None, None, "does not fit")


def text_encoder(bench: Bench, tiny: bool) -> None:
    """Measure one caption with the text encoder's blocks in turns, and on the GPU."""
    from transformers import UMT5Config, UMT5EncoderModel

    if not bench.has_time("text encoder", 25):
        return
    shape = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "d_kv": 64}
    if tiny:
        shape = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8}
    config = UMT5Config(vocab_size=512 if tiny else 256384, feed_forward_proj="gated-gelu", **shape)
    with default_dtype(torch.bfloat16), bench.device:
        encoder = UMT5EncoderModel(config).eval()
    tokens = torch.randint(0, 500, (1, 512), generator=torch.Generator().manual_seed(0))
    given = torch.ones(1, 512, dtype=torch.long)

    def embed() -> Tensor:
        ids, known = tokens.to(encoder.device), given.to(encoder.device)
        found: Tensor = encoder(ids, known).last_hidden_state
        return found.cpu()

    with bench.limited(None):
        plain, expected = bench.timed(embed)
        bench.add("caption, text encoder resident", None, plain, 1.0, bench.peak(), None, "")
    offload(encoder.encoder, bench.device, outside=False)
    with bench.limited(8.0):
        seconds, found = bench.timed(embed)
        same = "yes" if torch.equal(found, expected) else "no"
        bench.add(
            *("caption, text encoder in turns", 8.0, seconds, seconds / plain, bench.peak(), None, same)
        )


def training(bench: Bench, size: str) -> None:
    """Measure a LoRA step of the 1.3B, rank 128 on attention, with checkpointing."""
    if not bench.has_time("training", 25):
        return
    transformer = random_transformer(size, bench.device)
    coder = AutoencoderKLWan(base_dim=8, num_res_blocks=1)
    base = Base("inpaint", transformer, coder)
    clip = bench.clip
    examples = random_examples(base, clip.frames, clip.height, clip.width, count=2)
    add_lora(transformer, rank=128)
    settings = settings_of(
        TrainingConfig(batch=1, gradient_checkpointing=True, log_every=1000), bench.passes + 2, seed=0
    )
    with bench.limited(24.0):
        trainer = LoraTrainer(base, examples, settings, empty_text=torch.zeros_like(examples[0].text))
        step = iter(range(1, settings.steps + 1))
        seconds, _ = bench.timed(lambda: trainer.run(lambda step, values: None, stop_at=next(step)))
        bench.add(f"LoRA step, {size}, rank 128", 24.0, seconds, None, bench.peak(), None, "")
    remove_lora(transformer)


def adapted(bench: Bench, size: str) -> None:
    """Compare passes under an adapter, put on while the blocks take turns, with those on the GPU."""
    if not bench.has_time("adapter", 20):
        return
    model, inputs = random_transformer(size, bench.device), random_inputs(bench.clip, size, bench.device)

    def put_on() -> None:
        add_lora(model, rank=16)
        for name, value in model.named_parameters():
            if "lora_" in name:
                random = torch.Generator().manual_seed(len(name))
                value.data.copy_(torch.randn(value.shape, generator=random) * 0.02)

    with bench.limited(None):
        bench.timed(lambda: velocity(model, inputs), first=1)
        put_on()
        plain, expected = bench.timed(lambda: velocity(model, inputs), first=1)
        bench.add(f"pass, {size}, adapter, resident", None, plain, 1.0, bench.peak(), None, "")
    remove_lora(model)
    offload(model, bench.device)
    with layers_open(model):
        put_on()
    with bench.limited(8.0):
        seconds, found = bench.timed(lambda: velocity(model, inputs))
        same = "yes" if torch.equal(found, expected) else f"no, {far(found, expected):.1e}"
        bench.add(
            *(f"pass, {size}, adapter, blocks in turns", 8.0, seconds, seconds / plain, bench.peak()),
            *(None, same),
        )


def estimate(bench: Bench, model: Any, mode: Mode, encoder: EncoderPlace = "host") -> float:
    """Return the estimate of `fill.memory` for the transformer alone, without its margin's fixed part."""
    with torch.device("meta"):
        coder = AutoencoderKLWan(base_dim=8, num_res_blocks=1)
    found = replace(footprint_of([model], coder), vae=0)
    return needed(found, bench.clip, mode, encoder) / GIB


if __name__ == "__main__":
    main()
