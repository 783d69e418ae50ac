"""Adapters of chosen heads against layers that are really split by heads, and against the stock loader."""

import pytest
import torch
from diffusers import WanPipeline

from recapture.models.wan.adapter_file import open_adapter
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.head_masks import (
    head_masks,
    heads_note,
    heads_of_note,
    self_attention,
    zero_outside,
)
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import (
    adapter_parameters,
    adapter_weights,
    add_lora,
    load_adapter,
    set_scales,
    set_weights,
)
from recapture.models.wan.schedulers import make_scheduler

HEADS = torch.tensor([[True, False], [False, True]])  # 2 blocks of 2 heads of 12
EVERY = "q,k,v,o"


def run(transformer, seed=5):
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2, transformer.config.in_channels, 3, 4, 6, generator=random)
    text = torch.randn(2, 16, transformer.config.text_dim, generator=random)
    with torch.no_grad():
        return transformer(inputs, torch.tensor([300.0, 800.0]), text).sample


def add(base, name, heads=None, *, rank=3, projections=EVERY, seed=1):
    """Add an adapter of these heads, all of whose free weights are random."""
    add_lora(base.transformer, rank=rank, targets=self_attention(projections), name=name)
    random = torch.Generator().manual_seed(seed)
    drawn = {
        key: torch.randn(p.shape, generator=random) * 0.3
        for key, p in adapter_parameters(base.transformer, name).items()
    }
    set_weights(base.transformer, drawn, name)
    if heads is not None:
        zero_outside(base.transformer, head_masks(base.transformer, heads, name), name)


def changes(base, name):
    """Return B A of every layer."""
    weights = adapter_weights(base.transformer, name)
    return {
        key.removesuffix(".lora_A.weight"): weights[key.replace("lora_A", "lora_B")] @ weights[key]
        for key in weights
        if ".lora_A." in key
    }


