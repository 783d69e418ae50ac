"""Export the trained parts as directories of diffusers and transformers: weights/base and weights/depth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

from recapture.models.metrics.feature_net import FeatureNet, save_feature_net
from recapture.models.pretraining.depth import DEVIATION, MEAN, SIDE
from recapture.models.wan.load import Base
from recapture.tasks.pretrain.curves import machines, seconds
from recapture.tasks.pretrain.feature_part import finished_features
from recapture.tasks.pretrain.model_card import Training, base_card, depth_card, features_card
from recapture.tasks.pretrain.parts import Pretraining

SHIFT = 2.0  # of the sampling grid; the same as for the noise levels in training


def trained_base(run: Pretraining) -> Base:
    """Return the finished autoencoder, transformer and text encoder as a base in float32."""
    vae, mean, deviation = run.finished_vae("sharpen")
    vae.register_to_config(
        latents_mean=[round(float(value), 5) for value in mean],
        latents_std=[round(float(value), 5) for value in deviation],
    )
    inpainter = run.finished_inpainter()
    return Base("inpaint", inpainter.transformer, vae, inpainter.text_encoder, run.tokenizer)


def export_base(base: Base, folder: Path, training: Training) -> None:
    """Write a pipeline directory in float16 with its card, for `WanPipeline.from_pretrained` and `load_base`.

    The folder is replaced as a whole after everything has been written.
    """
    partial = _fresh(folder)
    for name in ("vae", "transformer", "text_encoder"):
        model: Any = getattr(base, name)
        model.half().save_pretrained(partial / name, safe_serialization=True)
        model.float()
    base.tokenizer.save_pretrained(partial / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(partial / "scheduler")
    index = {
        "_class_name": "WanPipeline",
        "_diffusers_version": diffusers.__version__,
        "boundary_ratio": None,
        "expand_timesteps": False,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (partial / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    training.write(partial)
    (partial / "README.md").write_text(base_card(training), encoding="utf-8")
    _replace(partial, folder)


def export_depth(model: Any, folder: Path, training: Training) -> None:
    """Write a transformers depth-estimation directory in float16 with its card; the folder is replaced."""
    partial = _fresh(folder)
    model.half().save_pretrained(partial, safe_serialization=True)
    model.float()
    preprocessing = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        "keep_aspect_ratio": False,
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    (partial / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
    training.write(partial)
    (partial / "README.md").write_text(depth_card(training), encoding="utf-8")
    _replace(partial, folder)


def export_features(net: FeatureNet, folder: Path, training: Training) -> None:
    """Write the feature network in float16 with its card; the folder is replaced."""
    partial = _fresh(folder)
    save_feature_net(net, partial)
    training.write(partial)
    (partial / "README.md").write_text(features_card(training), encoding="utf-8")
    _replace(partial, folder)


def export_parts(run: Pretraining, scores: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Write folder/base, folder/depth and folder/features with their model cards."""
    base, depth = trained_base(run), run.finished_depth()
    sizes = {name: parameters(getattr(base, name)) for name in ("vae", "transformer", "text_encoder")}
    export_base(base, folder / "base", _record(run, sizes, scores, ("vae", "refine", "sharpen", "inpainter")))
    export_depth(depth, folder / "depth", _record(run, {"depth": parameters(depth)}, scores, ("depth",)))
    net = finished_features(run.config, run.weights, run.device)
    export_features(
        net, folder / "features", _record(run, {"features": parameters(net)}, scores, ("features",))
    )


def _record(
    run: Pretraining,
    sizes: Mapping[str, int],
    scores: Mapping[str, Mapping[str, float]],
    parts: Sequence[str],
) -> Training:
    took = {part: seconds(run.folder, part) for part in parts}
    judged = {
        part: scores[part] for part in parts if part not in ("vae", "refine")
    }  # what followed replaced it
    earlier = {part: before for part in parts if (before := run.weights.earlier(part))}
    return Training.of(run.config, sizes, judged, took, machines(run.folder, parts), earlier)


def parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _fresh(folder: Path) -> Path:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _replace(partial: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
