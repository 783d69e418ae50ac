"""Key names of VAE, UMT5 and CLIP in Wan's original layout, and the configurations that shapes tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isqrt
from typing import Any

from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from torch import Tensor

from recapture.models.wan.checkpoint import Translate, renamed
from recapture.models.wan.tensor_files import CheckpointError, Tensors

UMT5_NAMES = [  # of Wan's T5 encoder -> transformers' UMT5
    (r"token_embedding\.weight", "shared.weight"),
    (r"norm\.weight", "encoder.final_layer_norm.weight"),
    (r"blocks\.(\d+)\.norm1\.weight", r"encoder.block.\1.layer.0.layer_norm.weight"),
    (r"blocks\.(\d+)\.attn\.([qkvo])\.weight", r"encoder.block.\1.layer.0.SelfAttention.\2.weight"),
    (
        r"blocks\.(\d+)\.pos_embedding\.embedding\.weight",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    (r"blocks\.(\d+)\.norm2\.weight", r"encoder.block.\1.layer.1.layer_norm.weight"),
    (r"blocks\.(\d+)\.ffn\.gate\.0\.weight", r"encoder.block.\1.layer.1.DenseReluDense.wi_0.weight"),
    (r"blocks\.(\d+)\.ffn\.fc1\.weight", r"encoder.block.\1.layer.1.DenseReluDense.wi_1.weight"),
    (r"blocks\.(\d+)\.ffn\.fc2\.weight", r"encoder.block.\1.layer.1.DenseReluDense.wo.weight"),
]
CLIP_NAMES = [  # of the vision tower of open-clip's XLM-RoBERTa ViT-H as Wan stores it -> transformers' CLIP
    (r"cls_embedding", "embeddings.class_embedding"),
    (r"pos_embedding", "embeddings.position_embedding.weight"),
    (r"patch_embedding\.weight", "embeddings.patch_embedding.weight"),
    (r"pre_norm\.(weight|bias)", r"pre_layrnorm.\1"),
    (r"post_norm\.(weight|bias)", r"post_layernorm.\1"),
    (r"transformer\.(\d+)\.norm([12])\.(weight|bias)", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"transformer\.(\d+)\.attn\.to_qkv\.(weight|bias)", r"encoder.layers.\1.self_attn.qkv.\2"),
    (r"transformer\.(\d+)\.attn\.proj\.(weight|bias)", r"encoder.layers.\1.self_attn.out_proj.\2"),
    (r"transformer\.(\d+)\.mlp\.0\.(weight|bias)", r"encoder.layers.\1.mlp.fc1.\2"),
    (r"transformer\.(\d+)\.mlp\.2\.(weight|bias)", r"encoder.layers.\1.mlp.fc2.\2"),
]
CLIP_OTHERS = ("textual.", "visual.head", "head", "log_scale", "visual_projection.")
CLIP_HEAD_DIM = 80  # of ViT-H, the only one that Wan uses; shapes cannot tell it


def umt5_translation(tensors: Tensors) -> Translate:
    """Return how a UMT5 encoder's tensors are called in transformers: from Wan's own names or the same."""
    if "token_embedding.weight" not in tensors.shapes:
        has_shared = "shared.weight" in tensors.shapes

        def words(key: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
            if key == "encoder.embed_tokens.weight":  # the same tensor under its second name
                return [] if has_shared else [("shared.weight", tensor)]
            return [(key, tensor)]

        return words
    return renamed({key: _rename(key, UMT5_NAMES) for key in tensors.shapes})


def umt5_config(tensors: Tensors, translate: Translate) -> dict[str, Any]:
    """Derive the configuration of a UMT5 encoder. Raises CheckpointError naming a tensor that it lacks."""
    shapes = _translated(tensors, translate)
    attention = "encoder.block.0.layer.0.SelfAttention"
    words = _shape(shapes, "shared.weight", 2, tensors, "UMT5 encoder")
    buckets, heads = _shape(shapes, f"{attention}.relative_attention_bias.weight", 2, tensors, "UMT5 encoder")
    inner, _ = _shape(shapes, f"{attention}.q.weight", 2, tensors, "UMT5 encoder")
    wide, _ = _shape(shapes, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2, tensors, "UMT5 encoder")
    return {
        "vocab_size": words[0],
        "d_model": words[1],
        "d_kv": inner // heads,
        "d_ff": wide,
        "num_heads": heads,
        "num_layers": 1 + max(int(key.split(".")[2]) for key in shapes if key.startswith("encoder.block.")),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": True,
    }


def clip_translation(tensors: Tensors) -> Translate:
    """Return how the tensors of a CLIP vision tower are called in transformers; a fused qkv becomes three."""
    original = any(key.endswith("attn.to_qkv.weight") for key in tensors.shapes)

    def translate(key: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        if key.startswith(CLIP_OTHERS) or key.endswith("position_ids"):
            return []
        if not original:
            return [(key.removeprefix("vision_model."), tensor)]
        name = _rename(key.removeprefix("visual."), CLIP_NAMES)
        if name == "embeddings.class_embedding":
            return [(name, tensor.flatten())]
        if name == "embeddings.position_embedding.weight":
            return [(name, tensor.flatten(0, -2))]
        if ".qkv." not in name:
            return [(name, tensor)]
        return [(name.replace("qkv", f"{one}_proj"), part) for one, part in zip("qkv", tensor.chunk(3))]

    return translate


def clip_config(tensors: Tensors, translate: Translate) -> dict[str, Any]:
    """Derive the configuration of a CLIP vision tower. Raises CheckpointError for a tensor that it lacks."""
    shapes = _translated(tensors, translate)
    patches = _shape(shapes, "embeddings.patch_embedding.weight", 4, tensors, "CLIP vision model")
    places = _shape(shapes, "embeddings.position_embedding.weight", 2, tensors, "CLIP vision model")
    wide = _shape(shapes, "encoder.layers.0.mlp.fc1.weight", 2, tensors, "CLIP vision model")
    if patches[0] % CLIP_HEAD_DIM:
        raise CheckpointError(
            f"base: {tensors.where}: a CLIP vision model {patches[0]} wide is not the ViT-H that Wan uses"
        )
    return {
        "hidden_size": patches[0],
        "intermediate_size": wide[0],
        "num_hidden_layers": 1
        + max(int(key.split(".")[2]) for key in shapes if key.startswith("encoder.layers.")),
        "num_attention_heads": patches[0] // CLIP_HEAD_DIM,
        "patch_size": patches[-1],
        "image_size": isqrt(places[0] - 1) * patches[-1],
        "hidden_act": "gelu",
        "projection_dim": 1024,
    }


def vae_translation(tensors: Tensors) -> Translate:
    """Return how a Wan VAE's tensors are called in diffusers, by the library's own table.

    Raises CheckpointError for a VAE that the table does not cover.
    """
    keys = list(tensors.shapes)
    if "encoder.conv_in.weight" in keys:
        return renamed({key: key for key in keys})
    if "decoder.middle.0.residual.0.gamma" not in keys:
        raise CheckpointError(
            f"base: {tensors.where} holds no VAE of Wan (tensor 'encoder.conv1.weight' is missing)"
        )
    if any(key.startswith("decoder.upsamples.0.upsamples.") for key in keys):
        raise CheckpointError(
            f"base: {tensors.where} is the VAE of Wan2.2 5B under its original names, which are not read;"
            " name the vae folder of Wan2.2-TI2V-5B-Diffusers"
        )
    return renamed(
        {old: new for new, old in convert_wan_vae_to_diffusers({key: key for key in keys}).items()}
    )


def vae_config(tensors: Tensors, translate: Translate) -> dict[str, Any]:
    """Derive what differs from the published Wan2.1 VAE, its width. Raises CheckpointError for others."""
    shapes = _translated(tensors, translate)
    width = _shape(shapes, "encoder.conv_in.weight", 5, tensors, "VAE of Wan")[0]
    channels = _shape(shapes, "post_quant_conv.weight", 5, tensors, "VAE of Wan")[0]
    if channels != 16:
        raise CheckpointError(
            f"base: {tensors.where}: a VAE of {channels} latent channels without config.json; only Wan2.1's"
            " (16) is known without, so name the vae folder of a diffusers directory"
        )
    return {"base_dim": width}


def _rename(key: str, table: list[tuple[str, str]]) -> str:
    for old, new in table:
        if re.fullmatch(old, key):
            return re.sub(old, new, key)
    return key  # is then reported as a tensor without a place


def _translated(tensors: Tensors, translate: Translate) -> dict[str, tuple[int, ...]]:
    import torch

    return {
        name: tuple(made.shape)
        for key, shape in tensors.shapes.items()
        for name, made in translate(key, torch.empty(shape, device="meta"))
    }


def _shape(
    shapes: Mapping[str, tuple[int, ...]], name: str, dimensions: int, tensors: Tensors, what: str
) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions:
        fault = "is missing" if shape is None else f"has shape {list(shape)}"
        raise CheckpointError(f"base: {tensors.where}: tensor {name!r} {fault}; this is no {what}")
    return shape