@pytest.mark.parametrize("projections", ["q,k", "q,k,v", EVERY])
def test_the_targets_are_those_of_self_attention_alone(folders, projections):
    base = load_base(folders["t2v"])
    add(base, "temporal", HEADS, projections=projections)
    wanted = {{"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}[one] for one in projections.split(",")}
    layers = {key.split(".lora_")[0] for key in adapter_parameters(base.transformer, "temporal")}
    assert layers == {f"blocks.{n}.attn1.{one}" for n in range(2) for one in wanted}


def test_the_change_of_other_heads_is_exactly_zero(folders):
    base = load_base(folders["t2v"])
    add(base, "temporal", HEADS)
    for layer, change in changes(base, "temporal").items():
        rows = HEADS[int(layer.split(".")[1])].repeat_interleave(12)
        change = change.T if layer.endswith("to_out.0") else change
        assert not change[~rows].any() and (change[rows].abs().amax(1) > 0).all()


def test_two_adapters_of_complementary_heads_are_linears_that_are_really_split(folders):
    base = load_base(folders["t2v"])
    add(base, "spatial", ~HEADS, seed=1)
    add(base, "temporal", HEADS, seed=2)
    set_scales(base.transformer, {"spatial": 1.0, "temporal": 1.0})
    whole = run(base.transformer)
    both = [adapter_weights(base.transformer, name) for name in ("spatial", "temporal")]
    split = load_base(folders["t2v"])
    for number, block in enumerate(split.transformer.blocks):
        for module in ("to_q", "to_k", "to_v"):
            setattr(block.attn1, module, SplitRows(getattr(block.attn1, module), both, HEADS, number, module))
        block.attn1.to_out[0] = SplitColumns(block.attn1.to_out[0], both, HEADS, number)
    torch.testing.assert_close(whole, run(split.transformer), rtol=0, atol=1e-6 * float(whole.abs().max()))
    assert (whole - run(load_base(folders["t2v"]).transformer)).abs().max() > 0.01


class SplitRows(torch.nn.Module):
    """Two linears with LoRA, of the spatial and of the temporal heads, whose outputs are woven together."""

    def __init__(self, layer, both, heads, block, module):
        super().__init__()
        self.rows = [own.repeat_interleave(12) for own in (~heads[block], heads[block])]
        path = f"blocks.{block}.attn1.{module}.lora_"
        self.parts = [
            (layer.weight[own], layer.bias[own], one[path + "A.weight"], one[path + "B.weight"][own])
            for own, one in zip(self.rows, both)
        ]

    def forward(self, x):
        out = x.new_zeros(*x.shape[:-1], 24)
        for own, (weight, bias, down, up) in zip(self.rows, self.parts):
            out[..., own] = x @ weight.T + bias + x @ down.T @ up.T
        return out


class SplitColumns(SplitRows):
    """Two linears with LoRA that each take the outputs of their own heads, and whose sum is the output."""

    def __init__(self, layer, both, heads, block):
        torch.nn.Module.__init__(self)
        self.bias, path = layer.bias, f"blocks.{block}.attn1.to_out.0.lora_"
        self.rows = [own.repeat_interleave(12) for own in (~heads[block], heads[block])]
        self.parts = [
            (layer.weight[:, own], one[path + "A.weight"][:, own], one[path + "B.weight"])
            for own, one in zip(self.rows, both)
        ]

    def forward(self, x):
        out = self.bias
        for own, (weight, down, up) in zip(self.rows, self.parts):
            out = out + x[..., own] @ weight.T + x[..., own] @ down.T @ up.T
        return out


def test_three_adapters_add_up_to_the_dense_change_at_their_scales(folders):
    base = load_base(folders["t2v"])
    add(base, "spatial", ~HEADS, seed=1)
    add(base, "temporal", HEADS, seed=2)
    add_lora(base.transformer, rank=2, name="default")  # as `recapture train` makes it: other layers too
    random = torch.Generator().manual_seed(3)
    drawn = {
        key: torch.randn(p.shape, generator=random) * 0.2
        for key, p in adapter_parameters(base.transformer).items()
    }
    set_weights(base.transformer, drawn)
    scales = {"spatial": 0.5, "temporal": 1.3, "default": 0.7}
    set_scales(base.transformer, scales)
    dense = load_base(folders["t2v"]).transformer
    with torch.no_grad():
        for name, scale in scales.items():
            for layer, change in changes(base, name).items():
                dense.get_submodule(layer).weight += scale * change
    torch.testing.assert_close(run(base.transformer), run(dense), rtol=1e-4, atol=1e-5)
    set_scales(base.transformer, {"temporal": 0.0})  # the others are off, too
    torch.testing.assert_close(
        run(base.transformer), run(load_base(folders["t2v"]).transformer), rtol=0, atol=1e-6
    )


def test_the_stock_loader_takes_the_file_and_its_notes_name_the_heads(folders, tmp_path):
    base = load_base(folders["t2v"])
    add(base, "temporal", HEADS)
    path = save_adapter(tmp_path, base.transformer, name="temporal", notes={"heads": heads_note(HEADS)})
    expected = run(base.transformer)
    assert torch.equal(heads_of_note(open_adapter(path).notes["heads"]), HEADS)
    stock = load_base(folders["t2v"])
    parts = {name: getattr(stock, name) for name in ("tokenizer", "text_encoder", "vae", "transformer")}
    pipeline = WanPipeline(scheduler=make_scheduler("euler", 3.0), **parts)
    pipeline.load_lora_weights(str(tmp_path), adapter_name="motion")
    torch.testing.assert_close(run(pipeline.transformer), expected, rtol=0, atol=1e-5)
    ours = load_base(folders["t2v"])
    load_adapter(ours.transformer, path, name="spatial")
    torch.testing.assert_close(run(ours.transformer), expected, rtol=0, atol=1e-6)
    masks = head_masks(ours.transformer, HEADS, "spatial")
    kept = adapter_weights(ours.transformer, "spatial")
    assert not any(kept[key][~free].any() for key, free in masks.items())


def test_heads_of_another_base_and_other_layers_are_refused(folders):
    base = load_base(folders["t2v"])
    add_lora(base.transformer, rank=2, name="all")
    with pytest.raises(ValueError, match="is no projection of self-attention"):
        head_masks(base.transformer, HEADS, "all")
    for wrong in (HEADS[:1], HEADS.float()):
        with pytest.raises(ValueError, match="2 blocks with 2 heads"):
            head_masks(base.transformer, wrong, "all")
