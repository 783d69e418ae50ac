"""The keys of adapter files: every maker's way to name layers, sides of LoRA, and differences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from recapture.models.wan.adapter_alpha import Scaling
from recapture.models.wan.adapter_change import AdapterError, Change, Part
from recapture.models.wan.adapter_names import modulation_name, module_name

_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("base_model.model.", ""),  # PEFT
    ("model.diffusion_model.", ""),
    ("diffusion_model.", ""),  # ComfyUI
    ("pipe.dit2.", "low"),  # DiffSynth
    ("pipe.dit.", ""),
    ("pipe.vace.", ""),
    ("transformer_1.", "high"),  # ai-toolkit
    ("transformer_2.", "low"),  # ai-toolkit, diffusers
    ("transformer.", ""),
    ("lora_unet__", ""),  # VideoX-Fun
    ("lora_unet_", ""),  # musubi-tuner
)
_SIDES = {"A": "down", "down": "down", "B": "up", "up": "up"}
_LORA = re.compile(
    r"(?P<module>.+)\.lora[_.](?P<side>A|B|down|up)(?:\.(?!weight$|bias$)(?P<name>[^.]+))?(?:\.(?P<what>weight|bias))?"
)
_OTHER = re.compile(r"(?P<module>.+)\.(?P<role>alpha|diff|diff_b|diff_m)")
_KINDS = (
    ("LoKr", re.compile(r"\.lokr_")),
    ("LoHa", re.compile(r"\.hada_")),
    ("DoRA", re.compile(r"\.dora_scale$|\.lora_magnitude_vector")),
    ("OFT", re.compile(r"\.b?oft_")),
    ("Tucker-decomposed LoRA", re.compile(r"\.lora_mid\.")),
    ("IA3", re.compile(r"\.on_input$|\.ia3_")),
    ("VeRA", re.compile(r"\.vera_lambda")),
)


class KeyParser:
    """The keys of one file, sorted out."""

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        alphas: Mapping[str, float],
        scaling: Mapping[Part, Scaling],
    ) -> None:
        self._path, self._shapes, self._alphas, self._scaling = path, shapes, alphas, scaling
        self._sides: dict[tuple[str, str], str] = {}  # (module as spelt, down | up | bias) -> key
        self._differences: list[tuple[str, str, str]] = []  # (module as spelt, role, key)
        for key in shapes:
            self._sort(key)

    def _sort(self, key: str) -> None:
        for kind, pattern in _KINDS:
            if pattern.search(key):
                raise AdapterError(
                    f"lora: {self._path} is a {kind} adapter ({key!r}), which is not supported; "
                    "convert it to plain LoRA, for example by an SVD of its weight change"
                )
        if found := _LORA.fullmatch(key):
            side = _SIDES[found["side"]]
            if found["what"] == "bias":
                side = "bias" if side == "up" else ""
            where = (found["module"], side)
            if side and where in self._sides:
                raise AdapterError(
                    f"lora: {self._path} holds several adapters ({self._sides[where]!r} and {key!r}); "
                    "save each as a file of its own"
                )
            if side:
                self._sides[where] = key
                return
        elif (found := _OTHER.fullmatch(key)) and found["role"] == "alpha":
            if not math.isfinite(self._alphas[key]):
                raise AdapterError(f"lora: tensor {key!r} of {self._path} is not finite")
            return
        elif found:
            self._differences.append((found["module"], found["role"], key))
            return
        raise AdapterError(f"lora: {self._path} holds {key!r}, which is no LoRA of a Wan transformer")

    def changes(self) -> Iterator[Change]:
        """Yield the changes, each parameter's once per way of changing it."""
        seen: dict[tuple[str, Part, int], str] = {}
        for change in self._changes():
            mark = (change.parameter, change.part, len(change.keys))
            if mark in seen:
                raise AdapterError(
                    f"lora: {self._path} changes {change.parameter!r} twice: by {seen[mark]!r} and by "
                    f"{change.keys[0]!r}"
                )
            seen[mark] = change.keys[0]
            yield change

    def _changes(self) -> Iterator[Change]:
        for spelt in dict.fromkeys(module for module, _ in self._sides):
            part, bare = _without_prefix(spelt)
            module = module_name(bare)
            sides = {side: key for side in ("down", "up", "bias") if (key := self._sides.get((spelt, side)))}
            first = next(iter(sides.values()))
            if module is None:
                raise self._unknown(first)
            rank = self._rank(sides, first)
            scaling = self._scaling.get(part, self._scaling.get("", Scaling()))
            factor = scaling.factor((bare, module), rank, self._alphas.get(f"{spelt}.alpha"))
            yield self._change(f"{module}.weight", part, (sides["down"], sides["up"]), factor)
            if "bias" in sides:
                yield self._change(f"{module}.bias", part, (sides["bias"],), factor)
        for spelt, role, key in self._differences:
            part, bare = _without_prefix(spelt)
            yield self._change(self._changed_by(bare, role, key), part, (key,), 1.0)
        known = {module for module, _ in self._sides}
        for key in self._alphas:
            if key.removesuffix(".alpha") not in known:
                raise AdapterError(f"lora: tensor {key!r} of {self._path} has no counterpart")

    def _changed_by(self, bare: str, role: str, key: str) -> str:
        modulation = modulation_name(bare)
        if role == "diff_m" or (role == "diff" and bare.endswith("modulation")):
            if modulation is None:
                raise self._unknown(key)
            return modulation
        module = module_name(bare)
        if module is None:
            raise self._unknown(key)
        return f"{module}.{'bias' if role == 'diff_b' else 'weight'}"

    def _rank(self, sides: Mapping[str, str], first: str) -> int:
        if "down" not in sides or "up" not in sides:
            raise AdapterError(f"lora: tensor {first!r} of {self._path} has no counterpart")
        down, up = self._shapes[sides["down"]], self._shapes[sides["up"]]
        if len(down) < 2 or len(up) < 2 or down[0] != up[1] or not down[0]:
            raise AdapterError(
                f"lora: tensors {sides['down']!r} {list(down)} and {sides['up']!r} {list(up)} of "
                f"{self._path} do not have one rank"
            )
        return down[0]

    def _change(self, parameter: str, part: Part, keys: tuple[str, ...], factor: float) -> Change:
        return Change(parameter, part, keys, tuple(self._shapes[key] for key in keys), factor)

    def _unknown(self, key: str) -> AdapterError:
        return AdapterError(
            f"lora: {self._path} holds {key!r}, which names no layer of a Wan transformer; "
            "it was made for another model"
        )


def _without_prefix(spelt: str) -> tuple[Part, str]:
    """Return the part that the prefixes of a module's name state, and the name without them."""
    part: Part = ""
    stripped = True
    while stripped:
        stripped = False
        for prefix, states in _PREFIXES:
            if spelt.startswith(prefix):
                spelt, part, stripped = spelt.removeprefix(prefix), states or part, True
    return part, spelt
