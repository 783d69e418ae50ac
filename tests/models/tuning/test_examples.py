"""Encoded pairs against the conditioning and latents of what they show."""

from dataclasses import replace

import pytest
import torch
from support import tiny_base as tiny
from support.surface import SURFACE

from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.pairs import Move, Pair, source_pairs
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import encode_video


def test_an_example_is_what_the_base_is_given_when_it_fills_the_same_holes(folder, source):
    base = load_base(folder)
    pair = next(source_pairs(source, 3.0, [Move(20.0, 0.0, 0.0)], SURFACE))
    other = pair.visible.clone()
    other[:, :8] = False
    text = encode_text(base, "a box").prompt
    examples = encode_pair(base, pair, torch.stack([pair.visible, other]), text, share=0.5)
    for example, visible in zip(examples, (pair.visible, other)):
        given = condition(base, source.video, visible)
        assert torch.equal(example.channels, given.channels[0])
        assert torch.equal(example.clean, encode_video(base.vae, source.video))
        assert torch.equal(example.text, text[0]) and example.share == 0.25 and example.image is None


def test_the_image_branch_gets_its_tokens(tmp_path, source):
    base = load_base(tiny.write_tiny_base(tmp_path, image=True))
    pair = next(source_pairs(source, 3.0, [Move(20.0, 0.0, 0.0)], SURFACE))
    (example,) = encode_pair(base, pair, pair.visible[None], encode_text(base, "").prompt)
    assert example.image is not None and example.image.shape == (257, 24) and example.image.any()


def test_examples_can_be_kept_in_half_the_memory(folder, source):
    pair = next(source_pairs(source, 3.0, [Move(20.0, 0.0, 0.0)], SURFACE))
    base = load_base(folder)
    text = encode_text(base, "").prompt
    (half,) = encode_pair(base, pair, pair.visible[None], text, dtype=torch.bfloat16)
    (full,) = encode_pair(base, pair, pair.visible[None], text)
    assert torch.equal(half.clean, full.clean.bfloat16()) and half.channels.dtype == torch.bfloat16


@pytest.mark.parametrize(("layout", "more"), [("t2v", {}), ("vace", {}), ("inpaint", {"two": True})])
def test_other_bases_are_refused(tmp_path, source, layout, more):
    base = load_base(tiny.write_tiny_base(tmp_path, layout, **more))
    pair = Pair(source.video, source.known, source.video, "source", 0.0)
    with pytest.raises(ValueError, match=r"tuning: .* not supported; choose a .*Fun-InP base"):
        encode_pair(base, pair, source.known[None], encode_text(base, "").prompt)


def test_broken_pixels_and_sizes_are_refused(folder, source):
    base = load_base(folder)
    text = encode_text(base, "").prompt
    pair = Pair(source.video, source.known, source.video, "source", 0.0)
    broken = source.video.clone()
    broken[2, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        encode_pair(base, replace(pair, target=broken), source.known[None], text)
    with pytest.raises(ValueError, match=r"4 frames are not 4n\+1"):
        short = Pair(source.video[:4], source.known[:4], source.video[:4], "source", 0.0)
        encode_pair(base, short, source.known[None, :4], text)
