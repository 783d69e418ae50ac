"""Faster ways to sample against the plain ones; settings that a device does not have; compilers that fail."""

import fcntl
import logging
import os
from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from recapture.conf.speed import SpeedConfig
from recapture.models.wan import compiled
from recapture.models.wan.compiled import Compiler, turn
from recapture.models.wan.conditioning import condition
from recapture.models.wan.fused_layers import FusedAttention, linear_gelu
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import adapter_parameters, add_lora, train_only
from recapture.models.wan.norm_rotate import norm_rotate, normed_and_rotated
from recapture.models.wan.packing import pack
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.speed import speed_up, speed_up_base
from recapture.models.wan.text import encode_text

BACKEND = "aot_eager_decomp_partition"  # what inductor is given, without a compiler of C++
LAYOUTS = ["t2v", "inpaint", "i2v", "vace"]


def inputs(base, dtype=torch.float64):
    """Inputs for two samples at once, as both branches of guidance are."""
    config, random = base.transformer.config, torch.Generator().manual_seed(3)

    def drawn(*shape):
        return torch.randn(2, *shape, generator=random).to(dtype)

    tokens = 512 if config.image_dim else 16
    given = {
        "hidden_states": drawn(config.in_channels, 3, 4, 6),
        "encoder_hidden_states": drawn(tokens, config.text_dim),
        "timestep": torch.tensor([300.0, 300.0], dtype=dtype),
    }
    if config.image_dim:
        given["encoder_hidden_states_image"] = drawn(257, config.image_dim)
    if base.layout == "vace":
        given["control_hidden_states"] = drawn(config.vace_in_channels, 3, 4, 6)
    return given


@torch.no_grad()
def velocity(base, dtype=torch.float64):
    return base.transformer(**inputs(base, dtype), return_dict=False)[0].double()


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def gradients(transformer):
    config, random = transformer.config, torch.Generator().manual_seed(3)
    given = torch.randn(1, config.in_channels, 3, 4, 6, generator=random)
    text = torch.randn(1, 16, config.text_dim, generator=random)
    output = transformer(given, torch.tensor([300.0]), text).sample
    return [output, *torch.autograd.grad(output.square().sum(), train_only(transformer).values())]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("budget", [1.0, 0.3])
