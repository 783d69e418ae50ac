"""One loader for every Wan-family base, in diffusers or original layout, as folder, single files or GGUF."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel

from recapture.conf.heartbeat import beat
from recapture.models.wan.checkpoint import (
    Translate,
    build_model,
    compare,
    empty_model,
    read_config,
    renamed,
    same_name,
)
from recapture.models.wan.encoder_keys import vae_config, vae_translation
from recapture.models.wan.gguf_file import GgufFile, load_gguf
from recapture.models.wan.layouts import Part
from recapture.models.wan.load_encoders import load_image_encoder, load_text_encoder
from recapture.models.wan.original_keys import config_from_shapes, diffusers_names
from recapture.models.wan.sources import Named, Sources, find_sources
from recapture.models.wan.tensor_files import CheckpointError, Tensors

log = logging.getLogger(__name__)
Layout = Literal["t2v", "inpaint", "vace", "control"]
CLASSES = {cls.__name__: cls for cls in (WanTransformer3DModel, WanVACETransformer3DModel)}
PUBLISHED_BOUNDARY: dict[Layout, float] = {
    "t2v": 0.875,
    "vace": 0.875,
    "inpaint": 0.9,
    "control": 0.9,
}  # Wan2.2's own settings
TI2V_CHANNELS = 48  # of Wan2.2's 5B, which takes one timestep per token
BOTH_FRAMES = 2 * 257  # CLIP tokens of the first and the last frame, of Wan2.1 FLF2V
LEFT_OUT = "ref_conv."  # of Fun-Control V1.1 and Wan2.2: tokens of a reference picture, which is not given
TEXT_LENGTH = 512  # tokens; the image branch of Wan2.1 I2V assumes exactly this many


@dataclass(frozen=True)
class Base:
    """A Wan-family base, ready to sample from.

    layout: what the transformer is given beside noise. 't2v': nothing, or the first frame (Wan2.2 TI2V);
    'inpaint' (Fun-InP, I2V, FLF2V): 4 mask and 16 masked-video channels; 'vace': 96 control channels;
    'control' (Fun-Control): 16 channels of a control video, and a start picture or what 'inpaint' has.
    """

    layout: Layout
    transformer: Any
    vae: Any
    text_encoder: Any = None
    tokenizer: Any = None
    transformer_2: Any = None  # Wan2.2: takes over below boundary_ratio
    boundary_ratio: float | None = None
    expand_timesteps: bool = False  # Wan2.2 TI2V: one timestep per token
    image_encoder: Any = None
    image_processor: Any = None
    guidance_batched: bool = False  # both branches of guidance as one batch
    adapters_merged: bool = False  # adapters go into the weights
    embedded: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    memory: Any = None  # its `Placing`; None: every part is where it was loaded

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the transformer's weights, except those kept in float32."""
        return self.transformer.dtype

    @property
    def side_multiple(self) -> int:
        """Return what height and width must be multiples of, in pixels."""
        return int(self.vae.config.scale_factor_spatial * max(self.transformer.config.patch_size[1:]))

    @property
    def text_length(self) -> int:
        """Return the tokens of a prompt: 512, or what the tokenizer takes where that is less."""
        if self.transformer.config.image_dim is not None:
            return TEXT_LENGTH
        return min(TEXT_LENGTH, getattr(self.tokenizer, "model_max_length", TEXT_LENGTH))

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (z, T', h, w) of a clip of T = 4n+1 frames of height x width pixels."""
        time, space = self.vae.config.scale_factor_temporal, self.vae.config.scale_factor_spatial
        return self.vae.config.z_dim, (frames - 1) // time + 1, height // space, width // space


def load_base(
    path: str | Path | Named,
    *,
    parts: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Base:
    """Load a base. Only safetensors, GGUF and JSON are read, nothing is downloaded and no code of it is run.

    path: a diffusers pipeline directory, a folder in Wan's original layout, a .safetensors or .gguf file of a
    transformer, or what several settings name; see `sources`. parts: the directory that the other parts come
    from, where it has them. dtype: of transformers and text encoder; norms, modulation and time embedding
    stay float32 whatever it is. vae_dtype: of VAE and image encoder, as float32 in Wan's examples.

    Raises CheckpointError (a ValueError) for whatever is missing, damaged or of another kind, naming the file
    and the tensor or setting.
    """
    named = path if isinstance(path, Named) else Named.of(path, parts=parts)
    return load_sources(find_sources(named), dtype=dtype, vae_dtype=vae_dtype, device=device)


def _beat(module: torch.nn.Module, arguments: object) -> None:
    """Report progress at every call of a part: a sampling or training step, a chunk of the VAE."""
    beat()


def load_sources(
    sources: Sources,
    *,
    dtype: torch.dtype | None,
    vae_dtype: torch.dtype | None,
    device: str | torch.device = "cpu",
    transformer_device: str | torch.device | None = None,
    encoder_device: str | torch.device | None = None,
) -> Base:
    """Load a base from its files; None as dtype: as stored.

    transformer_device, encoder_device: where transformers and text encoder go; by default to `device`.
    """
    at = device if transformer_device is None else transformer_device
    transformer = load_transformer(sources.transformer, dtype, at)
    second = sources.transformer_2
    transformer_2 = None if second is None else load_transformer(second, dtype, at)
    vae = load_vae(sources.vae, vae_dtype, device)
    where = sources.transformer.where
    layout = layout_of(transformer, vae, where)
    boundary = sources.boundary_ratio
    if second is not None and layout_of(transformer_2, vae, second.where) != layout:
        raise CheckpointError(f"base: {where} and {second.where} are transformers of different kinds")
    if second is not None and boundary is None:
        boundary = PUBLISHED_BOUNDARY[layout]
    text_encoder = tokenizer = image_encoder = image_processor = None
    if sources.text_encoder is not None and sources.tokenizer is not None:
        at = device if encoder_device is None else encoder_device
        text_encoder, tokenizer = load_text_encoder(
            sources.text_encoder, sources.tokenizer, transformer.config.text_dim, dtype, at
        )
    if sources.image_encoder is not None and transformer.config.image_dim is not None:
        image_encoder, image_processor = load_image_encoder(
            sources.image_encoder, sources.image_processor, vae_dtype, device
        )
    for part in (transformer, transformer_2, vae.encoder, vae.decoder, text_encoder, image_encoder):
        if part is not None:
            part.register_forward_pre_hook(_beat)
    return Base(
        layout=layout,
        transformer=transformer,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer_2=transformer_2,
        boundary_ratio=boundary,
        expand_timesteps=sources.expand_timesteps
        or (not sources.diffusers and vae.config.z_dim == TI2V_CHANNELS),
        image_encoder=image_encoder,
        image_processor=image_processor,
    )


def load_transformer(part: Part, dtype: torch.dtype | None, device: str | torch.device = "cpu") -> Any:
    """Load a transformer: diffusers' or Wan's own key names, with or without a configuration, GGUF."""
    tensors = part.tensors()
    model_class, config, names = identify_transformer(part, tensors)
    if isinstance(tensors, GgufFile):
        model = empty_model(lambda: model_class.from_config(dict(config)), part.where)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        compare(expected, tensors, renamed(names))
        return load_gguf(model_class, config, tensors.where, dtype or torch.float32, device)
    return build_model(model_class, config, tensors, translate=renamed(names), dtype=dtype, device=device)


def identify_transformer(part: Part, tensors: Tensors) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Return (class, configuration, diffusers' name of each stored key) of a transformer."""
    told = read_config(part.config.parent) if part.config is not None else {}
    names = diffusers_names(list(tensors.shapes))
    if any(name.startswith(LEFT_OUT) for name in names.values()) and _takes_control(tensors, names):
        log.warning("base: %s: the branch of its reference picture is left out", part.where)
        names = {key: "" if name.startswith(LEFT_OUT) else name for key, name in names.items()}
    if "num_attention_heads" in told:
        if told.get("_class_name") not in CLASSES:
            raise CheckpointError(
                f"base: {part.where} holds a {told.get('_class_name')!r}, not one of {', '.join(CLASSES)}"
            )
        return CLASSES[told["_class_name"]], _without_image(told, names, part), names
    shapes = {names[key]: shape for key, shape in tensors.shapes.items()}
    config = config_from_shapes(shapes, str(part.where), told)
    return (
        CLASSES["WanVACETransformer3DModel" if "vace_layers" in config else "WanTransformer3DModel"],
        config,
        names,
    )


def _takes_control(tensors: Tensors, names: dict[str, str]) -> bool:
    """Return whether a transformer takes at least three times the channels that it makes."""
    shapes = {names[key]: shape for key, shape in tensors.shapes.items()}
    taken, made = shapes.get("patch_embedding.weight", ()), shapes.get("proj_out.weight", ())
    return len(taken) == 5 and bool(made) and taken[1] * math.prod(taken[2:]) >= 3 * made[0]


def _without_image(config: dict[str, Any], names: dict[str, str], part: Part) -> dict[str, Any]:
    """Drop an image branch that a configuration names without tensors, as in a mirror of Wan2.2 TI2V."""
    config = dict(config)
    for entry, tensor in (("image_dim", "image_embedder."), ("added_kv_proj_dim", ".add_k_proj.")):
        if config.get(entry) is not None and not any(tensor in name for name in names.values()):
            log.warning("base: %s: %s %s has no tensors and is left out", part.config, entry, config[entry])
            config[entry] = None
    return config


def load_vae(part: Part, dtype: torch.dtype | None, device: str | torch.device = "cpu") -> Any:
    """Load an AutoencoderKLWan: of diffusers' or of Wan2.1's own key names."""
    tensors = part.tensors()
    config, translate = identify_vae(part, tensors)
    vae = build_model(AutoencoderKLWan, config, tensors, translate=translate, dtype=dtype, device=device)
    settings = vae.config
    space = 2 ** (len(settings.dim_mult) - 1) * (settings.patch_size or 1)
    time = 2 ** sum(settings.temperal_downsample)
    if (settings.scale_factor_spatial, settings.scale_factor_temporal) != (space, time):
        raise CheckpointError(
            f"base: {part.where}: scale factors {settings.scale_factor_spatial} (space) and"
            f" {settings.scale_factor_temporal} (time) do not fit its layers, which shrink by {space}, {time}"
        )
    if {len(settings.latents_mean), len(settings.latents_std)} != {settings.z_dim}:
        raise CheckpointError(
            f"base: {part.where}: latents_mean and latents_std need {settings.z_dim} numbers"
        )
    return vae


def identify_vae(part: Part, tensors: Tensors) -> tuple[dict[str, Any], Translate]:
    """Return (configuration, translation of stored keys) of a VAE."""
    if part.config is None:
        translate = vae_translation(tensors)
        return vae_config(tensors, translate), translate
    config = read_config(part.config.parent)
    if config.get("_class_name") != "AutoencoderKLWan":
        raise CheckpointError(
            f"base: {part.where} holds a {config.get('_class_name')!r}, not an AutoencoderKLWan"
        )
    return config, same_name


def layout_of(transformer: Any, vae: Any, path: Path) -> Layout:
    """Return what a transformer is given beside noise. Raises CheckpointError for what is not known."""
    config, z, time = transformer.config, vae.config.z_dim, vae.config.scale_factor_temporal
    if config.out_channels != z:
        raise CheckpointError(
            f"base: {path}: tensor 'proj_out.weight' makes {config.out_channels} channels a voxel,"
            f" the VAE has {z}"
        )
    if config.patch_size[0] != 1:
        raise CheckpointError(
            f"base: {path}: patches of {config.patch_size[0]} latent frames are not supported"
        )
    if isinstance(transformer, WanVACETransformer3DModel):
        if config.vace_in_channels == 2 * z + vae.config.scale_factor_spatial**2 and config.in_channels == z:
            return "vace"
        found = f"'vace_patch_embedding.weight' takes {config.vace_in_channels}"
    elif config.in_channels == z:
        return "t2v"
    elif config.in_channels == 2 * z + time and config.pos_embed_seq_len in (None, BOTH_FRAMES):
        return "inpaint"
    elif config.in_channels in (3 * z, 3 * z + time) and config.pos_embed_seq_len is None:
        return "control"
    else:
        found = f"'patch_embedding.weight' takes {config.in_channels}"
    raise CheckpointError(
        f"base: {path}: tensor {found} channels, which is no known layout: text-to-video has {z},"
        f" Fun-InP, I2V and first-last-frame {2 * z + time}, Fun-Control {3 * z} or {3 * z + time}, VACE"
        f" {2 * z + vae.config.scale_factor_spatial**2} control channels (models of cameras, sound or poses"
        " are not supported)"
    )
