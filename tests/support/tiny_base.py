"""Tiny random Wan bases on disk, in the classes of the real ones. Made in under a second each."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

WORDS = [
    *("a", "the", "red", "blue", "green", "box", "ball", "wall", "floor", "room", "camera"),
    *("moves", "left", "right", "slowly", "&", "-"),
]
VAE = {
    "base_dim": 3,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.01 * n - 0.08 for n in range(16)],
    "latents_std": [0.5 + 0.05 * n for n in range(16)],
}
# 2x2 pixels folded into channels, residual shortcuts: the kind that the project trains itself
PATCHED_VAE = VAE | {
    "dim_mult": [1, 2, 2],
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 8,
}
TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
}
# For single files, from whose shapes the head size of 128 cannot be read
ONE_HEAD = {"num_attention_heads": 1, "attention_head_dim": 128}
TEXT_LENGTH = 16
# Wan2.2 TI2V-5B: 16x16 pixels and 4 frames to a latent of 48 channels, residual shortcuts, 2x2 pixels folded
TI2V_VAE = {
    "base_dim": 4,
    "decoder_base_dim": 8,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.01 * n - 0.2 for n in range(48)],
    "latents_std": [0.5 + 0.01 * n for n in range(48)],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
}
CHANNELS = {"inpaint": 36, "control": 48, "control_masked": 52}
PUBLISHED: dict[
    str, tuple[str, dict]
] = {  # tiny twins of published models: (pipeline class, arguments of write_tiny_base)
    "Wan2.1-T2V": ("WanPipeline", {"layout": "t2v"}),
    "Wan2.1-I2V": ("WanImageToVideoPipeline", {"layout": "inpaint", "image": True}),
    "Wan2.1-FLF2V": (
        "WanImageToVideoPipeline",
        {"layout": "inpaint", "image": True, "pos_embed_seq_len": 514},
    ),
    "Wan2.1-VACE": ("WanVACEPipeline", {"layout": "vace"}),
    "Wan2.1-Fun-Control": ("WanImageToVideoPipeline", {"layout": "control", "image": True}),
    "Wan2.2-Fun-A14B-Control": ("WanImageToVideoPipeline", {"layout": "control_masked", "two": True}),
    "Wan2.2-TI2V-5B": (
        "WanPipeline",
        {"layout": "t2v", "vae": TI2V_VAE, "expand_timesteps": True, "in_channels": 48, "out_channels": 48},
    ),
    "Wan2.2-T2V-A14B": ("WanPipeline", {"layout": "t2v", "two": True, "boundary": 0.875}),
    "Wan2.2-I2V-A14B": ("WanImageToVideoPipeline", {"layout": "inpaint", "two": True}),
    "Wan2.2-VACE-Fun-A14B": ("WanVACEPipeline", {"layout": "vace", "two": True, "boundary": 0.875}),
}


def write_tiny_base(
    folder: Path,
    layout: str = "inpaint",
    *,
    seed: int = 0,
    two: bool = False,
    image: bool = False,
    text_length: int = TEXT_LENGTH,
    pipeline: str = "WanPipeline",
    vae: dict = VAE,
    boundary: float = 0.9,
    expand_timesteps: bool = False,
    **changes,
) -> Path:
    """Write a tiny random pipeline directory and return it.

    layout: 't2v', 'inpaint', 'vace', 'control' or 'control_masked'. two: with transformer_2 and a
    boundary_ratio, as Wan2.2. image: with the CLIP branch of Wan2.1 I2V. changes: entries of the
    transformer's configuration.
    """
    torch.manual_seed(seed)
    index = {"_class_name": pipeline, "_diffusers_version": "0.42.1", "expand_timesteps": expand_timesteps}
    index["boundary_ratio"] = boundary if two else None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    _spread(AutoencoderKLWan(**vae)).save_pretrained(folder / "vae")
    if image:
        changes = {"image_dim": 24, "added_kv_proj_dim": 24} | changes
        text_length = 512
    for name in ("transformer", "transformer_2")[: 1 + two]:
        tiny_transformer(layout, **changes).save_pretrained(folder / name)
    width = changes.get("text_dim", 32)
    text = UMT5Config(vocab_size=len(WORDS) + 4, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    UMT5EncoderModel(text).save_pretrained(folder / "text_encoder")
    tiny_tokenizer(text_length).save_pretrained(folder / "tokenizer")
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    scheduler.save_pretrained(folder / "scheduler")
    if image:
        vision = CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=2,
        )
        CLIPVisionModel(vision).save_pretrained(folder / "image_encoder")
        sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        CLIPImageProcessor(**sides).save_pretrained(folder / "image_processor")
    return folder


def write_published(folder: Path, name: str) -> Path:
    """Write the tiny twin of a published model, by its name in PUBLISHED."""
    pipeline, given = PUBLISHED[name]
    return write_tiny_base(folder, pipeline=pipeline, **given)


def tiny_transformer(layout: str, **changes):
    """A random transformer of a layout, whose output depends visibly on every input."""
    config = TRANSFORMER | {"in_channels": CHANNELS.get(layout, 16)} | changes
    if layout == "vace":
        model = WanVACETransformer3DModel(**{"vace_layers": [0], "vace_in_channels": 96} | config)
    else:
        model = WanTransformer3DModel(**config)
    return _spread(model)


def tiny_tokenizer(length: int = TEXT_LENGTH) -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: n + 3 for n, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )


def edit_weights(folder: Path, change) -> Path:
    """Load the weights of a component, let `change` alter the dictionary in place, write them back."""
    path = folder / "diffusion_pytorch_model.safetensors"
    if not path.is_file():
        path = folder / "model.safetensors"
    tensors = {key: value.clone() for key, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def write_single_file(path: Path, model, prefix: str = "") -> Path:
    """Write a diffusers transformer as one file with Wan's original key names."""
    renames = [
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
        ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
        ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
        (".norm2.", ".norm3."),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        ("to_out.0", "o"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("add_k_proj", "k_img"),
        ("add_v_proj", "v_img"),
        ("norm_added_k", "norm_k_img"),
        ("scale_shift_table", "modulation"),
        ("proj_in", "before_proj"),
    ]
    tensors = {}
    for key, value in model.state_dict().items():
        name = key
        for new, old in renames:
            name = name.replace(new, old)
        if key.startswith("vace_blocks."):
            name = name.replace("proj_out", "after_proj")
        if key == "scale_shift_table":
            name = "head.modulation"
        elif key.startswith("proj_out."):
            name = name.replace("proj_out", "head.head")
        tensors[prefix + name] = value.contiguous().clone()
    save_file(tensors, path)
    return path


def _spread(model):
    """Make what is initialised to 0 random, so that nothing is multiplied away."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1 and "norm" in name:
                value.copy_(1 + 0.1 * torch.randn_like(value))
            elif not value.any():
                value.normal_(0, 0.05)
    return model.eval()
