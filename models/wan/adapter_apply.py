"""Adapters on the transformers of a base: put on together, each at its scale, and taken off bit for bit."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from recapture.models.wan.adapter_change import AdapterError, Change
from recapture.models.wan.adapter_file import AdapterFile
from recapture.models.wan.adapter_fit import Fitted, Which, fit, route, transformer_shapes
from recapture.models.wan.fingerprint import fingerprint
from recapture.models.wan.offload import is_offloaded, layers_open

_CONVOLUTIONS = ("patch_embedding.weight", "vace_patch_embedding.weight")


@dataclass(frozen=True)
class Wanted:
    """An adapter file as it is to be used."""

    file: AdapterFile
    scale: float
    which: Which | None = None  # the transformer that the user states; None: as the file says


class AppliedAdapters:
    """The adapters of a base's transformers, replaced as a whole.

    LoRA goes into peft's layers, or with `merge` into the weights, which then cost no time. Differences of
    biases, norms and other parameters are added to these. Of what is changed the original is kept, on the
    CPU, and copied back: no error adds up over clips with different adapters. Quantised weights cannot take
    a difference; their LoRA goes into peft's layers in any case.
    """

    def __init__(self, transformers: Mapping[str, Any], *, merge: bool = False) -> None:
        """transformers: 'transformer' and, for Wan2.2, 'transformer_2'."""
        self._transformers = transformers
        self._merge = self._merging = merge
        self._shapes = {name: transformer_shapes(one) for name, one in transformers.items()}
        self._originals: dict[nn.Parameter, Tensor] = {}
        self._changed: list[nn.Parameter] = []
        self._fingerprints: dict[str, str] = {}

    def put(self, wanted: Sequence[Wanted]) -> list[Fitted]:
        """Use these adapters and no others; return what was applied and what was left out.

        Raises AdapterError before anything is changed where one does not fit; the base is then bare.
        """
        # Blocks that take turns on the GPU are changed on the CPU, where merging takes minutes at real size.
        self._merging = self._merge and not any(map(is_offloaded, self._transformers.values()))
        with layers_open(*self._transformers.values()):
            self._remove()
            fitted = [(one, found) for one in wanted for found in self._fitted(one)]
            try:
                for name, transformer in self._transformers.items():
                    own = [(found, one.scale) for one, found in fitted if found.transformer == name]
                    self._add_differences(transformer, own)
                    self._add_low_rank(transformer, own)
            except BaseException:
                self._remove()
                raise
        return [found for _, found in fitted]

    def remove(self) -> None:
        """Take all adapters off; what remains is the base, bit for bit."""
        with layers_open(*self._transformers.values()):
            self._remove()

    def _remove(self) -> None:
        for transformer in self._transformers.values():
            transformer.unload_lora()
        with torch.no_grad():
            for parameter in self._changed:
                parameter.copy_(self._originals[parameter])
        self._changed = []

    def _fitted(self, wanted: Wanted) -> list[Fitted]:
        parts = route(wanted.file, wanted.which, two=len(self._transformers) > 1)
        for name in parts:
            self._check_base(wanted.file, name)
        return [fit(wanted.file, part, self._shapes[name], name) for name, part in parts.items()]

    def _check_base(self, file: AdapterFile, name: str) -> None:
        if "base" not in file.notes:
            return
        if name not in self._fingerprints:
            self._fingerprints[name] = fingerprint(self._transformers[name])
        check_base(file, self._fingerprints[name])

    def _add_differences(self, transformer: Any, own: Sequence[tuple[Fitted, float]]) -> None:
        """Add what goes into the weights; of several adapters the sum, so that it is rounded once."""
        chosen = [
            (fitted, scale, [one for one in fitted.changes if self._in_weights(transformer, one)])
            for fitted, scale in own
        ]
        left = Counter(change.parameter for _, _, changes in chosen for change in changes)
        sums: dict[str, Tensor] = {}
        for fitted, scale, changes in chosen:
            for change, tensors in fitted.file.read(changes):
                parameter = transformer.get_parameter(change.parameter)
                if not parameter.is_floating_point():
                    raise AdapterError(
                        f"lora: {change.keys[0]!r} of {fitted.file.path} changes {change.parameter!r}, which "
                        "is quantised in this base; use the base in bf16"
                    )
                difference = _difference(tensors, parameter.device).reshape(parameter.shape)
                total = sums.pop(change.parameter, 0.0) + difference * (scale * change.factor)
                left[change.parameter] -= 1
                if left[change.parameter]:
                    sums[change.parameter] = total
                else:
                    self._add(parameter, total)

    def _in_weights(self, transformer: Any, change: Change) -> bool:
        if not in_layers(change):
            return True
        parameter = transformer.get_parameter(change.parameter)
        return self._merging and type(parameter) is nn.Parameter and parameter.is_floating_point()

    @torch.no_grad()
    def _add(self, parameter: nn.Parameter, difference: Tensor) -> None:
        if parameter not in self._originals:
            self._originals[parameter] = parameter.detach().to("cpu", copy=True)
        self._changed.append(parameter)
        parameter.copy_(parameter.float() + difference)

    def _add_low_rank(self, transformer: Any, own: Sequence[tuple[Fitted, float]]) -> None:
        scales = {}
        for number, (fitted, scale) in enumerate(own):
            changes = [one for one in fitted.changes if not self._in_weights(transformer, one)]
            if changes:
                name = f"adapter_{number}"
                add_layers(transformer, fitted.file, changes, name)
                scales[name] = scale
        if scales:
            transformer.set_adapters(list(scales), list(scales.values()))
            transformer.requires_grad_(False)


def check_base(file: AdapterFile, base: str) -> None:
    """Raise AdapterError for a file of this project that was tuned on a base with another fingerprint."""
    if file.notes.get("base", base) != base:
        raise AdapterError(
            f"lora: {file.path} was tuned on base {file.notes['base']}, this one is {base};"
            " load that base, or tune again on this one"
        )


def in_layers(change: Change) -> bool:
    """Return whether peft's layers apply a change: B A of a linear layer."""
    return change.low_rank and change.parameter not in _CONVOLUTIONS


