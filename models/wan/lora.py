"""One LoRA adapter of a Wan transformer, through peft: added, scaled and trained further.

Its tensors go by the names of its file, without the prefix: 'blocks.0.attn1.to_q.lora_A.weight'.
Source: LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from recapture.models.wan.adapter_apply import add_layers, check_base, in_layers
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME, open_adapter
from recapture.models.wan.adapter_fit import fit, route, transformer_shapes
from recapture.models.wan.fingerprint import fingerprint

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")  # the last two: image branch
FEED_FORWARD = ("ffn.net.0.proj", "ffn.net.2")
TARGETS = ATTENTION + FEED_FORWARD


def add_lora(
    transformer: Any,
    *,
    rank: int,
    alpha: int | None = None,  # None: the rank, so that a scale of 1 adds B A
    targets: Sequence[str] = TARGETS,
    first_block: int = 0,
    seed: int = 0,
    name: str = "default",
) -> None:
    """Add an adapter that changes nothing yet (B = 0); A is uniform in +-1/sqrt(fan in), drawn from `seed`.

    It becomes the only active adapter and its weights, in the base's dtype, the only ones with gradients.
    first_block: blocks before it stay as they are, so no gradient goes through them, which saves time.
    Raises ValueError where no layer is called by one of `targets`, or an adapter has the name already.
    """
    if rank < 1:
        raise ValueError(f"lora: rank {rank}; use 1 or more")
    if name in getattr(transformer, "peft_config", {}):
        raise ValueError(f"lora: the base has an adapter {name!r} already; remove it first")
    blocks = len(transformer.blocks)
    if not 0 <= first_block < blocks:
        raise ValueError(f"lora: the base has {blocks} blocks, none of them is the {first_block}th, from 0")
    paths = [path for path, _ in transformer.named_modules()]
    found = [target for target in targets if any(_called(path, target) for path in paths)]
    if first_block:
        upper = tuple(f"blocks.{number}." for number in range(first_block, blocks))
        found = [p for p in paths if p.startswith(upper) and any(_called(p, target) for target in found)]
    if not found:
        raise ValueError(f"lora: no layer of the base is called {', '.join(targets)}")
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=found)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # there may be several
        transformer.add_adapter(config, adapter_name=name)
    transformer.set_adapters(name, 1.0)
    random = torch.Generator().manual_seed(seed)
    for key, parameter in sorted(train_only(transformer, name).items()):
        with torch.no_grad():
            if ".lora_A." in key:
                drawn = torch.rand(parameter.shape, generator=random) * 2 - 1
                parameter.copy_(drawn / math.sqrt(parameter.shape[1]))
            else:
                parameter.zero_()


def adapter_parameters(transformer: Any, name: str = "default") -> dict[str, nn.Parameter]:
    """Return the adapter's own parameters by name. Raises ValueError where there is no such adapter."""
    ending = f".{name}.weight"
    found = {
        key.removesuffix(ending) + ".weight": parameter
        for key, parameter in transformer.named_parameters()
        if key.endswith(ending) and (".lora_A." in key or ".lora_B." in key)
    }
    if not found:
        raise ValueError(f"lora: the base has no adapter {name!r}; add or load one first")
    return found


def train_only(transformer: Any, name: str = "default") -> dict[str, nn.Parameter]:
    """Leave gradients to one adapter's parameters, and return them."""
    parameters = adapter_parameters(transformer, name)
    transformer.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def adapter_weights(transformer: Any, name: str = "default") -> dict[str, Tensor]:
    """Return copies of the adapter's weights, float32 on the CPU."""
    return {
        key: p.detach().to("cpu", torch.float32, copy=True)
        for key, p in adapter_parameters(transformer, name).items()
    }


def set_weights(transformer: Any, weights: Mapping[str, Tensor], name: str = "default") -> None:
    """Put weights, such as an average, into an adapter. Raises AdapterError for other names or shapes."""
    parameters = adapter_parameters(transformer, name)
    wrong = sorted(set(parameters) ^ set(weights)) or [
        key for key, p in parameters.items() if p.shape != weights[key].shape
    ]
    if wrong:
        raise AdapterError(f"lora: tensor {wrong[0]!r} does not fit adapter {name!r} of the base")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(weights[key])


def set_scale(transformer: Any, scale: float, name: str = "default") -> None:
    """Make this the only active adapter, with its change times `scale` (0: the base itself)."""
    set_scales(transformer, {name: scale})


def set_scales(transformer: Any, scales: Mapping[str, float]) -> None:
    """Make these the only active adapters: their changes add up, each times its scale."""
    for name in scales:
        adapter_parameters(transformer, name)
    trained = {key: parameter.requires_grad for key, parameter in transformer.named_parameters()}
    transformer.set_adapters(list(scales), [float(scale) for scale in scales.values()])  # turns gradients on
    for key, parameter in transformer.named_parameters():
        parameter.requires_grad_(trained[key])


@contextmanager
def with_adapter(
    transformer: Any,
    scale: float,
    weights: Mapping[str, Tensor] | None = None,
    name: str = "default",
    beside: Mapping[str, float] | None = None,
) -> Iterator[None]:
    """Use the adapter at this scale, and with these weights if given, within the context.

    beside: scales of other adapters that are active too, within the context and after it.
    """
    own = None if weights is None else adapter_weights(transformer, name)
    if weights is not None:
        set_weights(transformer, weights, name)
    set_scales(transformer, {**(beside or {}), name: scale})
    try:
        yield
    finally:
        set_scales(transformer, {**(beside or {}), name: 1.0})
        if own is not None:
            set_weights(transformer, own, name)


def remove_lora(transformer: Any) -> None:
    """Take all adapters out; what remains is the base, bit for bit."""
    transformer.unload_lora()


def load_adapter(
    transformer: Any, path: str | Path, *, name: str = "default", scale: float = 1.0
) -> dict[str, str]:
    """Put an adapter file into the base as the only active one, to be trained further; return its notes.

    path: the file, or the folder of one. An adapter of the same name is replaced. Files of other makers are
    read too; to sample with several adapters, or with differences of biases and norms, see `AppliedAdapters`.
    Raises AdapterError for a file that is no LoRA, was tuned on another base, does not fit it, or changes
    more than linear layers.
    """
    path = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    file = open_adapter(path)
    check_base(file, fingerprint(transformer))
    parts = route(file, None, two=False)
    fitted = fit(file, parts["transformer"], transformer_shapes(transformer))
    if fitted.left_out:
        raise AdapterError(f"lora: {fitted.remarks[0]}; only a whole adapter can be trained further")
    for change in fitted.changes:
        if not in_layers(change):
            raise AdapterError(
                f"lora: {change.keys[0]!r} of {path} changes {change.parameter!r}; only LoRA of linear "
                "layers can be trained further"
            )
    for _ in file.read(fitted.changes):  # values that are not finite are found before anything is changed
        pass
    if name in getattr(transformer, "peft_config", {}):
        transformer.delete_adapters(name)
    add_layers(transformer, file, fitted.changes, name)
    transformer.requires_grad_(False)
    set_scale(transformer, scale, name)
    return dict(file.notes)


def _called(path: str, target: str) -> bool:
    return path == target or path.endswith("." + target)
