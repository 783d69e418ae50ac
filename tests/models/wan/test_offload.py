"""A base whose blocks take turns computes what one does that stays where it is, bit for bit."""

import pytest
import torch
from support.adapters import random_pairs, write

from recapture.models.wan import adapter_apply
from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_file import open_adapter
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.offload import is_offloaded, layers_open, offload, take_off
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text

CPU = torch.device("cpu")


def transformers(base):
    return {
        name: one
        for name, one in (("transformer", base.transformer), ("transformer_2", base.transformer_2))
        if one is not None
    }


def sampled(base, clip):
    """Latents of three guided steps, with both transformers where there are two."""
    return sample(
        base,
        condition(base, *clip),
        encode_text(base, "a red box", ""),
        scheduler=make_scheduler("euler", 3.0),
        steps=3,
        generator=torch.Generator().manual_seed(0),
        guidance_scale=4.0,
    )


def all_in_turns(base):
    for transformer in transformers(base).values():
        offload(transformer, CPU)
    offload(base.text_encoder.encoder, CPU, outside=False)


@pytest.mark.parametrize("layout", ["inpaint", "i2v", "vace", "wan22"])
def test_blocks_in_turns_sample_the_same_bits(folders, clip, layout):
    resident, in_turns = load_base(folders[layout]), load_base(folders[layout])
    all_in_turns(in_turns)
    assert all(is_offloaded(one) for one in transformers(in_turns).values())
    assert in_turns.device == CPU and in_turns.dtype == resident.dtype
    assert torch.equal(sampled(in_turns, clip), sampled(resident, clip))
    assert torch.equal(sampled(in_turns, clip), sampled(resident, clip))  # the order of blocks is known now


def test_adapters_come_and_go_while_blocks_take_turns(folders, clip, tmp_path):
    resident, in_turns = load_base(folders["inpaint"]), load_base(folders["inpaint"])
    bare = sampled(resident, clip)
    all_in_turns(in_turns)
    applied = [AppliedAdapters(transformers(base)) for base in (resident, in_turns)]
    for seed in (1, 2):  # one replaces the other, as with an adapter for each clip
        pairs = random_pairs(resident.transformer, ["attn1", "proj_out"], seed=seed)
        tensors = {f"{pair.module}.lora_A.weight": pair.down for pair in pairs}
        tensors |= {f"{pair.module}.lora_B.weight": pair.up for pair in pairs}
        file = open_adapter(write(tmp_path / f"{seed}.safetensors", tensors))
        for adapters in applied:
            adapters.put([Wanted(file, 1.0)])
        assert is_offloaded(in_turns.transformer)
        adapted = sampled(resident, clip)
        assert not torch.equal(adapted, bare)
        assert torch.equal(sampled(in_turns, clip), adapted)
    for adapters in applied:
        adapters.remove()
    assert torch.equal(sampled(in_turns, clip), bare)


def test_layers_are_added_and_removed_while_offloading_is_off(folders, tmp_path, monkeypatch):
    base, seen = load_base(folders["inpaint"]), []
    offload(base.transformer, CPU)
    plain = adapter_apply.add_layers

    def watched(transformer, *given):
        seen.append(is_offloaded(transformer))
        return plain(transformer, *given)

    monkeypatch.setattr(adapter_apply, "add_layers", watched)
    pairs = random_pairs(base.transformer, ["attn1"], seed=1)
    tensors = {f"{pair.module}.lora_A.weight": pair.down for pair in pairs}
    tensors |= {f"{pair.module}.lora_B.weight": pair.up for pair in pairs}
    file = open_adapter(write(tmp_path / "adapter.safetensors", tensors))
    AppliedAdapters(transformers(base)).put([Wanted(file, 1.0)])
    assert seen == [False] and is_offloaded(base.transformer)


def test_a_pass_that_failed_half_way_leaves_no_trace(folders, clip):
    base = load_base(folders["inpaint"])
    expected = sampled(base, clip)
    all_in_turns(base)

    def fail(module, given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    broken = base.transformer.blocks[1].attn1.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        sampled(base, clip)
    broken.remove()
    assert torch.equal(sampled(base, clip), expected)


def test_taken_off_it_is_the_plain_model(folders, clip):
    base = load_base(folders["vace"])
    expected = sampled(base, clip)
    hooked = len(base.transformer.state_dict())
    offload(base.transformer, CPU)
    with layers_open(base.transformer):
        assert not is_offloaded(base.transformer)
    assert is_offloaded(base.transformer)
    take_off(base.transformer)
    assert not is_offloaded(base.transformer) and len(base.transformer.state_dict()) == hooked
    assert torch.equal(sampled(base, clip), expected)
