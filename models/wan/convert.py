"""A base in Wan's original layout, written once as a diffusers pipeline directory in safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
from diffusers import UniPCMultistepScheduler

from recapture.models.wan.load import Base, load_sources
from recapture.models.wan.sources import Named, Sources, find_sources
from recapture.models.wan.tensor_files import CheckpointError

PIPELINES = {
    "t2v": "WanPipeline",
    "inpaint": "WanImageToVideoPipeline",
    "vace": "WanVACEPipeline",
    "control": "WanImageToVideoPipeline",  # diffusers has none of its own; it opens the parts
}
SHIFTS = {
    "t2v": 3.0,
    "inpaint": 5.0,
    "vace": 5.0,
    "control": 5.0,
}  # of the scheduler's file, which recapture does not read
SHARD = "5GB"  # as much is copied into memory at a time
PARTS = ("transformer", "transformer_2", "vae", "text_encoder", "image_encoder")
LIBRARIES = {"text_encoder": "transformers", "image_encoder": "transformers"}


def convert_base(folder: Path, target: Path) -> Iterator[str]:
    """Write a base in original layout as a diffusers directory; yield what is done next.

    Weights keep their stored precision. Pickles are read as tensors alone, mapped rather than loaded. The
    target appears as a whole when all is written. Raises CheckpointError for a folder that is no whole base,
    for a target that exists, and for a disk that is too small.
    """
    if target.exists():
        raise CheckpointError(f"base: {target} exists already; name a new folder")
    sources = find_sources(Named.of(folder), pickles=True)
    if sources.diffusers:
        raise CheckpointError(f"base: {folder} is a diffusers directory already; name it as fill.base")
    _check_space(sources, target)
    yield f"reading {folder}"
    base = load_sources(sources, dtype=None, vae_dtype=None)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in PARTS:
        part = getattr(base, name)
        if part is not None:
            yield f"writing {name}"
            part.save_pretrained(partial / name, safe_serialization=True, max_shard_size=SHARD)
    _write_rest(base, sources, partial)
    partial.rename(target)
    yield f"{target} is ready"


def _write_rest(base: Base, sources: Sources, folder: Path) -> None:
    assert sources.tokenizer is not None
    if sources.tokenizer.is_dir():
        shutil.copytree(sources.tokenizer, folder / "tokenizer")
    else:
        base.tokenizer.save_pretrained(folder / "tokenizer")
    if base.image_processor is not None:
        base.image_processor.save_pretrained(folder / "image_processor")
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFTS[base.layout]
    )
    scheduler.save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": PIPELINES[base.layout],
        "_diffusers_version": diffusers.__version__,
        "boundary_ratio": base.boundary_ratio,
        "expand_timesteps": base.expand_timesteps,
        "scheduler": ["diffusers", type(scheduler).__name__],
        "tokenizer": ["transformers", type(base.tokenizer).__name__],
    }
    for name in (*PARTS, "image_processor"):
        part = getattr(base, name)
        library = "transformers" if name.startswith("image") else LIBRARIES.get(name, "diffusers")
        index[name] = [None, None] if part is None else [library, type(part).__name__]
    if base.layout == "vace":
        index = {name: value for name, value in index.items() if not name.startswith(("image_", "expand"))}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _check_space(sources: Sources, target: Path) -> None:
    needed = sum(path.stat().st_size for files in sources.files().values() for path in files)
    place = target.absolute().parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise CheckpointError(
            f"base: {target} needs {needed / 1e9:.1f} GB and {place} has {free / 1e9:.1f} GB free;"
            " name another disk"
        )