def add_layers(transformer: Any, file: AdapterFile, changes: Iterable[Change], name: str) -> None:
    """Add peft's layers with the weights of the file's changes, as one adapter: the only active one."""
    changes = list(changes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # there may be several
        transformer.add_adapter(lora_config(changes), adapter_name=name)
    with torch.no_grad():
        for change, (down, up) in file.read(changes):
            layer = transformer.get_submodule(change.module)
            layer.lora_A[name].weight.copy_(down.flatten(1))
            layer.lora_B[name].weight.copy_(up.flatten(1))


def lora_config(changes: Sequence[Change]) -> LoraConfig:
    """Return the configuration of layers with the ranks and factors of these changes."""
    kinds = {change.module: (change.shapes[0][0], change.factor) for change in changes}
    (rank, factor), _ = Counter(kinds.values()).most_common(1)[0]
    others: dict[tuple[int, float], list[str]] = {}
    for module, kind in kinds.items():
        if kind != (rank, factor):
            others.setdefault(kind, []).append(module)
    patterns = {"^" + _any_of(modules): kind for kind, modules in others.items()}
    return LoraConfig(
        r=rank,
        lora_alpha=_alpha(rank, factor),
        target_modules=_any_of(kinds),
        rank_pattern={pattern: own for pattern, (own, _) in patterns.items()},
        alpha_pattern={pattern: _alpha(*kind) for pattern, kind in patterns.items()},
    )


def _alpha(rank: int, factor: float) -> Any:
    alpha = rank * factor
    return int(alpha) if alpha == int(alpha) else alpha


def _any_of(modules: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, modules)) + ")"


def _difference(tensors: tuple[Tensor, ...], device: torch.device) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].to(device)
    down, up = (tensor.to(device) for tensor in tensors)
    return up.flatten(1) @ down.flatten(1)
