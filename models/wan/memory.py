"""Where the parts of a base are kept: on the GPU, or in the host's memory with a place on the GPU in turns.

    gpu      transformers, VAE and image encoder stay on the GPU; the text encoder too where it fits
    offload  blocks of transformers and text encoder take turns on the GPU (see `offload`)
    lean     as offload, and the VAE works on one latent frame at a time
    auto     the first of these that fits

The text encoder is used for new captions alone, whose embeddings are kept (see `text`): where it has no room
on the GPU its blocks take turns, and where the host has none either it is loaded for new captions and
released. No choice changes a result, save by what other sizes of chunks round in the VAE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import psutil
import torch

from recapture.models.wan.footprint import ENCODER_PASS, GIB, ClipSize, Footprint, footprint
from recapture.models.wan.load import Base, load_sources
from recapture.models.wan.load_encoders import load_text_encoder, load_tokenizer
from recapture.models.wan.offload import HOST, offload
from recapture.models.wan.sources import Sources
from recapture.models.wan.text import StoredEncoder

log = logging.getLogger(__name__)
Mode = Literal["gpu", "offload", "lean"]
Wanted = Literal["auto", "gpu", "offload", "lean"]
EncoderPlace = Literal["gpu", "host", "files"]
MODES: tuple[Mode, ...] = ("gpu", "offload", "lean")
SHARE, FIXED = 0.08, GIB // 2  # kept free beside an estimate: fragments of memory, libraries' work space
HOST_FREE = 4 * GIB  # of the host's memory is left to others


class DoesNotFit(ValueError):
    """A base or a clip takes more memory than there is."""


@dataclass(frozen=True)
class Choice:
    """How a base is placed, with the estimate for a clip's size."""

    mode: Mode
    encoder: EncoderPlace
    needed: int  # bytes on the GPU, with the margin
    host: int  # bytes of the host's memory

    def __str__(self) -> str:
        where = {
            "gpu": "text encoder on the GPU",
            "host": "text encoder in the host's memory",
            "files": "text encoder loaded for new captions",
        }
        return f"{self.mode}, {where[self.encoder]}"


def needed(found: Footprint, size: ClipSize, mode: Mode, encoder: EncoderPlace, chunk: int = 1) -> int:
    """Return the bytes on the GPU at the peak, with the margin; chunk: latent frames that the VAE takes."""
    always = found.vae + found.image_encoder
    work = found.one_pass(size)
    if mode == "gpu":
        always += sum(found.transformers)
    else:
        always += found.outside_blocks
        work += 2 * found.largest_block
    if found.text_encoder and encoder == "gpu":
        always += found.text_encoder
    elif found.text_encoder:
        work = max(work, found.encoder_in_turns + ENCODER_PASS)
    work = max(work, found.decoding(size, 1 if mode == "lean" else chunk))
    return round((always + work) * (1 + SHARE)) + FIXED


def choose(
    found: Footprint, size: ClipSize, *, free: int, host: int, wanted: Wanted = "auto", chunk: int = 1
) -> Choice:
    """Return the first choice that fits `free` bytes on the GPU and `host` bytes of the host's memory.

    Raises DoesNotFit with the numbers and the modes that would fit.
    """
    every = _choices(found, size, host, chunk)
    allowed = [one for one in every if wanted in ("auto", one.mode)]
    for one in allowed:
        if one.needed <= free and one.host <= host:
            return one
    least = allowed[-1]
    what = f"fill.memory {wanted}: the base takes {gigabytes(least.needed)} on the GPU for {size}"
    if least.needed > free:
        problem = f"{what}, {gigabytes(free)} are free"
    else:
        problem = (
            f"{what}, and {gigabytes(least.host)} of the host's memory, of which {gigabytes(host)} are free"
        )
    raise DoesNotFit(f"{problem}; {_way_out([one for one in every if one.needed <= free], host)}")


def modes(found: Footprint, size: ClipSize, host: int, chunk: int = 1) -> dict[Mode, Choice]:
    """Return what each mode takes at least, for reports."""
    return {one.mode: one for one in _choices(found, size, host, chunk)}


def _choices(found: Footprint, size: ClipSize, host: int, chunk: int) -> list[Choice]:
    """Return all choices, from the fastest to the smallest."""
    if not found.text_encoder:
        encoders: list[tuple[Mode, EncoderPlace]] = [(mode, "gpu") for mode in MODES]
    else:
        encoders = [("gpu", "gpu")]
        for mode in MODES:
            streamed = 0 if mode == "gpu" else sum(found.transformers)
            encoders.append((mode, "host" if streamed + found.text_encoder <= host else "files"))
    return [
        Choice(
            *(mode, encoder, needed(found, size, mode, encoder, chunk)),
            host=(0 if mode == "gpu" else sum(found.transformers))
            + (found.text_encoder if encoder == "host" else 0),
        )
        for mode, encoder in encoders
    ]


def _way_out(fitting: Sequence[Choice], host: int) -> str:
    fitting = [one for one in fitting if one.host <= host]
    if fitting:
        found = ", ".join(
            dict.fromkeys(f"fill.memory {one.mode} ({gigabytes(one.needed)})" for one in fitting)
        )
        return f"these would fit: {found}, or auto"
    return "lower ingest.short_side or fill.window, or use a smaller base or one in GGUF"


