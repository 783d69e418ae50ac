"""A caption longer than the text encoder takes: its first tokens count, and the rest is counted."""

import pytest
import torch
from support import tiny_base as tiny

from recapture.models.wan.load import load_base
from recapture.models.wan.text import encode_text, surplus_tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "b", text_length=512))


@pytest.mark.parametrize("words", [512, 700])
def test_a_caption_of_700_tokens_is_embedded_as_its_first_512(base, words):
    """The token that ends a prompt is one of the 512."""
    vocabulary = ["red", "box", "moves", "left", "ball", "the", "room"]
    caption = [vocabulary[n * n % 7] for n in range(words)]
    long, short = (encode_text(base, " ".join(part), None).prompt for part in (caption, caption[:511]))
    assert long.shape == (1, 512, 32)
    assert torch.equal(long, short)
    assert surplus_tokens(base, " ".join(caption)) == words - 511
    assert surplus_tokens(base, " ".join(caption[:511])) == 0
    assert not torch.equal(long, encode_text(base, " ".join(caption[:510]), None).prompt)
