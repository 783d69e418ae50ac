"""Adapter files of every maker, written from one list of changes, and the weights that they should give."""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import nn

# diffusers' names -> Wan's own, by replacement in this order
RENAMES = [
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    ("to_out.0", "o"),
    ("to_", ""),
    ("add_k_proj", "k_img"),
    ("add_v_proj", "v_img"),
    ("norm_added_k", "norm_k_img"),
]


@dataclass(frozen=True)
class Pair:
    """A and B of one layer, and alpha where the maker writes it."""

    module: str  # diffusers' name
    down: torch.Tensor  # [r, in]
    up: torch.Tensor  # [out, r]
    alpha: float

    @property
    def delta(self):
        """alpha / rank B A, by hand."""
        return self.alpha / self.down.shape[0] * (self.up @ self.down)

    @property
    def plain(self):
        """B A, for makers who write no alpha."""
        return self.up @ self.down


def original(name):
    """Wan's own name of a module."""
    if name == "proj_out":
        return "head.head"
    for ours, wan in RENAMES:
        name = name.replace(ours, wan)
    return name


def linear_layers(transformer, where=""):
    """The linear layers of a transformer, by name."""
    return {
        name.replace(".base_layer", ""): layer
        for name, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear) and where in name and "lora_" not in name
    }


def random_pairs(transformer, modules=None, *, seed=1):
    """Random A, B and alpha for the layers of a transformer, of ranks 2 to 4."""
    random = torch.Generator().manual_seed(seed)
    pairs = []
    for place, (name, layer) in enumerate(linear_layers(transformer).items()):
        if modules is not None and not any(wanted in name for wanted in modules):
            continue
        rank = 2 + place % 3
        down = torch.randn(rank, layer.in_features, generator=random) * 0.2
        up = torch.randn(layer.out_features, rank, generator=random) * 0.2
        pairs.append(Pair(name, down, up, alpha=float(1 + place % 4)))
    return pairs


def write(path, tensors, **metadata):
    """Write a safetensors file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(contiguous, path, metadata={key: json.dumps(value) for key, value in metadata.items()} or None)
    return path


def effective_weights(transformer):
    """Every parameter as the model acts: a layer's by its answers to unit vectors, others as stored."""
    found = {}
    for name, module in transformer.named_modules():
        plain = name.replace(".base_layer", "")
        if isinstance(getattr(module, "base_layer", module), nn.Linear) and ".lora_" not in name:
            if plain != name:
                continue  # the layer that peft has wrapped
            width = getattr(module, "base_layer", module).in_features
            with torch.no_grad():
                bias = module(torch.zeros(1, width))
                found[f"{name}.weight"] = (module(torch.eye(width)) - bias).T
                found[f"{name}.bias"] = bias[0]
    for name, parameter in transformer.named_parameters():
        if ".lora_" not in name and ".base_layer" not in name and name not in found:
            found[name] = parameter.detach().clone()
    return found


def state(transformer):
    """Copies of all parameters, to be compared bit for bit."""
    return {name: value.clone() for name, value in transformer.state_dict().items()}
