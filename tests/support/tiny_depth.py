"""Tiny random depth models of every family, in directories laid out as the published ones."""

import json

import torch
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DepthProConfig,
    DepthProForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
# preprocessor_config.json as published, with smaller sides
PREPROCESSORS = {
    "depth_anything": {
        **STEPS,
        **IMAGENET,
        "image_processor_type": "DPTImageProcessor",
        "do_pad": False,
        "size": {"height": 56, "width": 56},
        "ensure_multiple_of": 14,
        "keep_aspect_ratio": True,
        "resample": 3,
        "size_divisor": None,
    },
    "dpt": {
        **STEPS,
        **HALF,
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 64, "width": 64},
        "ensure_multiple_of": 1,
        "keep_aspect_ratio": False,
        "resample": 2,
    },
    "dpt_old": {
        "feature_extractor_type": "DPTFeatureExtractor",
        **HALF,
        "do_normalize": True,
        "do_resize": True,
        "ensure_multiple_of": 1,
        "keep_aspect_ratio": False,
        "resample": 2,
        "size": 64,
    },
    "dpt_beit": {
        **STEPS,
        **HALF,
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 64, "width": 64},
        "ensure_multiple_of": 32,
        "keep_aspect_ratio": True,
        "resample": 3,
    },
    "dpt_dinov2": {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": False,
        "do_rescale": False,
        "do_normalize": True,
        "do_pad": True,
        "size_divisor": 14,
        "image_mean": [123.675, 116.28, 103.53],
        "image_std": [58.395, 57.12, 57.375],
    },
    "glpn": {
        "do_rescale": True,
        "do_resize": True,
        "feature_extractor_type": "GLPNFeatureExtractor",
        "resample": 2,
        "size_divisor": 32,
    },
    "zoedepth": {
        **STEPS,
        **HALF,
        "image_processor_type": "ZoeDepthImageProcessor",
        "do_pad": True,
        "ensure_multiple_of": 32,
        "keep_aspect_ratio": True,
        "resample": 2,
        "size": {"height": 64, "width": 96},
    },
    "depth_pro": {
        **STEPS,
        **HALF,
        "image_processor_type": "DepthProImageProcessorFast",
        "size": {"height": 96, "width": 96},
        "resample": 2,
    },
}


def save(folder, family, preprocessor=None, **settings):
    """Save a tiny random model of a family; settings: of its configuration. Returns the folder's path."""
    torch.manual_seed(0)
    model = _MODELS[family](**settings).eval()
    with torch.no_grad():  # the models' own initial weights are so small that depth is flat
        for name, tensor in model.named_parameters():
            if tensor.dim() > 1 and "position" not in name:
                tensor.normal_(std=1.5 * tensor[0].numel() ** -0.5)
            elif "head" in name and name.endswith("bias"):
                tensor.add_(0.5)  # not clipped by the last ReLU
    model.save_pretrained(folder)
    stated = PREPROCESSORS[preprocessor or family]
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return str(folder)


def _dinov2(**more):
    return Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        **more,
    )


def _depth_anything(**settings):
    backbone = _dinov2(image_size=56, patch_size=14, apply_layernorm=True)
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=32,
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            head_hidden_size=8,
            patch_size=14,
            **settings,
        )
    )


def _dpt(**settings):
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    return DPTForDepthEstimation(
        DPTConfig(
            **sizes,
            image_size=64,
            patch_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            is_hybrid=False,
            **settings,
        )
    )


def _dpt_beit(**settings):
    return DPTForDepthEstimation(
        DPTConfig(backbone_config=_beit(), neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, **settings)
    )


def _dpt_dinov2(**settings):
    backbone = _dinov2(image_size=56, patch_size=14, apply_layernorm=False)
    return DPTForDepthEstimation(
        DPTConfig(
            backbone_config=backbone,
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=256,  # what the class's projection has, whatever the configuration says
            use_bias_in_fusion_residual=False,
            add_projection=True,
            **settings,
        )
    )


def _glpn(**settings):
    return GLPNForDepthEstimation(
        GLPNConfig(
            hidden_sizes=[8, 8, 16, 16],
            decoder_hidden_size=8,
            depths=[1] * 4,
            num_attention_heads=[1, 1, 2, 2],
            **settings,
        )
    )


def _beit():
    return BeitConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _zoedepth(**settings):
    return ZoeDepthForDepthEstimation(
        ZoeDepthConfig(
            backbone_config=_beit(),
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
            bottleneck_features=8,
            num_relative_features=8,
            bin_embedding_dim=8,
            num_attractors=[4, 2, 2, 1],
            **settings,
        )
    )


def _depth_pro(**settings):
    part = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    part |= {"image_size": 24, "patch_size": 8}
    return DepthProForDepthEstimation(
        DepthProConfig(
            patch_size=24,
            scaled_images_ratios=[0.25, 0.5, 1],
            scaled_images_overlap_ratios=[0.0, 0.2, 0.2],
            scaled_images_feature_dims=[8, 8, 8],
            intermediate_hook_ids=[1, 0],
            intermediate_feature_dims=[8, 8],
            fusion_hidden_size=8,
            image_model_config=part,
            patch_model_config=part,
            fov_model_config=part,
            **settings,
        )
    )


_MODELS = {
    "depth_anything": _depth_anything,
    "dpt": _dpt,
    "dpt_beit": _dpt_beit,
    "dpt_dinov2": _dpt_dinov2,
    "glpn": _glpn,
    "zoedepth": _zoedepth,
    "depth_pro": _depth_pro,
}
