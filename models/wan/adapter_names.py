"""Names of a Wan transformer's modules in adapter files: Wan's own, diffusers', and both spelt with '_'.

The table is written once and read in both directions; it agrees with `convert_wan_transformer_to_diffusers`.
"""

from __future__ import annotations

import re
from functools import lru_cache

_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_IMAGE = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
# Wan's name -> diffusers' name, within a block
_BLOCK = {
    **{f"self_attn.{wan}": f"attn1.{ours}" for wan, ours in _ATTENTION.items()},
    **{f"cross_attn.{wan}": f"attn2.{ours}" for wan, ours in (_ATTENTION | _IMAGE).items()},
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "before_proj": "proj_in",  # VACE
    "after_proj": "proj_out",  # VACE
}
_TOP = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
}
_OLDER = {
    "cross_attn.k.img": "attn2.add_k_proj",
    "cross_attn.v.img": "attn2.add_v_proj",
}  # musubi's converter
_NUMBERED = re.compile(r"((?:vace_)?blocks)[._](\d+)[._](.+)")
_MODULATED = re.compile(r"((?:vace_)?blocks)[._](\d+)")
MODULATION = "scale_shift_table"  # `modulation` in Wan's own code


@lru_cache(maxsize=1)
def _spellings() -> tuple[dict[str, str], dict[str, str]]:
    """Return every spelling -> diffusers' name, of modules within blocks and of the others."""
    found = []
    for table, older in ((_BLOCK, _OLDER), (_TOP, {})):
        dotted = {name: name for name in table.values()} | older | table
        found.append({name.replace(".", "_"): ours for name, ours in dotted.items()} | dotted)
    return found[0], found[1]


def module_name(spelt: str) -> str | None:
    """Return diffusers' name of a module, without '.weight'; None if a Wan transformer has no such module."""
    inner, outer = _spellings()
    if numbered := _NUMBERED.fullmatch(spelt):
        found = inner.get(numbered[3])
        return found and f"{numbered[1]}.{numbered[2]}.{found}"
    return outer.get(spelt)


def modulation_name(spelt: str) -> str | None:
    """Return diffusers' name of the modulation of a block or of the head; None if it is neither."""
    spelt = re.sub(r"[._]?modulation$", "", spelt)
    if block := _MODULATED.fullmatch(spelt):
        return f"{block[1]}.{block[2]}.{MODULATION}"
    return MODULATION if spelt == "head" else None


@lru_cache(maxsize=1)
def _originals() -> tuple[dict[str, str], dict[str, str]]:
    return {ours: wan for wan, ours in _BLOCK.items()}, {ours: wan for wan, ours in _TOP.items()}


def original_name(module: str) -> str:
    """Return Wan's own name of a module that diffusers' name is given of; the inverse of `module_name`."""
    inner, outer = _originals()
    if numbered := _NUMBERED.fullmatch(module):
        return f"{numbered[1]}.{numbered[2]}.{inner[numbered[3]]}"
    return outer[module]


def of_image_branch(parameter: str) -> bool:
    """Return whether a parameter, by diffusers' name, belongs to the branch that reads CLIP embeddings."""
    return any(
        part in parameter for part in (".add_k_proj.", ".add_v_proj.", ".norm_added_k.", "image_embedder.")
    )
