"""An adapter, or a pair of them, rewritten as files that other programs read."""

from __future__ import annotations

from contextlib import ExitStack

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.models.wan.adapter_change import AdapterError, Part
from recapture.models.wan.adapter_convert import Dialect, convert_part, convert_whole
from recapture.models.wan.adapter_file import AdapterFile, open_adapter
from recapture.tasks.clip.adapter_files import ENDING, AdapterFiles, Source, local_file


def converted(source: str, target: str, to: Dialect) -> dict[str, bytes]:
    """Return path -> content of the files to write.

    source: whatever fill.adapter takes. target: the file; for an adapter of two transformers, unless it
    becomes diffusers' one file, _high_noise and _low_noise are added to its name. Raises UserError for what
    is no adapter or cannot be written in these names.
    """
    if not target.endswith(ENDING):
        raise UserError(f"{target} is no {ENDING} file; name the file to write")
    sources = AdapterFiles(FillConfig(adapter=source)).shared
    with ExitStack() as stack:
        try:
            opened = [(one, open_adapter(stack.enter_context(local_file(one.path)))) for one in sources]
            parts = [found for one, file in opened for found in _parts(one, file)]
            if to == "diffusers":
                return {target: convert_whole(parts)}
            return {_named(target, noise): convert_part(file, part, to) for file, part, noise in parts}
        except AdapterError as error:
            raise UserError(str(error)) from None


def _parts(source: Source, file: AdapterFile) -> list[tuple[AdapterFile, Part, Part]]:
    """Return (file, its part, the transformer that this is for)."""
    if source.which in ("high", "low"):  # one of a pair of files
        if file.parts != {""}:
            raise AdapterError(f"lora: {source.path} is one of a pair, and names two transformers itself")
        return [(file, "", source.which)]
    return [(file, part, part) for part in sorted(file.parts)]


def _named(target: str, noise: Part) -> str:
    return f"{target.removesuffix(ENDING)}_{noise}_noise{ENDING}" if noise else target
