"""Which transformer of a base an adapter file is for, and which of its changes fit there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from recapture.models.wan.adapter_change import AdapterError, Change, Part
from recapture.models.wan.adapter_file import AdapterFile
from recapture.models.wan.adapter_names import of_image_branch

Which = Literal["both", "high", "low"]
Shapes = Mapping[str, tuple[int, ...]]  # of a transformer's parameters, by diffusers' name
TRANSFORMERS: dict[str, Part] = {"transformer": "high", "transformer_2": "low"}
_NAMED = 3  # tensors that a remark names


@dataclass(frozen=True)
class Fitted:
    """The changes that a file makes to one transformer."""

    file: AdapterFile
    transformer: str  # or transformer_2
    changes: tuple[Change, ...]
    left_out: Mapping[str, tuple[str, ...]]  # reason -> keys

    @property
    def remarks(self) -> list[str]:
        """Return a sentence per reason for which tensors are left out."""
        left_out = sum(map(len, self.left_out.values()))
        applied = sum(len(change.keys) for change in self.changes)
        return [
            f"{self.file.path.name}: {applied} of {applied + left_out} tensors are applied to "
            f"{self.transformer}; {len(keys)} are left out, because {reason}: {_listed(keys)}"
            for reason, keys in self.left_out.items()
        ]


def transformer_shapes(transformer: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a transformer's own parameters, whatever adapters it carries.

    A quantised layer counts with the shape that it stands for.
    """
    shapes = {}
    for name, parameter in transformer.named_parameters():
        if ".lora_" not in name:
            shapes[name.replace(".base_layer", "")] = tuple(parameter.shape)
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and f"{name}.weight" in shapes:
            shapes[f"{name}.weight"] = (module.out_features, module.in_features)
    return shapes


def route(file: AdapterFile, which: Which | None, *, two: bool) -> dict[str, Part]:
    """Return transformer -> the part of the file that it takes.

    which: the transformer that the user states; None: as the file says. two: whether the base has two.
    Raises AdapterError, naming the way out, where this would leave a choice open.
    """
    parts, name = file.parts, file.path.name
    if not two:
        if parts == {""}:
            if which in ("high", "low"):
                raise AdapterError(
                    f"lora: {name} is stated to be for the {which}-noise transformer, and this base has only "
                    "one transformer; leave out `transformer`, or choose a base with two (Wan2.2 A14B)"
                )
            return {"transformer": ""}
        if which in parts:
            return {"transformer": which}
        raise AdapterError(
            f"lora: {name} is for the two transformers of Wan2.2, and this base has only one; state which "
            f"part it takes, `transformer: {' or '.join(sorted(parts))}`, or choose a base with two"
        )
    if parts == {""}:
        if which is None:
            raise AdapterError(
                f"lora: {name} is a single adapter, and this base has two transformers; state which it is "
                "for, `transformer: high`, `low` or `both`, and name the other one's file beside it"
            )
        return {own: "" for own, noise in TRANSFORMERS.items() if which in ("both", noise)}
    if (which == "both" and len(parts) == 1) or (which in ("high", "low") and which not in parts):
        raise AdapterError(
            f"lora: {name} changes only the {next(iter(parts))}-noise transformer, and is stated to be for "
            f"{which}; leave out `transformer`"
        )
    wanted = parts if which in (None, "both") else {which}
    return {own: noise for own, noise in TRANSFORMERS.items() if noise in wanted}


def fit(file: AdapterFile, part: Part, shapes: Shapes, transformer: str = "transformer") -> Fitted:
    """Return the changes of a part that a transformer takes.

    Left out, with a reason: the image branch where the base has none, and the first layer where the base has
    other input channels. Raises AdapterError naming the tensor for whatever else has no place or another
    shape, and where nothing fits.
    """
    image = any(map(of_image_branch, shapes))
    fitting: list[Change] = []
    left_out: dict[str, tuple[str, ...]] = {}
    for change in file.of_part(part):
        needed = shapes.get(change.parameter)
        if needed is None and of_image_branch(change.parameter) and not image:
            reason = "this base has no image branch"
        elif needed is None:
            raise AdapterError(
                f"lora: {change.keys[0]!r} of {file.path} changes {change.parameter!r}, which has no place "
                "in this base; the adapter was tuned on another one"
            )
        elif _fits(change, needed):
            fitting.append(change)
            continue
        elif change.parameter == "patch_embedding.weight" and _other_channels(change, needed):
            reason = f"this base has {needed[1]} input channels"
        else:
            raise _misfit(file, change, needed)
        left_out[reason] = (*left_out.get(reason, ()), *change.keys)
    if not fitting:
        keys = tuple(key for found in left_out.values() for key in found)
        raise AdapterError(f"lora: nothing of {file.path} fits this base: {_listed(keys)}")
    return Fitted(file, transformer, tuple(fitting), left_out)


def _fits(change: Change, needed: tuple[int, ...]) -> bool:
    if not change.low_rank:
        (shape,) = change.shapes
        return _squeezed(shape) == _squeezed(needed)
    down, up = change.shapes
    return len(needed) > 1 and (up[0], math.prod(up[2:])) == (needed[0], 1) and _inner(down) == _inner(needed)


def _inner(shape: tuple[int, ...]) -> int:
    return math.prod(shape[1:])


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _other_channels(change: Change, needed: tuple[int, ...]) -> bool:
    rows = change.shapes[-1][0]
    inner = _inner(change.shapes[0])
    return rows == needed[0] and inner % math.prod(needed[2:]) == 0


def _misfit(file: AdapterFile, change: Change, needed: tuple[int, ...]) -> AdapterError:
    if not change.low_rank:
        key, found, wanted = change.keys[0], change.shapes[0], needed
    else:
        down, up = change.shapes
        if _inner(down) != _inner(needed):
            key, found, wanted = change.keys[0], down, (down[0], *needed[1:])
        else:
            key, found, wanted = change.keys[1], up, (needed[0], up[1])
    return AdapterError(
        f"lora: tensor {key!r} of {file.path} is {list(found)}, this base needs {list(wanted)};"
        " it was tuned on another base"
    )


def _listed(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(map(repr, keys[:_NAMED])) + more
