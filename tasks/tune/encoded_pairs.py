"""A clip's encoded pairs, stored as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from recapture.models.tuning.examples import Example
from recapture.models.tuning.pairs import Kind, shares_of

FILE = "examples.safetensors"


@dataclass(frozen=True)
class EncodedPair:
    """One pair under each of its masks."""

    examples: tuple[Example, ...]
    kind: Kind
    angle: float  # degrees
    weight: float = 1.0  # how often it is drawn, relative to others
    held_out: bool = False


def pack_pairs(pairs: Sequence[EncodedPair]) -> bytes:
    """Return pairs of one clip, which share its caption, as safetensors."""
    first = pairs[0].examples[0]
    tensors: dict[str, Tensor] = {"text": first.text.contiguous()}
    notes = []
    for p, pair in enumerate(pairs):
        tensors[f"{p}/clean"] = pair.examples[0].clean.contiguous()
        if pair.examples[0].packed is not None:
            tensors[f"{p}/packed"] = pair.examples[0].packed.contiguous()
        for m, example in enumerate(pair.examples):
            tensors[f"{p}/{m}/channels"] = example.channels.contiguous()
            if example.image is not None:
                tensors[f"{p}/{m}/image"] = example.image.contiguous()
        notes.append(
            {
                "masks": len(pair.examples),
                "kind": pair.kind,
                "angle": pair.angle,
                "weight": pair.weight,
                "held_out": pair.held_out,
            }
        )
    return save(tensors, metadata={"recapture": json.dumps(notes, sort_keys=True)})


def open_pairs(path: str | Path) -> list[EncodedPair]:
    """Return the pairs of a file that holds what `pack_pairs` returned.

    The tensors are mapped from the file: they are read when a batch is put together, and take no memory of
    the process. So the file must not change meanwhile; it may be removed.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        notes = json.loads(file.metadata()["recapture"])
    pairs = []
    for p, note in enumerate(notes):
        examples = tuple(
            Example(
                tensors[f"{p}/clean"],
                tensors[f"{p}/{m}/channels"],
                tensors["text"],
                tensors.get(f"{p}/{m}/image"),
                packed=tensors.get(f"{p}/packed"),
            )
            for m in range(note["masks"])
        )
        pairs.append(EncodedPair(examples, note["kind"], note["angle"], note["weight"], note["held_out"]))
    return pairs


def training_examples(pairs: Sequence[EncodedPair], source_share: float) -> list[Example]:
    """Return the examples of all pairs that are not held out, each with its share of the draws."""
    kept = [pair for pair in pairs if not pair.held_out]
    shares = shares_of([pair.kind for pair in kept], [pair.weight for pair in kept], source_share)
    return [
        replace(example, share=share / len(pair.examples))
        for pair, share in zip(kept, shares.tolist())
        for example in pair.examples
    ]


def held_out_examples(pairs: Sequence[EncodedPair]) -> list[Example]:
    """Return the held-out examples, which are used for validation only."""
    return [example for pair in pairs if pair.held_out for example in pair.examples]
