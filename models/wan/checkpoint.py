"""Weight files into a model: which files a folder has, shapes compared first, every fault by its tensor."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch import Tensor

from recapture.conf.heartbeat import beat
from recapture.models.wan.tensor_files import AGAIN, PICKLES, CheckpointError, Tensors, broken

WEIGHTS = "diffusion_pytorch_model"  # of diffusers' components; transformers' are called `model`
Translate = Callable[[str, Tensor], Iterable[tuple[str, Tensor]]]  # a stored tensor as the model's tensors


def read_config(folder: Path) -> dict[str, Any]:
    """Read a component's config.json. Raises CheckpointError if there is none or it is not an object."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises CheckpointError naming the file otherwise."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = broken(path) or f"cannot be read as JSON ({error})"
        raise CheckpointError(f"base: {path} {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"base: {path} holds no JSON object")
    return content


def weight_files(folder: Path, stem: str = WEIGHTS) -> list[Path]:
    """Return the safetensors files of a component: one file, or the shards of its index.

    Where the plain name is missing, the files of the only variant are taken (`STEM.fp16.safetensors`).
    Raises CheckpointError if there is none (pickles are refused), if there are several variants, or if an
    index names another folder or a shard that is missing.
    """
    for name in (f"{stem}.safetensors.index.json", f"{stem}.safetensors", *_variants(folder, stem)):
        if name.endswith(".json") and (folder / name).is_file():
            return _shards(folder / name)
        if (folder / name).is_file():
            return [folder / name]
    loose = sorted(folder.glob(f"{stem}-[0-9]*-of-[0-9]*.safetensors"))
    if loose:  # shards whose index was not downloaded; VideoX-Fun reads them like this
        names = [
            re.sub(r"-\d+-of-", f"-{number:05}-of-", loose[0].name) for number in range(1, _of(loose[0]) + 1)
        ]
        return _present(folder, names)
    raise CheckpointError(f"base: {folder} has no {stem}.safetensors{_why_not(folder, stem)}")


def _variants(folder: Path, stem: str) -> list[str]:
    """Return the name of the only variant's file or index, if there is one."""
    pattern = re.compile(
        rf"{re.escape(stem)}(?:\.(?P<one>[\w-]+)\.safetensors|\.safetensors\.index\.(?P<index>[\w-]+)\.json)"
    )
    found: dict[str, str] = {}
    for path in sorted(folder.glob(f"{stem}.*")):
        match = pattern.fullmatch(path.name)
        if match and not re.search(r"-\d+-of-\d+$", match["one"] or ""):
            found.setdefault(match["one"] or match["index"], path.name)
    if len(found) > 1:
        raise CheckpointError(
            f"base: {folder} has {stem} in several variants ({', '.join(found)}) and none without;"
            " keep one of them"
        )
    return list(found.values())


def _shards(index: Path) -> list[Path]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"base: {index} has no weight_map; {AGAIN}")
    names = sorted(set(map(str, named.values())))
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"base: {index} names files outside its folder")
    return _present(index.parent, names)


def _present(folder: Path, names: list[str]) -> list[Path]:
    gone = [name for name in names if not (folder / name).is_file()]
    if gone:
        raise CheckpointError(
            f"base: {folder} lacks {len(gone)} of {len(names)} shards, the first is {gone[0]};"
            " finish the download"
        )
    return [folder / name for name in names]


def _of(shard: Path) -> int:
    return int(re.sub(r".*-of-(\d+).*", r"\1", shard.name))


def _why_not(folder: Path, stem: str) -> str:
    link = folder / f"{stem}.safetensors"
    if link.is_symlink():
        return f": it {broken(link)}"
    if next(folder.rglob("*.incomplete"), None):
        return ": its download is unfinished; finish it"
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    return f"; {pickles[0]} is a pickle, which is never opened: convert it to safetensors" if pickles else ""


