"""One loader for every Wan-family base: a diffusers pipeline directory, or a single file of original keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel

from recapture.models.wan.checkpoint import (
    CheckpointError,
    build_model,
    read_config,
    read_json,
    tensor_shapes,
    weight_files,
)
from recapture.models.wan.load_encoders import load_image_encoder, load_text_encoder
from recapture.models.wan.original_keys import config_from_shapes, diffusers_names

Layout = Literal["t2v", "inpaint", "vace"]
TEXT_LENGTH = 512  # tokens; the image branch of Wan2.1 I2V assumes exactly this many


@dataclass(frozen=True)
class Base:
    """A Wan-family base, ready to sample from.

    layout: what the transformer is given beside noise. 't2v': nothing; 'inpaint' (Fun-InP, I2V): 4 mask and
    16 masked-video channels; 'vace': 96 control channels.
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
    path: str | Path,
    *,
    parts: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Base:
    """Load a base. Only safetensors and JSON are read, nothing is downloaded and no code of it is run.

    path: a diffusers pipeline directory (transformer/, vae/, optionally transformer_2/, text_encoder/,
    tokenizer/, image_encoder/, image_processor/, scheduler/), or one .safetensors file of a transformer with
    original or diffusers key names. parts: for a single file, the pipeline directory that the other parts
    come from, for example any Wan2.1 one. dtype: of transformers and text encoder; norms, modulation and time
    embedding stay float32 whatever it is. vae_dtype: of VAE and image encoder, as float32 in Wan's examples.

    Raises CheckpointError (a ValueError) for whatever is missing, damaged or of another kind, naming the file
    and the tensor or setting.
    """
    path = Path(path)
    folder = _parts_folder(path, parts)
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    if path.is_file():
        transformer, transformer_2 = _single_file(path, dtype, device), None
        index |= {"boundary_ratio": None, "expand_timesteps": False}
    else:
        transformer = _transformer(folder / "transformer", dtype, device)
        second = folder / "transformer_2"
        transformer_2 = _transformer(second, dtype, device) if second.is_dir() else None
    vae = _vae(folder / "vae", vae_dtype, device)
    layout = _layout(transformer, vae, path)
    boundary = index.get("boundary_ratio")
    if transformer_2 is not None and (boundary is None or _layout(transformer_2, vae, path) != layout):
        raise CheckpointError(f"base: {path} has two transformers of different kinds, or no boundary_ratio")
    if transformer_2 is None and boundary is not None:
        raise CheckpointError(
            f"base: {path}: model_index.json sets boundary_ratio {boundary}, but there is no transformer_2"
        )
    text_encoder, tokenizer = load_text_encoder(folder, transformer.config.text_dim, dtype, device)
    wants_image = transformer.config.image_dim is not None
    image_encoder, image_processor = (
        load_image_encoder(folder, vae_dtype, device) if wants_image else (None, None)
    )
    return Base(
        layout=layout,
        transformer=transformer,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer_2=transformer_2,
        boundary_ratio=boundary,
        expand_timesteps=bool(index.get("expand_timesteps", False)),
        image_encoder=image_encoder,
        image_processor=image_processor,
    )


def _parts_folder(path: Path, parts: str | Path | None) -> Path:
    """Return the pipeline directory of VAE and text encoder. Raises CheckpointError without one."""
    if path.is_file() and parts is None:
        raise CheckpointError(
            f"base: {path} is a transformer alone; name in `parts` a pipeline directory with its VAE"
            " and text encoder"
        )
    folder = Path(parts) if parts is not None else path
    if not folder.is_dir():
        raise CheckpointError(f"base: {folder} is not a directory")
    return folder


def _transformer(folder: Path, dtype: torch.dtype, device: str | torch.device) -> Any:
    config = read_config(folder)
    classes = {cls.__name__: cls for cls in (WanTransformer3DModel, WanVACETransformer3DModel)}
    name = config.get("_class_name")
    if name not in classes:
        raise CheckpointError(f"base: {folder} holds a {name!r}, not one of {', '.join(classes)}")
    return build_model(classes[name], config, weight_files(folder), dtype=dtype, device=device)


def _single_file(path: Path, dtype: torch.dtype, device: str | torch.device) -> Any:
    shapes = tensor_shapes([path])
    names = diffusers_names(list(shapes))
    config = config_from_shapes({names[key]: shape for key, shape in shapes.items()}, str(path))
    model_class = WanVACETransformer3DModel if "vace_layers" in config else WanTransformer3DModel
    return build_model(model_class, config, [path], names=names, dtype=dtype, device=device)


def _vae(folder: Path, dtype: torch.dtype, device: str | torch.device) -> Any:
    config = read_config(folder)
    if config.get("_class_name") != "AutoencoderKLWan":
        raise CheckpointError(
            f"base: {folder} holds a {config.get('_class_name')!r}, not an AutoencoderKLWan"
        )
    vae = build_model(AutoencoderKLWan, config, weight_files(folder), dtype=dtype, device=device)
    settings = vae.config
    space = 2 ** (len(settings.dim_mult) - 1) * (settings.patch_size or 1)
    time = 2 ** sum(settings.temperal_downsample)
    if (settings.scale_factor_spatial, settings.scale_factor_temporal) != (space, time):
        raise CheckpointError(
            f"base: {folder}: scale factors {settings.scale_factor_spatial} (space) and"
            f" {settings.scale_factor_temporal} (time) do not fit its layers, which shrink by {space}, {time}"
        )
    if {len(settings.latents_mean), len(settings.latents_std)} != {settings.z_dim}:
        raise CheckpointError(f"base: {folder}: latents_mean and latents_std need {settings.z_dim} numbers")
    return vae


def _layout(transformer: Any, vae: Any, path: Path) -> Layout:
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
    elif config.in_channels == 2 * z + time and config.pos_embed_seq_len is None:
        return "inpaint"
    else:
        found = f"'patch_embedding.weight' takes {config.in_channels}"
    raise CheckpointError(
        f"base: {path}: tensor {found} channels, which is no known layout: text-to-video has {z},"
        f" Fun-InP and I2V {2 * z + time}, VACE {2 * z + vae.config.scale_factor_spatial**2} control channels"
        " (first-last-frame and control models are not supported)"
    )
