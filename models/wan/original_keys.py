"""Single-file Wan checkpoints with their original key names: which tensor is which, and what model it is.

diffusers' own detection looks at the rows of `patch_embedding` alone and takes Fun-1.3B-InP (36 input
channels) for the text-to-video model (16), so the configuration is derived from the shapes here.
"""

from collections.abc import Mapping
from typing import Any

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from recapture.models.wan.tensor_files import CheckpointError

HEAD_DIM = 128  # of every published Wan; shapes cannot tell it, as norms span all heads
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
LIBRARY_LACKS = {"img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed"}

Shapes = Mapping[str, tuple[int, ...]]


def diffusers_names(keys: list[str]) -> dict[str, str]:
    """Return the diffusers name of each key of an original (or converted) Wan transformer file.

    The renaming itself is the library's (`convert_wan_transformer_to_diffusers`), applied to the names.
    """
    names = {}
    converted = any(_bare(key).startswith("condition_embedder.") for key in keys)
    for key in keys:
        bare = _bare(key)
        if converted:
            names[key] = bare
        elif bare in LIBRARY_LACKS:
            names[key] = LIBRARY_LACKS[bare]
        else:
            (names[key],) = convert_wan_transformer_to_diffusers({bare: None})
    return names


def config_from_shapes(
    shapes: Shapes, where: str = "the checkpoint", told: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Derive the configuration of a Wan or Wan-VACE (with `vace_layers`) transformer from tensor shapes.

    shapes: by diffusers name. told: the config.json of the original layout, for what shapes cannot tell:
    `num_heads`, `eps` and `vace_layers`. Without it the head size is taken as 128 and eps as 1e-6, as in
    every published Wan. Raises CheckpointError naming the tensor without which nothing can be identified.
    """
    told = told or {}

    def shape(key: str) -> tuple[int, ...]:
        if key not in shapes:
            raise CheckpointError(f"base: {where}: tensor {key!r} is missing; this is no Wan transformer")
        return shapes[key]

    patch = shape("patch_embedding.weight")
    if len(patch) != 5:
        raise CheckpointError(
            f"base: {where}: tensor 'patch_embedding.weight' has shape {list(patch)}, not 5-D"
        )
    inner, in_channels, patch_size = patch[0], patch[1], patch[2:]
    heads = told.get("num_heads") or inner // HEAD_DIM
    if inner % (HEAD_DIM if "num_heads" not in told else heads):
        raise CheckpointError(
            f"base: {where}: tensor 'patch_embedding.weight' has {inner} rows, no multiple of {HEAD_DIM}:"
            " the number of heads cannot be determined; use a diffusers directory"
        )
    voxels = patch_size[0] * patch_size[1] * patch_size[2]
    image = "condition_embedder.image_embedder"
    config: dict[str, Any] = {
        "patch_size": list(patch_size),
        "num_attention_heads": heads,
        "attention_head_dim": inner // heads,
        "in_channels": in_channels,
        "out_channels": shape("proj_out.weight")[0] // voxels,
        "text_dim": shape("condition_embedder.text_embedder.linear_1.weight")[1],
        "freq_dim": shape("condition_embedder.time_embedder.linear_1.weight")[1],
        "ffn_dim": shape("blocks.0.ffn.net.0.proj.weight")[0],
        "num_layers": _count(shapes, "blocks"),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "qk_norm": "rms_norm_across_heads" if "blocks.0.attn1.norm_q.weight" in shapes else None,
        "eps": told.get("eps", 1e-6),
        "image_dim": shapes.get(f"{image}.norm1.weight", (None,))[0],
        "added_kv_proj_dim": shapes.get("blocks.0.attn2.add_k_proj.weight", (None, None))[1],
        "pos_embed_seq_len": shapes.get(f"{image}.pos_embed", (None, None))[1],
        "rope_max_seq_len": 1024,
    }
    if "vace_patch_embedding.weight" in shapes:
        count = _count(shapes, "vace_blocks")
        every = config["num_layers"] // max(count, 1)
        config["vace_layers"] = told.get("vace_layers") or list(range(0, config["num_layers"], every))[:count]
        config["vace_in_channels"] = shape("vace_patch_embedding.weight")[1]
    return config


def _bare(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _count(shapes: Shapes, blocks: str) -> int:
    return 1 + max((int(key.split(".")[1]) for key in shapes if key.startswith(f"{blocks}.")), default=-1)