def test_compiled_blocks_compute_the_same(folders, budget, fused):
    base = load_base(folders["inpaint"])
    add_lora(base.transformer, rank=2)
    plain = gradients(base.transformer)
    speed_up(base.transformer, fused=fused, compiler=Compiler("it", BACKEND), activation_budget=budget)
    for found, expected in zip(gradients(base.transformer), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_layers_compute_the_same_in_float64(folders, layout):
    base = load_base(folders[layout])
    base.transformer.double()
    plain = velocity(base)
    speed_up(base.transformer, fused=True)
    assert error(velocity(base), plain) < 1e-12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_fused_layers_compute_the_same(folders, layout):
    base = load_base(folders[layout])
    base.transformer.double()
    plain = velocity(base)
    speed_up(base.transformer, fused=True, compiler=Compiler("it", BACKEND))
    assert error(velocity(base), plain) < 1e-6  # the norms' float32, in another order
    found = {type(block) for block in base.transformer.modules() if block._compiled_call_impl}
    assert {one.__name__ for one in found} == set(base.transformer._repeated_blocks)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_layers_in_bfloat16_are_no_further_from_float32_than_the_plain_ones(folders, layout):
    exact = velocity(load_base(folders[layout]), torch.float32)
    base = load_base(folders[layout], dtype=torch.bfloat16)
    plain = error(velocity(base, torch.bfloat16), exact)
    speed_up(base.transformer, fused=True)
    assert error(velocity(base, torch.bfloat16), exact) <= 1.1 * plain


def test_adapters_on_fused_layers_count(folders):
    plain, fused = (load_base(folders["inpaint"]) for _ in range(2))
    speed_up(fused.transformer, fused=True)
    for base in (plain, fused):
        base.transformer.double()
        bare = velocity(base)
        add_lora(base.transformer, rank=2)
        random = torch.Generator().manual_seed(1)
        for parameter in adapter_parameters(base.transformer).values():
            parameter.data = torch.randn(parameter.shape, generator=random).double()
    assert error(velocity(plain), bare) > 0.1
    assert error(velocity(fused), velocity(plain)) < 1e-12


def test_the_chosen_attention_stays_with_fused_layers(folders):
    transformer = load_base(folders["t2v"]).transformer
    speed_up(transformer, fused=True)
    processors = [one.processor for one in transformer.modules() if hasattr(one, "processor")]
    assert processors and all(isinstance(one, FusedAttention) for one in processors)
    assert {one._attention_backend for one in processors} == {"native"}
    assert isinstance(processors[0], WanAttnProcessor)


def test_the_operations_of_fused_layers_are_what_they_replace():
    random = torch.Generator().manual_seed(0)
    source = torch.randn(2, 5, 3 * 24, generator=random).double()[:, :, 24:48]  # strides of a joined tensor
    weight = torch.randn(24, generator=random).double()
    angle = torch.rand(1, 5, 1, 6, generator=random).double().repeat_interleave(2, -1)
    found = norm_rotate(source, weight, 1e-6, angle.cos(), angle.sin())
    root = (source.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    pairs = torch.view_as_complex((source / root * weight).view(2, 5, 2, 6, 2).contiguous())
    turned = torch.view_as_real(pairs * torch.exp(1j * angle[..., 0::2])).flatten(-2)
    torch.testing.assert_close(found, turned)
    torch.testing.assert_close(normed_and_rotated(source, weight, 1e-6, angle.cos(), angle.sin()), turned)
    matrix, bias = torch.randn(7, 24, generator=random).double(), torch.randn(7, generator=random).double()
    x = source @ matrix.T + bias
    tanh = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(linear_gelu(source, matrix, bias), tanh)
    for operation, given in (
        (torch.ops.recapture.norm_rotate, (source, weight, 1e-6, angle.cos(), angle.sin())),
        (torch.ops.recapture.linear_gelu, (source, matrix, bias)),
    ):
        torch.library.opcheck(operation, given, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["t2v", "inpaint", "i2v", "vace", "wan22", "ti2v"])
def test_both_branches_of_guidance_as_one_batch_sample_the_same(folders, clip, name, packed):
    base = load_base(folders["t2v" if name == "ti2v" else name])
    base = replace(base, expand_timesteps=name == "ti2v")
    calls = []
    for transformer in filter(None, (base.transformer, base.transformer_2)):
        transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    given = condition(base, *clip)
    if packed:
        random = torch.Generator().manual_seed(5)
        given = pack(base, given, torch.rand(2, 3, 32, 48, generator=random), (2, 7), generator=random)

    def run(base):
        calls.clear()
        return sample(
            base,
            given,
            encode_text(base, "a red ball", "slowly"),
            scheduler=make_scheduler("euler", 3.0),
            steps=4,
            generator=torch.Generator().manual_seed(9),
            guidance_scale=3.0,
        ), len(calls)

    (apart, twice), (together, once) = run(base), run(replace(base, guidance_batched=True))
    assert (twice, once) == (8, 4)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_a_compiler_that_fails_is_named_once_and_nothing_is_lost(folders, caplog):
    def broken(graph, example):
        raise RuntimeError("no C++ compiler found\nand a hundred lines more")

    base = load_base(folders["t2v"])
    base.transformer.double()
    plain = velocity(base)
    compiler = Compiler("the transformer", broken)
    speed_up(base.transformer, compiler=compiler)
    with caplog.at_level(logging.WARNING, compiled.__name__):
        for _ in range(2):
            assert torch.equal(velocity(base), plain)
    said = [one.message for one in caplog.records if one.name == compiled.__name__]
    assert compiler.failed and len(said) == 1
    assert "the transformer cannot be compiled here and runs uncompiled, slower" in said[0]
    assert "set fill.speed.compile_blocks false" in said[0] and "\n" not in said[0]


def test_what_is_wrong_with_the_input_is_not_taken_for_a_compilers_failure(folders, caplog):
    base = load_base(folders["t2v"])
    compiler = Compiler("the transformer", BACKEND)
    speed_up(base.transformer, compiler=compiler)
    given = inputs(base, torch.float32)
    given["encoder_hidden_states"] = given["encoder_hidden_states"][..., 1:]  # of another encoder
    with pytest.raises(RuntimeError), torch.no_grad():
        base.transformer(**given)
    assert not compiler.failed
    assert not [one for one in caplog.records if one.name == compiled.__name__]


def test_lack_of_memory_is_not_taken_for_a_compilers_failure():
    compiler = Compiler("it", _out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        compiler(torch.relu)(torch.ones(1))
    assert not compiler.failed


def _out_of_memory(graph, example):
    def run(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    return run


def test_one_process_of_a_machine_compiles_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    waits = []

    def other_worker_is_ready(seconds):
        waits.append(seconds)
        other.close()

    monkeypatch.setattr(compiled.time, "sleep", other_worker_is_ready)
    other = (tmp_path / "recapture.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    with turn():
        assert len(waits) == 1
        with open(tmp_path / "recapture.lock") as third, pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with turn():
        assert len(waits) == 1


def test_a_base_is_made_fast_as_the_settings_say(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    base = load_base(folders["wan22"])
    assert speed_up_base(base, SpeedConfig()) == base
    assert isinstance(base.transformer.blocks[0].attn1.processor, WanAttnProcessor)
    settings = SpeedConfig(
        compile_blocks=True,
        compile_cache=str(tmp_path / "cache"),
        fused_layers=True,
        batched_guidance=True,
        merged_adapters=True,
        chunked_vae=True,
    )
    fast = speed_up_base(base, settings)
    assert fast.guidance_batched and fast.adapters_merged
    for transformer in (fast.transformer, fast.transformer_2):
        assert isinstance(transformer.blocks[0].attn1.processor, FusedAttention)
        assert transformer.blocks[0]._compiled_call_impl is not None
    assert "_decode" in vars(fast.vae)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "cudnn"}, "runs on CUDA, not on cpu"),
        ({"attention": "sage"}, "use one of native, cudnn, flash"),
        ({"activation_budget": 1.5}, "use 0 to 1"),
        ({"activation_budget": 0.5}, "compile them"),
    ],
)
def test_settings_that_cannot_be_are_refused(folders, settings, message):
    with pytest.raises(ValueError, match=message):
        speed_up(load_base(folders["t2v"]).transformer, **settings)