def empty_model(make: Callable[[], Any], where: Path) -> Any:
    """Return make() without memory for its weights. Raises CheckpointError if the settings make no model."""
    try:
        with init_empty_weights(include_buffers=False):
            return make()
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise CheckpointError(f"base: the configuration of {where} makes no model ({error})") from None


def same_name(key: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
    """Translate a tensor that the model has under the same name."""
    return [(key, tensor)]


def renamed(names: Mapping[str, str]) -> Translate:
    """Return the translation of stored keys by a table; a tensor that has no name there is left out."""
    return lambda key, tensor: [(names[key], tensor)] if names[key] else []


def build_model(
    model_class: Any,
    config: Mapping[str, Any],
    tensors: Tensors,
    *,
    translate: Translate = same_name,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
) -> Any:
    """Build a diffusers model with stored weights, in evaluation mode, without gradients.

    dtype: of the parameters, except those the class keeps in float32 (`_keep_in_fp32_modules`: norms, time
    embedding, modulation), by the rule of diffusers' `from_pretrained`; None: as stored. Nothing of full size
    is allocated before all shapes agree. Raises CheckpointError as `fill_model` does.
    """
    model = empty_model(lambda: model_class.from_config(dict(config)), tensors.where)
    kept = set(getattr(model_class, "_keep_in_fp32_modules", None) or [])
    ignored = getattr(model_class, "_keys_to_ignore_on_load_unexpected", None) or []
    wanted = None
    if dtype is not None:
        wanted = lambda name: torch.float32 if kept & set(name.split(".")) else dtype  # noqa: E731
    return fill_model(model, tensors, translate=translate, dtype_of=wanted, ignored=ignored, device=device)


def fill_model(
    model: Any,
    tensors: Tensors,
    *,
    translate: Translate = same_name,
    dtype_of: Callable[[str], torch.dtype] | None = None,
    ignored: Iterable[str] = (),
    device: str | torch.device = "cpu",
) -> Any:
    """Give an empty model its weights, and return it in evaluation mode, without gradients.

    ignored: parts of names that the model does not need. Raises CheckpointError naming the first tensor that
    is missing, unexpected, of another shape, or not finite, and how many more there are.
    """
    tied = set(getattr(model, "_tied_weights_keys", None) or ())  # second names of other weights
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    compare(expected, tensors, translate, ignored)
    state: dict[str, Tensor] = {}
    for key, shape in tensors.shapes.items():
        if not any(name in expected for name, _ in translate(key, torch.empty(shape, device="meta"))):
            continue  # not read: it belongs to a part that is not needed
        beat()
        for name, tensor in translate(key, tensors.read(key)):
            if name in expected:
                state[name] = tensor.to(device=device, dtype=dtype_of(name) if dtype_of else None)
                if not torch.isfinite(state[name]).all():
                    raise CheckpointError(
                        f"base: tensor {key!r} of {tensors.where} has values that are not finite"
                    )
    model.load_state_dict(state, assign=True, strict=not tied)
    if tied:
        model.tie_weights()
    return model.to(device).eval().requires_grad_(False)


def compare(
    expected: Mapping[str, tuple[int, ...]],
    tensors: Tensors,
    translate: Translate = same_name,
    ignored: Iterable[str] = (),
) -> None:
    """Compare stored shapes with a model's. Raises CheckpointError naming the first that does not fit."""
    found = {
        name: tuple(made.shape)
        for key, shape in tensors.shapes.items()
        for name, made in translate(key, torch.empty(shape, device="meta"))
        if not any(part in name for part in ignored)
    }
    faults = [
        f"tensor {key!r} is missing"
        if key not in found
        else f"tensor {key!r} has shape {list(found[key])}, the configuration asks for {list(shape)}"
        for key, shape in expected.items()
        if found.get(key) != shape
    ]
    faults += [f"tensor {key!r} has no place in the configured model" for key in found if key not in expected]
    if faults:
        more = f" (and {len(faults) - 1} more such tensors)" if len(faults) > 1 else ""
        raise CheckpointError(
            f"base: {tensors.where}: {faults[0]}{more}; the weights are damaged or belong to another model"
        )
