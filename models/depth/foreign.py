"""What people take for a transformers depth model and is none: one sentence that names the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recapture.models.depth.processing import FAMILIES

KNOWN = (
    "Depth Anything V1 and V2 (-hf), DPT and MiDaS, ZoeDepth, Depth Pro (-hf) and GLPN in transformers"
    " layout, and DepthCrafter in diffusers layout"
)
_BESIDE = "run it yourself and give its depth beside the clips as NAME.depth.npz with depth.source 'given'"
_OTHERS = (  # words in names and configurations, in lower case; the first that matches is taken
    (
        ("video_depth_anything", "video-depth-anything"),
        "Video Depth Anything",
        f"use DepthCrafter, or {_BESIDE}",
    ),
    (
        ("depth_anything_3", "depth-anything-3", "da3"),
        "Depth Anything 3",
        f"use Depth Anything V2, or {_BESIDE}",
    ),
    (
        ("depth_anything_v2", "depth-anything-v2"),
        "the original Depth Anything V2",
        "use the same model in transformers layout: the directories whose names end in -hf",
    ),
    (
        ("depth_anything_vit", "depth-anything"),
        "the original Depth Anything V1",
        "use the same model in transformers layout: the directories whose names end in -hf",
    ),
    (("vggt",), "VGGT", _BESIDE),
    (("unidepth",), "UniDepth", _BESIDE),
    (("moge",), "MoGe", _BESIDE),
    (("depth_pro.pt",), "the original Depth Pro", "use the directory DepthPro-hf"),
    (("metric3d",), "Metric3D", _BESIDE),
)


def read_config(model_dir: str) -> dict[str, Any]:
    """Return config.json of a model directory that transformers can open as a depth model.

    Raises ValueError that names what is there instead, and the way out.
    """
    folder = Path(model_dir)
    file = folder / "config.json"
    if not folder.exists():
        raise ValueError(f"depth: {model_dir!r} has no config.json, and does not exist; correct depth.model")
    config: Any = None
    if file.is_file():
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"depth: {file} is no JSON ({error}); fetch the model again") from None
    if isinstance(config, dict) and config.get("model_type") in FAMILIES:
        _refuse_pickles(folder)
        return config
    if isinstance(config, dict) and config.get("model_type") == "prompt_depth_anything":
        raise ValueError(
            f"depth: {model_dir!r} holds Prompt Depth Anything, which completes the depth of a sensor; clips"
            f" have none: use Depth Anything V2, or {_BESIDE}"
        )
    name, way_out = _recognised(folder, config)
    if name:
        raise ValueError(f"depth: {model_dir!r} holds {name}, which is not read; {way_out}")
    if isinstance(config, dict) and "model_type" in config:
        return config
    raise ValueError(
        f"depth: {model_dir!r} is neither a transformers model directory (no config.json with a model_type)"
        f" nor a diffusers one (no model_index.json); set depth.model to one of {KNOWN}, or {_BESIDE}"
    )


def _recognised(folder: Path, config: Any) -> tuple[str, str]:
    files = [folder] if folder.is_file() else sorted(folder.iterdir())
    names = [folder.name, *(file.name for file in files), json.dumps(config or {})]
    if isinstance(config, dict) and {"embed_dim", "img_size", "patch_size"} == config.keys():
        names.append("vggt")
    text = "\n".join(names).lower()
    for words, name, way_out in _OTHERS:
        if any(word in text for word in words):
            return name, way_out
    if folder.is_file():
        return "one file", "name a directory: " + KNOWN
    return "", ""


def _refuse_pickles(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        raise ValueError(
            f"depth: {folder} holds weights as pickle (.bin) alone, which are not read; fetch the model's"
            " safetensors, or convert it once with from_pretrained and save_pretrained of transformers"
        )
