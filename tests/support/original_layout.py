"""Tiny bases in the layouts of their authors: what is published of Wan2.1-Fun, Wan2.2-Fun, and by ComfyUI."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from support import tiny_base as tiny
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

WIDE_VAE = {"base_dim": 4}  # the published Wan2.1 VAE is 96 wide; its latents' statistics stay
ORIGINAL_CONFIG = {"_class_name": "WanTransformer3DModel", "model_type": "i2v", "num_heads": 2, "eps": 1e-6}
T5 = "models_t5_umt5-xxl-enc-bf16"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"


def umt5(seed=1):
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=len(tiny.WORDS) + 4, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4
    )
    return UMT5EncoderModel(config).eval()


def clip_vision(seed=2):
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=80,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
        hidden_act="gelu",
    )
    return tiny._spread(CLIPVisionModel(config))


def wan_vae(seed=3):
    torch.manual_seed(seed)
    return tiny._spread(AutoencoderKLWan(**WIDE_VAE))


def t5_names(model):
    """UMT5's tensors under the names of Wan's own T5 encoder."""
    state = {
        "token_embedding.weight": model.shared.weight,
        "norm.weight": model.encoder.final_layer_norm.weight,
    }
    for number, block in enumerate(model.encoder.block):
        own = f"blocks.{number}."
        attention, feed = block.layer[0], block.layer[1]
        state[own + "norm1.weight"] = attention.layer_norm.weight
        state[own + "norm2.weight"] = feed.layer_norm.weight
        for one in "qkvo":
            state[f"{own}attn.{one}.weight"] = getattr(attention.SelfAttention, one).weight
        state[own + "pos_embedding.embedding.weight"] = attention.SelfAttention.relative_attention_bias.weight
        state[own + "ffn.gate.0.weight"] = feed.DenseReluDense.wi_0.weight
        state[own + "ffn.fc1.weight"] = feed.DenseReluDense.wi_1.weight
        state[own + "ffn.fc2.weight"] = feed.DenseReluDense.wo.weight
    return copied(state)


def clip_names(model):
    """The vision tower under the names of the published CLIP file, with q, k and v in one tensor."""
    embeddings = model.embeddings
    state = {
        "log_scale": torch.zeros(()),
        "textual.token_embedding.weight": torch.zeros(3, 2),
        "visual.head": torch.zeros(80, 8),
        "visual.cls_embedding": embeddings.class_embedding[None, None],
        "visual.pos_embedding": embeddings.position_embedding.weight[None],
        "visual.patch_embedding.weight": embeddings.patch_embedding.weight,
    }
    pairs = [("pre_norm", model.pre_layrnorm), ("post_norm", model.post_layernorm)]
    for number, layer in enumerate(model.encoder.layers):
        own, attention = f"transformer.{number}.", layer.self_attn
        pairs += [(own + "norm1", layer.layer_norm1), (own + "norm2", layer.layer_norm2)]
        pairs += [(own + "attn.proj", attention.out_proj)]
        pairs += [(own + "mlp.0", layer.mlp.fc1), (own + "mlp.2", layer.mlp.fc2)]
        for kind in ("weight", "bias"):
            fused = [getattr(part, kind) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
            state[f"visual.{own}attn.to_qkv.{kind}"] = torch.cat(fused)
    state |= {
        f"visual.{name}.{kind}": getattr(part, kind) for name, part in pairs for kind in ("weight", "bias")
    }
    return copied(state)


def vae_names(vae):
    """The VAE's tensors under the names of Wan2.1_VAE.pth."""
    state = {}
    for key, value in vae.state_dict().items():
        name = key
        for coder, new, old in (
            ("encoder", "down_blocks", "downsamples"),
            ("decoder", "up_blocks", "upsamples"),
        ):
            name = name.replace(f"{coder}.mid_block.resnets.0", f"{coder}.middle.0")
            name = name.replace(f"{coder}.mid_block.attentions.0", f"{coder}.middle.1")
            name = name.replace(f"{coder}.mid_block.resnets.1", f"{coder}.middle.2")
            name = name.replace(f"{coder}.norm_out", f"{coder}.head.0").replace(
                f"{coder}.conv_out", f"{coder}.head.2"
            )
            name = name.replace(f"{coder}.conv_in", f"{coder}.conv1").replace(
                f"{coder}.{new}", f"{coder}.{old}"
            )
        parts = name.split(".")
        if name.startswith("decoder.upsamples."):  # blocks of 3 and an upsampler, numbered through
            block, kind, index = int(parts[2]), parts[3], int(parts[4])
            name = ".".join(
                ["decoder.upsamples", str(4 * block + (3 if kind == "upsamplers" else index)), *parts[5:]]
            )
        if "samples" in name or "middle" in name:
            for new, old in (("norm1", "residual.0"), ("conv1", "residual.2"), ("norm2", "residual.3")):
                name = name.replace(f".{new}.", f".{old}.")
            name = name.replace(".conv2.", ".residual.6.").replace(".conv_shortcut.", ".shortcut.")
        if name.startswith("post_quant_conv"):
            name = name.replace("post_quant_conv", "conv2")
        elif name.startswith("quant_conv"):
            name = name.replace("quant_conv", "conv1")
        state[name] = value
    return copied(state)


def write_fun_folder(folder: Path, *, noise_levels=False, image=True, seed=5, layout="inpaint") -> Path:
    """Write what alibaba-pai publishes: the transformer at the root, or two of Wan2.2; the rest as .pth."""
    folder.mkdir(parents=True)
    branch = {"image_dim": 80, "added_kv_proj_dim": 24} if image else {}
    for number, where in enumerate(("high_noise_model", "low_noise_model") if noise_levels else (".",)):
        (folder / where).mkdir(exist_ok=True)
        torch.manual_seed(seed + number)
        model = tiny.tiny_transformer(layout, **branch)
        tiny.write_single_file(folder / where / "diffusion_pytorch_model.safetensors", model)
        (folder / where / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    (folder / "configuration.json").write_text(json.dumps({"framework": "Pytorch", "task": "text-to-video"}))
    torch.save(vae_names(wan_vae()), folder / "Wan2.1_VAE.pth")
    torch.save(t5_names(umt5()), folder / f"{T5}.pth")
    if image:
        torch.save(clip_names(clip_vision()), folder / f"{CLIP}.pth")
    tiny.tiny_tokenizer(512).save_pretrained(folder / "google" / "umt5-xxl")
    return folder


def copied(state):
    return {name: value.detach().contiguous().clone() for name, value in state.items()}


def scaled(state, dtype=torch.float8_e4m3fn, name="scale_weight", per_row=False):
    """ComfyUI's scaled float8: matrices divided by a scale that is stored beside them, and a marker."""
    found = {"scaled_fp8": torch.zeros(2, dtype=dtype)} if name == "scale_weight" else {}
    for key, value in state.items():
        if value.ndim != 2 or "norm" in key or "embedding" in key:
            found[key] = value
            continue
        largest = value.abs().amax(1, keepdim=True) if per_row else value.abs().max()
        scale = largest.float() / torch.finfo(dtype).max
        found[key] = (value.float() / scale).to(dtype)
        found[key.removesuffix("weight") + name] = scale.squeeze() if per_row else scale
        found[key.removesuffix("weight") + name.replace("weight", "input")] = torch.ones(())
    return copied(found)


def write(path: Path, state) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path
