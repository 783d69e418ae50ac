"""Where a base is kept: estimates against loaded models, choices, and what is said where nothing fits."""

import gc
import logging
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recapture.models.wan import memory
from recapture.models.wan.footprint import GIB, ClipSize, Footprint, footprint, footprint_of
from recapture.models.wan.load import load_base
from recapture.models.wan.memory import MODES, DoesNotFit, Placing, choose, needed
from recapture.models.wan.offload import is_offloaded
from recapture.models.wan.sources import Named, find_sources
from recapture.models.wan.text import KEPT, StoredEncoder, embed, encode_text

WAN_14B = Footprint(
    transformers=(28 * GIB,),
    largest_block=GIB * 7 // 10,
    outside_blocks=GIB // 2,
    text_encoder=11 * GIB,
    encoder_in_turns=3 * GIB,
    vae=GIB // 2,
    image_encoder=0,
    width=5120,
    feed_forward=13824,
    number=2,
    vae_number=2,
    vae_width=96.0,
    side=16,
    time=4,
)
CLIP = ClipSize(81, 480, 832)
MUCH = 1000 * GIB


def loaded(module):
    return sum(value.nbytes for value in module.parameters())


@pytest.mark.parametrize("layout", ["t2v", "inpaint", "i2v", "vace", "wan22"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_headers_tell_the_bytes_of_what_is_loaded(folders, layout, dtype):
    found = footprint(find_sources(Named.of(folders[layout])), dtype, torch.float32)
    base = load_base(folders[layout], dtype=dtype)
    both = [one for one in (base.transformer, base.transformer_2) if one is not None]
    assert found.transformers == tuple(loaded(one) for one in both)
    blocks = [[*one.blocks, *getattr(one, "vace_blocks", ())] for one in both]
    assert found.largest_block == max(loaded(block) for own in blocks for block in own)
    outside = [loaded(one) - sum(map(loaded, own)) for one, own in zip(both, blocks)]
    assert found.outside_blocks == sum(outside)
    assert found.text_encoder == loaded(base.text_encoder)
    assert found.vae == loaded(base.vae)
    assert found.image_encoder == (0 if base.image_encoder is None else loaded(base.image_encoder))
    assert (found.side, found.time) == (base.side_multiple, base.vae.config.scale_factor_temporal)
    built = footprint_of(both, base.vae, base.text_encoder)
    assert replace(built, image_encoder=found.image_encoder) == found


@given(frames=st.integers(1, 60), height=st.integers(1, 80), width=st.integers(1, 80), more=st.integers(1, 9))
def test_a_larger_clip_never_takes_less_and_a_later_mode_never_more(frames, height, width, more):
    small = ClipSize(4 * frames + 1, 16 * height, 16 * width)
    large = ClipSize(4 * frames + 1, 16 * (height + more), 16 * width)
    for encoder in ("gpu", "host"):
        sizes = [needed(WAN_14B, small, mode, encoder, chunk=5) for mode in MODES]
        assert sizes == sorted(sizes, reverse=True)
        assert all(
            needed(WAN_14B, large, mode, encoder) >= needed(WAN_14B, small, mode, encoder) for mode in MODES
        )


@pytest.mark.parametrize(
    ("free", "host", "chosen"),
    [
        (80, 100, ("gpu", "gpu")),
        (40, 100, ("gpu", "host")),
        (40, 5, ("gpu", "files")),
        (24, 100, ("offload", "host")),
        (24, 30, ("offload", "files")),
        (16, 100, ("offload", "host")),
    ],
)
def test_auto_takes_the_first_that_fits(free, host, chosen):
    found = choose(WAN_14B, CLIP, free=free * GIB, host=host * GIB)
    assert (found.mode, found.encoder) == chosen
    assert found.needed <= free * GIB and found.host <= host * GIB


def test_a_large_chunk_of_the_vae_makes_it_lean():
    assert choose(WAN_14B, CLIP, free=12 * GIB, host=MUCH, chunk=5).mode == "lean"
    assert choose(WAN_14B, CLIP, free=12 * GIB, host=MUCH, chunk=1).mode == "offload"


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_that_is_asked_for_is_the_one_that_is_taken(mode):
    assert choose(WAN_14B, CLIP, free=MUCH, host=MUCH, wanted=mode).mode == mode


def test_what_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(DoesNotFit) as error:
        choose(WAN_14B, CLIP, free=24 * GIB, host=100 * GIB, wanted="gpu")
    least = needed(WAN_14B, CLIP, "gpu", "host") / GIB
    offloaded = needed(WAN_14B, CLIP, "offload", "host") / GIB
    assert f"fill.memory gpu: the base takes {least:.1f} GiB on the GPU for 81x480x832" in str(error.value)
    assert "24.0 GiB are free" in str(error.value)
    assert f"fill.memory offload ({offloaded:.1f} GiB)" in str(error.value)
    with pytest.raises(DoesNotFit, match=r"28\.0 GiB of the host's memory, of which 20\.0 GiB are free"):
        choose(WAN_14B, CLIP, free=24 * GIB, host=20 * GIB)
    with pytest.raises(DoesNotFit, match=r"lower ingest\.short_side or fill\.window"):
        choose(WAN_14B, CLIP, free=2 * GIB, host=MUCH)


def placed(folder, wanted, monkeypatch, free):
    """A base with all its parts resident, on a GPU with `free` bytes."""
    base = load_base(folder)
    both = [one for one in (base.transformer, base.transformer_2) if one is not None]
    found = footprint_of(both, base.vae, base.text_encoder)
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    monkeypatch.setattr(memory, "free_on_host", lambda: MUCH)
    choice = choose(found, ClipSize(9, 32, 48), free=MUCH, host=MUCH, wanted="gpu")
    base = replace(base, memory=Placing(found, choice, torch.device("cpu"), wanted))
    base.memory.put(base)
    return base


def test_a_clip_that_needs_more_moves_the_base_once_and_says_so(folders, monkeypatch, caplog):
    base = placed(folders["wan22"], "auto", monkeypatch, free=GIB)
    with caplog.at_level(logging.WARNING):
        base.memory.fit(ClipSize(9, 32, 48))
        assert base.memory.choice.mode == "gpu" and not caplog.records
        for _ in range(2):
            with pytest.raises(DoesNotFit):
                base.memory.fit(ClipSize(9, 4096, 4096))  # nothing helps against this one
        assert base.memory.choice.mode == "gpu"
    expected = encode_text(base, "a red box", None).prompt
    base.embedded.clear()
    with caplog.at_level(logging.WARNING):
        assert base.memory.step_down()
    assert [record.getMessage() for record in caplog.records] == [
        "fill.memory: offload, text encoder in the host's memory in place of gpu, text encoder on the GPU: "
        "memory ran out; blocks compiled before run uncompiled"
    ]
    assert is_offloaded(base.transformer) and is_offloaded(base.transformer_2)
    assert torch.equal(encode_text(base, "a red box", None).prompt, expected)
    assert base.memory.record == {"mode": "offload", "text_encoder": "host"}
    assert base.memory.step_down() and not base.memory.step_down()


def test_gpu_is_never_replaced_in_silence(folders, monkeypatch):
    base = placed(folders["inpaint"], "gpu", monkeypatch, free=GIB)
    with pytest.raises(DoesNotFit, match=r"fill\.memory gpu"):
        base.memory.fit(ClipSize(81, 4096, 4096))
    assert not base.memory.step_down() and base.memory.choice.mode == "gpu"


def test_a_stored_text_encoder_is_loaded_for_new_captions_alone_and_released(folders):
    base, loads = load_base(folders["inpaint"]), []

    def load():
        encoder = load_base(folders["inpaint"]).text_encoder
        loads.append(weakref.ref(encoder))
        return encoder

    stored = replace(base, text_encoder=StoredEncoder(load), embedded={})
    embed(stored, ["a red box", "a blue ball", "", "a red box"])
    for caption in ("a red box", "a blue ball"):
        found, expected = encode_text(stored, caption, ""), encode_text(base, caption, "")
        assert torch.equal(found.prompt, expected.prompt) and torch.equal(found.negative, expected.negative)
    gc.collect()
    assert len(loads) == 1 and loads[0]() is None
    encode_text(stored, "a green wall", "")
    assert len(loads) == 2


def test_embeddings_used_last_are_kept(folders):
    base = load_base(folders["inpaint"])
    first = encode_text(base, "a red box", None).prompt
    for number in range(KEPT - 1):
        encode_text(base, f"box {number}", None)
    again = encode_text(base, "a red box", None).prompt  # now the one used last
    for number in range(KEPT - 1):
        encode_text(base, f"ball {number}", None)
    assert len(base.embedded) == KEPT
    assert torch.equal(first, again) and ("a red box", base.text_length) in base.embedded
