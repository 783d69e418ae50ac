"""Weights that stay in the host's memory: each block comes to the GPU for its turn, the next one meanwhile.

diffusers' group offloading, one block per group, since its streams support no other number. It knows a
module's weights from the moment it is put on: layers are added and removed in `layers_open`. Results are
those of weights that stay on the GPU, bit for bit: the same kernels read the same numbers.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import (
    _GROUP_OFFLOADING,
    _LAYER_EXECUTION_TRACKER,
    _LAZY_PREFETCH_GROUP_OFFLOADING,
    _get_group_onload_device,
    _is_group_offload_enabled,
)
from torch import Tensor, nn

log = logging.getLogger(__name__)
SMALL = 2**20  # bytes; smaller tensors are copied to locked memory by the library
HOST = torch.device("cpu")


def offload(module: nn.Module, device: torch.device, *, outside: bool = True) -> None:
    """Keep a module's blocks on the CPU; each is on `device` while it computes.

    outside: whether what is in no block stays on the device between passes, as for a model of many steps.
    Weights that are elsewhere are moved. On CUDA, copies run beside the computation, from locked memory.
    """
    if is_offloaded(module):
        return
    for part in module.modules():
        part._compiled_call_impl = None  # of whole calls, with the copies; `compile_blocks` knows better
    module.to(HOST)
    if device.type == "cuda":
        _lock(module)
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=HOST,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        # Recorded streams would let the CPU run ahead and bring in block after block: the peak has no bound.
        record_stream=False,
    )
    if outside:
        _keep_outside(module, device)


def is_offloaded(module: nn.Module) -> bool:
    """Return whether `offload` has been called for a module."""
    return bool(_is_group_offload_enabled(module))


@contextmanager
def layers_open(*modules: nn.Module) -> Iterator[None]:
    """Take offloading off within this context, to add and remove layers; blocks are then on the CPU."""
    with ExitStack() as stack:
        for module in filter(is_offloaded, modules):
            device = _get_group_onload_device(module)
            take_off(module)
            stack.callback(offload, module, device)
        yield


def take_off(module: nn.Module) -> None:
    """Undo `offload`; the blocks stay on the CPU."""
    for part in module.modules():
        registry: Any = getattr(part, "_diffusers_hook", None)
        if registry is not None and (hook := registry.get_hook(_GROUP_OFFLOADING)) is not None:
            hook.group.offload_()  # after an error in the middle of a pass, some blocks are on the GPU
    for part in module.modules():
        registry = getattr(part, "_diffusers_hook", None)
        if registry is not None:
            for name in (_LAZY_PREFETCH_GROUP_OFFLOADING, _LAYER_EXECUTION_TRACKER, _GROUP_OFFLOADING):
                registry.remove_hook(name, recurse=False)


def _keep_outside(module: nn.Module, device: torch.device) -> None:
    """Keep on the device what is in no block: moving it for every pass would take as long as many blocks."""
    registry: Any = module._diffusers_hook
    group = registry.get_hook(_GROUP_OFFLOADING).group  # it goes on to bring in the first block
    for part in group.modules:
        part.to(device)
    for tensor in (*group.parameters, *group.buffers):
        tensor.data = tensor.data.to(device)
    group.modules, group.parameters, group.buffers = [], [], []


def _lock(module: nn.Module) -> None:
    """Lock a module's weights in the host's memory where they are; unlock them when the module is freed.

    `Tensor.pin_memory` would copy them, to blocks rounded up to a power of two: 1.5 times the memory for
    Wan 14B, beside the original. What cannot be locked is left to the library, which does copy it.
    """
    held: dict[int, Tensor] = getattr(module, "_locked", {})
    used = {value.data_ptr() for value in (*module.parameters(), *module.buffers())}
    _unlock(held, [address for address in held if address not in used])
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.nbytes < SMALL or tensor.is_pinned():
            continue
        if tensor.untyped_storage().nbytes() != tensor.nbytes:  # part of a file that is mapped to memory
            tensor.data = tensor.data.clone()
        address = tensor.untyped_storage().data_ptr()
        if int(torch.cuda.cudart().cudaHostRegister(address, tensor.nbytes, 0)) == 0:
            held[address] = tensor.data
    if held and not hasattr(module, "_locked"):
        module._locked = held  # type: ignore[assignment]
        weakref.finalize(module, _unlock, held, None).atexit = False


def _unlock(held: dict[int, Tensor], addresses: list[int] | None) -> None:
    """Unlock memory at these addresses, None: all, and let go of it."""
    for address in list(held) if addresses is None else addresses:
        torch.cuda.cudart().cudaHostUnregister(address)
        del held[address]
