"""Tiny random twins of SAM 2 and SAM 3 for video, in directories laid out as the published ones."""

import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from recapture.models.selection.sam import _without_torchvision

SIDE, WIDE = 64, 112  # of what SAM 2 and SAM 3 see
PREPROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    "resample": 2,
    "rescale_factor": 1 / 255,
}
DECODER = {"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
MEMORY = {
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32,
    "memory_fuser_num_layers": 1,
    "image_size": SIDE,
}


def save(folder, family):
    """Save a tiny random model of masks; returns the folder's path."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    _FAMILIES[family](folder).eval().save_pretrained(folder)
    side = WIDE if family == "sam3_video" else SIDE
    stated = {**PREPROCESSOR, "size": {"height": side, "width": side}}
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).write_text(json.dumps(stated))
    return str(folder)


def _sam2(folder):
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "window_size_per_stage": [8, 4, 4, 2],
        "window_positional_embedding_background_size": [2, 2],
        "global_attention_blocks": [3],
        "image_size": [SIDE, SIDE],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[SIDE // 4, SIDE // 4], [SIDE // 8, SIDE // 8], [SIDE // 16, SIDE // 16]],
        "fpn_hidden_size": 128,
    }
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config=DECODER,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        **MEMORY,
    )
    return transformers.Sam2VideoModel(config)


def _sam3(folder):
    """Detector and tracker of one directory, as facebook/sam3 has them; its words are bytes."""
    alphabet = {
        character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.save_pretrained(folder)
    small = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": WIDE,
        "pretrain_image_size": WIDE,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    sizes = [[4 * WIDE // 14] * 2, [2 * WIDE // 14] * 2, [WIDE // 14] * 2]
    vision = {"model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 128}
    vision["backbone_feature_sizes"] = sizes
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "projection_dim": 32}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": {"model_type": "clip_text_model", **text},
        "geometry_encoder_config": {**small, "num_layers": 1},
        "detr_encoder_config": {**small, "num_layers": 1},
        "detr_decoder_config": {**small, "num_layers": 1, "num_queries": 4},
        "mask_decoder_config": {"hidden_size": 128, "num_attention_heads": 2},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": WIDE, "mask_input_channels": 4},
        "mask_decoder_config": DECODER,
        **MEMORY,
        "image_size": WIDE,
    }
    config = transformers.Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=4 * WIDE // 14,
        score_threshold_detection=0.0,
        new_det_thresh=0.0,
    )
    _without_torchvision()
    return transformers.Sam3VideoModel(config)


_FAMILIES = {"sam2_video": _sam2, "sam3_video": _sam3}
FAMILIES = tuple(_FAMILIES)
