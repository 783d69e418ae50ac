"""Names of modules against the library's own renaming of checkpoints."""

import pytest
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from support import tiny_base as tiny

from recapture.models.wan.adapter_names import MODULATION, modulation_name, module_name, original_name


@pytest.mark.parametrize("kind", ["t2v", "inpaint", "vace"])
def test_names_of_all_modules_agree_with_diffusers_renaming_of_checkpoints(kind):
    image = {"image_dim": 24, "added_kv_proj_dim": 24} if kind == "inpaint" else {}
    transformer = tiny.tiny_transformer(kind, **image)
    for parameter in dict(transformer.named_parameters()):
        module = parameter.rpartition(".")[0]
        if MODULATION in parameter:
            continue
        wan = original_name(module)
        ending = parameter.removeprefix(module)
        (converted,) = convert_wan_transformer_to_diffusers({wan + ending: None})
        assert converted == parameter
        for spelt in (wan, module, wan.replace(".", "_"), module.replace(".", "_")):
            assert module_name(spelt) == module


def test_the_modulation_of_blocks_and_of_the_head_are_their_tables():
    assert modulation_name("blocks.3") == modulation_name("blocks.3.modulation") == f"blocks.3.{MODULATION}"
    assert modulation_name("head") == modulation_name("head.modulation") == MODULATION
    assert modulation_name("blocks.3.self_attn") is None


@pytest.mark.parametrize(
    "other", ["blocks.0.self_attn", "double_blocks.0.img_attn.qkv", "blocks.x.ffn.0", "", "head"]
)
def test_what_is_no_module_of_wan_has_no_name(other):
    assert module_name(other) is None
