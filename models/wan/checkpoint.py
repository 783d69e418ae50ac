"""Safetensors into a diffusers model: shapes compared first, every fault named by its tensor."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from safetensors import SafetensorError, safe_open
from torch import Tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, incomplete or of another kind than its configuration says."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read a component's config.json. Raises CheckpointError if there is none or it is not an object."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises CheckpointError naming the file otherwise."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"base: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"base: {path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"base: {path} holds no JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a diffusers component: one, or the shards of its index.

    Raises CheckpointError if there is none (pickles are refused) or if the index names another folder.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"base: {index} names files outside its folder")
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pth", ".pt", ".ckpt"))
    reason = (
        f"; {pickles[0]} is a pickle, which is never opened: convert it to safetensors" if pickles else ""
    )
    raise CheckpointError(f"base: {folder} has no {WEIGHTS}{reason}")


def tensor_shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Read every tensor's shape from the headers alone. Raises CheckpointError for an unreadable file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with _opened(path) as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return shapes


def read_tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the files, one at a time."""
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118
                try:
                    yield key, file.get_tensor(key)
                except (SafetensorError, OSError) as error:
                    raise CheckpointError(
                        f"base: tensor {key!r} of {path} cannot be read ({error})"
                    ) from None


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"base: {path} cannot be opened as safetensors ({error}); it may be cut short: fetch it again"
        ) from None


def build_model(
    model_class: Any,
    config: Mapping[str, Any],
    files: list[Path],
    *,
    names: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Any:
    """Build a diffusers model with the weights of `files`, in evaluation mode, without gradients.

    names: the model's name of each tensor in the files; None where they are the same. dtype: of the
    parameters, except those the class keeps in float32 (`_keep_in_fp32_modules`: norms, time embedding,
    modulation), by the rule of diffusers' `from_pretrained`. Nothing of full size is allocated before all
    shapes agree.

    Raises CheckpointError naming the first tensor that is missing, unexpected, of another shape, or not
    finite, and how many more there are.
    """
    try:
        with init_empty_weights(include_buffers=False):
            model = model_class.from_config(dict(config))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"base: the configuration of {files[0].parent} makes no model ({error})"
        ) from None
    named = {key: key if names is None else names[key] for key in tensor_shapes(files)}
    shapes = {named[key]: shape for key, shape in tensor_shapes(files).items()}
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    ignored = getattr(model_class, "_keys_to_ignore_on_load_unexpected", None) or []
    _compare(expected, {k: s for k, s in shapes.items() if not any(i in k for i in ignored)}, files[0])
    kept = set(getattr(model_class, "_keep_in_fp32_modules", None) or [])
    state: dict[str, Tensor] = {}
    for key, tensor in read_tensors(files):
        name = named[key]
        if name in expected:
            wanted = torch.float32 if kept & set(name.split(".")) else dtype
            state[name] = tensor.to(device=device, dtype=wanted)
            if not torch.isfinite(state[name]).all():
                raise CheckpointError(
                    f"base: tensor {key!r} of {files[0].parent} has values that are not finite"
                )
    model.load_state_dict(state, assign=True)
    return model.to(device).eval().requires_grad_(False)


def _compare(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], path: Path
) -> None:
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
            f"base: {path}: {faults[0]}{more}; the weights are damaged or belong to another model"
        )
