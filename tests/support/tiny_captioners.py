"""Tiny random captioners of every family that is read, in directories laid out as the published ones.

The tokenizers are byte-level BPE without merges, with the published special tokens: any answer is text.
"""

import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
QWEN += ["<|image_pad|>", "<|video_pad|>"]
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<global-img>"]
SMOL += ["<end_of_utterance>", *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5))]
SMOL_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
BART = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>", *(f"<loc_{n}>" for n in range(4))]


def save(folder, family):
    """Save a tiny random captioner; returns the folder's path."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model = _FAMILIES[family](folder).eval()
    model.save_pretrained(folder)
    return str(folder)


def _tokenizer(folder, special, **settings):
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json; returns token -> id."""
    alphabet = {
        character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _write(folder, name, stated):
    (folder / name).write_text(json.dumps(stated))


def _qwen2(folder, kind, config, settings, vision):
    tokenizer = _tokenizer(
        folder, QWEN, pad_token="<|endoftext|>", eos_token="<|im_end|>", additional_special_tokens=QWEN[3:]
    )
    _write(folder, "chat_template.json", {"chat_template": QWEN_TEMPLATE})
    _write(
        folder,
        "preprocessor_config.json",
        {
            "min_pixels": 28 * 28 * 4,
            "max_pixels": 28 * 28 * 16,
            "patch_size": vision.get("patch_size", 14),
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": f"{kind}Processor",
        },
    )
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    ids |= {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **settings,
    }
    whole = getattr(transformers, f"{config}Config")(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=False,
    )
    return getattr(transformers, f"{config}ForConditionalGeneration")(whole)


def _qwen2_vl(folder):
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}}
    vision = {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": 32,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 14,
    }
    return _qwen2(folder, "Qwen2VL", "Qwen2VL", rope, vision)


def _qwen2_5_vl(folder):
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}}
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32}
    vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [0]}
    return _qwen2(folder, "Qwen2_5_VL", "Qwen2_5_VL", rope, vision)


def _qwen3_vl(folder):
    rope = {"head_dim": 16}
    rope["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32}
    vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return _qwen2(folder, "Qwen3VL", "Qwen3VL", rope, vision)


def _idefics3_kind(folder, kind):
    tokenizer = _tokenizer(
        folder, SMOL, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>"
    )
    _write(folder, "chat_template.json", {"chat_template": SMOL_TEMPLATE})
    _write(folder, "processor_config.json", {"image_seq_len": 4, "processor_class": f"{kind}Processor"})
    _write(
        folder,
        "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_image_splitting": False,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "image_processor_type": f"{kind}ImageProcessor",
            "max_image_size": {"longest_edge": 32},
            "size": {"longest_edge": 64},
            "resample": 1,
            "rescale_factor": 1 / 255,
            "processor_class": f"{kind}Processor",
        },
    )
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = getattr(transformers, f"{kind}Config")(
        text_config=text,
        vision_config=vision,
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)


def _blip(folder):
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    tokenizer = _tokenizer(
        folder,
        bert,
        bos_token="[DEC]",
        eos_token="[SEP]",
        sep_token="[SEP]",
        cls_token="[CLS]",
        pad_token="[PAD]",
        unk_token="[UNK]",
    )
    _write(
        folder,
        "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_resize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_processor_type": "BlipImageProcessor",
            "processor_class": "BlipProcessor",
            "size": {"height": 32, "width": 32},
        },
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "is_decoder": True,
    }
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    return transformers.BlipForConditionalGeneration(config)


def _florence2(folder):
    tokenizer = _tokenizer(
        folder,
        BART,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        extra_special_tokens={"image_token": "<image>"},
    )
    _write(
        folder,
        "preprocessor_config.json",
        {
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_center_crop": False,
            "image_mean": IMAGENET_MEAN,
            "image_std": IMAGENET_STD,
            "image_processor_type": "CLIPImageProcessor",
            "image_seq_length": 5,
            "processor_class": "Florence2Processor",
            "resample": 3,
            "size": {"height": 64, "width": 64},
            "crop_size": {"height": 64, "width": 64},
        },
    )
    _write(folder, "processor_config.json", {"processor_class": "Florence2Processor"})
    vision = {
        "depths": [1, 1, 1, 1],
        "patch_size": [7, 3, 3, 3],
        "patch_stride": [4, 2, 2, 2],
        "patch_padding": [3, 1, 1, 1],
        "embed_dim": [8, 8, 8, 8],
        "num_heads": [1, 1, 1, 1],
        "num_groups": [1, 1, 1, 1],
        "window_size": 4,
        "projection_dim": 32,
        "max_temporal_embeddings": 1,
        "max_position_embeddings": 4,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
    }
    config = transformers.Florence2Config(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return transformers.Florence2ForConditionalGeneration(config)


_FAMILIES = {
    "blip": _blip,
    "florence2": _florence2,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": lambda folder: _idefics3_kind(folder, "SmolVLM"),
    "idefics3": lambda folder: _idefics3_kind(folder, "Idefics3"),
}
FAMILIES = tuple(_FAMILIES)
