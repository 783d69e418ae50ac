"""Functions compiled at their first call: one worker of a machine at a time, and eager where that fails."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recapture.conf.heartbeat import beat
from recapture.models.wan.offload import is_offloaded, layers_open

log = logging.getLogger(__name__)
SIZES = 64  # compiled kinds of input per function: sizes of clips, packed frames, channels of the VAE
_WAIT_SECONDS = 0.1


def use_cache(folder: str | Path | None) -> None:
    """Keep what this process compiles in a folder, for every process that names it; None: torch's own place.

    torch's place is below the machine's temporary folder, one for all processes of a user, lost with it.
    """
    if folder is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder).expanduser().absolute())


class Compiler:
    """Compiles functions of one model, all of them or, after a failure, none.

    A call that fails is made again by the plain function; where that succeeds the compiler is at fault,
    which is logged once, and the model goes on without it. backend, options: of `torch.compile`.
    """

    def __init__(
        self,
        what: str,
        backend: str | Callable[..., Any] = "inductor",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._what, self._backend = what, backend
        self._options = None if options is None else dict(options)
        self._seen: dict[Any, set[Any]] = {}  # kind -> inputs that are compiled
        self.failed = False
        for limit in ("recompile_limit", "accumulated_recompile_limit"):
            floor = SIZES * (1 if limit == "recompile_limit" else 8)
            setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), floor))

    def __call__(self, plain: Callable[..., Any], kind: Any = None) -> Callable[..., Any]:
        """Return a function as `plain` that compiles. kind: of the code, where several functions share it."""
        compiled = torch.compile(plain, dynamic=False, backend=self._backend, options=self._options)
        seen = self._seen.setdefault(plain if kind is None else kind, set())

        def call(*args: Any, **named: Any) -> Any:
            if self.failed:
                return plain(*args, **named)
            shapes = _shapes((args, tuple(named.values())))
            try:
                if shapes in seen:
                    return compiled(*args, **named)
                with turn():
                    result = compiled(*args, **named)
                seen.add(shapes)
                return result
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                result = plain(*args, **named)  # raises where the compiler is not to blame
                self._give_up(error)
                return result

        return call

    def _give_up(self, error: Exception) -> None:
        if self.failed:
            return
        self.failed = True
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning(
            "speed: %s cannot be compiled here and runs uncompiled, slower (%s: %s); set "
            "fill.speed.compile_blocks false to run so without trying",
            self._what,
            type(error).__name__,
            first[:200],
        )


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other process of this machine compiles: the next finds the result in the cache.

    Where the folder of the cache cannot be locked, nothing waits.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    with ExitStack() as stack:
        with suppress(OSError):
            lock = stack.enter_context(open(Path(cache_dir()) / "recapture.lock", "w"))
            while not _locked(lock):
                beat()
                time.sleep(_WAIT_SECONDS)
        beat()
        yield  # closing the file unlocks it
    beat()


def _locked(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shapes(value: Any) -> Any:
    """Return what a compiled function depends on: shapes, types, gradients."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.requires_grad
    if isinstance(value, (tuple, list)):
        return tuple(map(_shapes, value)), torch.is_grad_enabled()
    return type(value)


def compile_blocks(transformer: Any, compiler: Compiler) -> None:
    """Compile the repeated blocks of a diffusers transformer, one block for all of a kind.

    Where blocks take turns on the GPU (see `offload`), what brings their weights stays uncompiled.
    """
    in_turns = is_offloaded(transformer)
    with layers_open(transformer):
        for module in transformer.modules():
            if type(module).__name__ not in transformer._repeated_blocks:
                continue
            if in_turns:
                module.forward = compiler(module.forward, kind=type(module).__name__)
            else:
                module._compiled_call_impl = compiler(module._call_impl, kind=type(module).__name__)