def gigabytes(count: int) -> str:
    """Return bytes for people: 3.2 GiB."""
    return f"{count / GIB:.1f} GiB"


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process can have on a GPU: what is free, and within its own limit."""
    number = torch.cuda.current_device() if device.index is None else device.index  # torch asks for one
    free, total = torch.cuda.mem_get_info(number)
    limit = total * torch.cuda.get_per_process_memory_fraction(number)
    return int(min(free + torch.cuda.memory_reserved(number), limit))


def free_on_host() -> int:
    """Return the bytes of the host's memory that a base may take."""
    return max(0, psutil.virtual_memory().available - HOST_FREE)


def load_placed(
    sources: Sources,
    size: ClipSize,
    *,
    wanted: Wanted,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    device: torch.device,
    chunk: int = 1,
) -> Base:
    """Load a base for clips of up to this size and bring it into its place; on a CPU all is there.

    Raises DoesNotFit, with the numbers and the way out, and CheckpointError.
    """
    if device.type != "cuda":
        return load_sources(sources, dtype=dtype, vae_dtype=vae_dtype, device=device)
    found = footprint(sources, dtype, vae_dtype)
    free, host = free_memory(device), free_on_host()
    choice = choose(found, size, free=free, host=host, wanted=wanted, chunk=chunk)
    log.info(
        "fill.memory %s: %s for clips of %s: %s of %s on the GPU, %s of the host's memory",
        *(wanted, choice, size, gigabytes(choice.needed), gigabytes(free), gigabytes(choice.host)),
    )
    base = load_sources(
        replace(sources, text_encoder=None, tokenizer=None) if choice.encoder == "files" else sources,
        dtype=dtype,
        vae_dtype=vae_dtype,
        device=device,
        transformer_device=device if choice.mode == "gpu" else HOST,
        encoder_device=device if choice.encoder == "gpu" else HOST,
    )
    placing = Placing(found, choice, device, wanted, chunk)
    if choice.encoder == "files":
        stored = StoredEncoder(_encoder_of(sources, base, dtype, device))
        assert sources.tokenizer is not None
        base = replace(base, text_encoder=stored, tokenizer=load_tokenizer(sources.tokenizer))
    base = replace(base, memory=placing)
    placing.put(base)
    return base


def _encoder_of(sources: Sources, base: Base, dtype: torch.dtype, device: torch.device) -> Callable[[], Any]:
    """Return a function that loads the text encoder, its blocks taking turns on the GPU."""
    part, tokenizer, wide = sources.text_encoder, sources.tokenizer, base.transformer.config.text_dim
    assert part is not None and tokenizer is not None

    def load() -> Any:
        encoder, _ = load_text_encoder(part, tokenizer, wide, dtype, HOST)
        offload(encoder.encoder, device, outside=False)
        return encoder

    return load


class Placing:
    """A base's place: decided when it is loaded, checked for every clip, and smaller where that is needed."""

    def __init__(
        self, found: Footprint, choice: Choice, device: torch.device, wanted: Wanted, chunk: int = 1
    ) -> None:
        self.choice = choice
        self._found, self._device, self._wanted, self._chunk = found, device, wanted, chunk
        self._base: Any = None
        self._largest = 0

    @property
    def record(self) -> dict[str, str]:
        """Return what the record of a fill says."""
        return {"mode": self.choice.mode, "text_encoder": self.choice.encoder}

    def put(self, base: Any) -> None:
        """Bring a base, loaded as the choice says, into its place."""
        self._base = base
        if self.choice.mode != "gpu":
            for transformer in filter(None, (base.transformer, base.transformer_2)):
                offload(transformer, self._device)
        if self.choice.encoder == "host" and base.text_encoder is not None:
            offload(base.text_encoder.encoder, self._device, outside=False)
        base.vae.frame_by_frame = self.choice.mode == "lean"

    def fit(self, size: ClipSize) -> None:
        """Make room for a clip of this size; `auto` goes on to a smaller mode where that is needed.

        Raises DoesNotFit, with the numbers and the way out, where the clip has no room.
        """
        if (volume := size.volume) <= self._largest:
            return
        found = choose(
            self._found,
            size,
            free=free_memory(self._device),
            host=free_on_host() + self.choice.host,
            wanted=self._wanted,
            chunk=self._chunk,
        )
        if _rank(found) > _rank(self.choice):
            self._go_on(found, f"a clip of {size} needs it")
        self._largest = volume

    def step_down(self) -> bool:
        """Go on to the next smaller mode after memory ran out; return whether there is one, with `auto`."""
        if self._wanted != "auto" or self.choice.mode == MODES[-1]:
            return False
        smaller = MODES[MODES.index(self.choice.mode) + 1]
        encoder: EncoderPlace = "host" if self.choice.encoder == "gpu" else self.choice.encoder
        self._go_on(replace(self.choice, mode=smaller, encoder=encoder), "memory ran out")
        return True

    def _go_on(self, choice: Choice, why: str) -> None:
        if choice.encoder == "files" and self.choice.encoder != "files":
            choice = replace(choice, encoder="host")  # it is loaded: the host has had room for it
        uncompiled = "" if choice.mode == self.choice.mode else "; blocks compiled before run uncompiled"
        log.warning("fill.memory: %s in place of %s: %s%s", choice, self.choice, why, uncompiled)
        self.choice = choice
        self.put(self._base)
        torch.cuda.empty_cache()


def _rank(choice: Choice) -> tuple[int, bool]:
    return MODES.index(choice.mode), choice.encoder != "gpu"
