"""A video depth model from a diffusers directory: the parts of Stable Video Diffusion."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PIPELINES = ("StableVideoDiffusionPipeline", "DepthCrafterPipeline")
PARTS = ("unet", "vae", "image_encoder", "feature_extractor", "scheduler")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_WAY_OUT = "set depth.model to a whole directory, as save_pretrained writes it"


@dataclass(frozen=True)
class VideoDepthModel:
    """The parts of a pipeline directory on a device, in evaluation mode, without gradients."""

    unet: Any  # UNetSpatioTemporalConditionModel: 4 noise and 4 condition channels in, 4 out
    vae: Any  # AutoencoderKLTemporalDecoder
    image_encoder: Any  # CLIPVisionModelWithProjection
    scheduler: Any  # EulerDiscreteScheduler
    image_mean: tuple[float, float, float]  # of what the image encoder sees
    image_std: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def side_multiple(self) -> int:
        """Return what height and width must be multiples of: 64 pixels for Stable Video Diffusion."""
        halvings = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return int(2**halvings)


def is_pipeline_directory(model_dir: str) -> bool:
    """Return whether a directory is a diffusers pipeline (has a model_index.json), not one model."""
    return (Path(model_dir) / "model_index.json").is_file()


def load_video_depth(
    model_dir: str, device: str = "cpu", *, dtype: torch.dtype = torch.float32
) -> VideoDepthModel:
    """Load a Stable Video Diffusion pipeline directory whose UNet was trained to predict depth.

    Only safetensors and JSON are read (files with the variant fp16 where there are no others), nothing is
    downloaded and no code of the directory is run. dtype: of all weights; the VAE stays float32 where it is
    float16 and the VAE's configuration says `force_upcast`.

    Raises ValueError naming what is missing, of another class or damaged.
    """
    import diffusers
    import transformers

    folder = Path(model_dir)
    pipeline = _read_json(folder / "model_index.json").get("_class_name")
    if pipeline not in PIPELINES:
        raise ValueError(
            f"depth: {model_dir!r} holds a {pipeline}, which predicts no depth; a diffusers directory must"
            f" hold one of {', '.join(PIPELINES)}"
        )
    lacking = [name for name in PARTS if not (folder / name).is_dir()]
    if lacking:
        raise ValueError(f"depth: {model_dir!r} has no {', no '.join(lacking)}; {_WAY_OUT}")
    unet = _model(diffusers.UNetSpatioTemporalConditionModel, folder / "unet", torch_dtype=dtype)
    image_encoder = _model(transformers.CLIPVisionModelWithProjection, folder / "image_encoder", dtype=dtype)
    config = _read_json(folder / "vae" / "config.json")
    upcast = dtype == torch.float16 and config.get("force_upcast", True)
    vae = _model(
        diffusers.AutoencoderKLTemporalDecoder,
        folder / "vae",
        torch_dtype=torch.float32 if upcast else dtype,
    )
    latents = vae.config.latent_channels
    given = (unet.config.in_channels, unet.config.out_channels, unet.config.cross_attention_dim)
    if given != (2 * latents, latents, image_encoder.config.projection_dim):
        raise ValueError(
            f"depth: the parts of {model_dir!r} do not fit: the UNet takes {given[0]} channels, gives"
            f" {given[1]} and attends to {given[2]}; the VAE has {latents} latent channels and the image"
            f" encoder makes {image_encoder.config.projection_dim} features; {_WAY_OUT}"
        )
    models = {"unet": unet, "vae": vae, "image_encoder": image_encoder}
    placed = {name: part.to(device).eval().requires_grad_(False) for name, part in models.items()}
    pixels = _read_json(folder / "feature_extractor" / "preprocessor_config.json")
    return VideoDepthModel(
        **placed,
        scheduler=_scheduler(folder / "scheduler"),
        image_mean=tuple(pixels.get("image_mean", CLIP_MEAN)),
        image_std=tuple(pixels.get("image_std", CLIP_STD)),
    )


def _model(model_class: Any, folder: Path, **dtype: torch.dtype) -> Any:
    """Load a model from safetensors; every tensor must be there and fit."""
    from safetensors import SafetensorError

    plain, half = (list(folder.glob(f"*{end}")) for end in ("model.safetensors*", "model.fp16.safetensors*"))
    shards = list(folder.glob("*model-*-of-*.safetensors"))
    variant = {"variant": "fp16"} if half and not (plain or shards) else {}
    try:
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **variant, **dtype
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"depth: {folder} cannot be loaded ({reason}); {_WAY_OUT}") from error
    faults = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    if faults:
        raise ValueError(
            f"depth: {folder} lacks {len(faults)} tensors, {sorted(faults)[0]!r} first; {_WAY_OUT}"
        )
    return model


def _scheduler(folder: Path) -> Any:
    from diffusers import EulerDiscreteScheduler

    try:
        return EulerDiscreteScheduler.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"depth: {folder} cannot be loaded ({error}); {_WAY_OUT}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"depth: {path} cannot be read as JSON ({error}); {_WAY_OUT}") from None
    if not isinstance(content, dict):
        raise ValueError(f"depth: {path} holds no JSON object; {_WAY_OUT}")
    return content
