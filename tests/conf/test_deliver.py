"""Formats of the finished files: what exists, and what is written where nothing is said."""

import pytest
from pydantic import ValidationError

from recapture.conf.deliver import DeliverConfig


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"alpha": True}, "h264 in 420 has no alpha channel; set deliver.codec prores"),
        ({"alpha": True, "codec": "prores", "chroma": "422"}, "prores in 422 has no alpha channel"),
        ({"codec": "prores", "bits": 8}, "bits 8 is none of prores"),
        ({"codec": "prores", "chroma": "420"}, "chroma 420 is none of prores"),
    ],
)
def test_a_format_that_does_not_exist_is_an_error_with_the_way_out(given, says):
    with pytest.raises(ValidationError, match=says):
        DeliverConfig(**given)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, ("recapture.mp4", 8, "420", False)),
        ({"codec": "h265", "bits": 10}, ("recapture.mp4", 10, "420", False)),
        ({"codec": "prores"}, ("recapture.mov", 10, "422", False)),
        ({"codec": "prores", "alpha": True}, ("recapture.mov", 10, "444", True)),
        ({"frames": "png", "alpha": True}, ("recapture.mp4", 8, "420", False)),
    ],
)
def test_what_is_not_said_follows_from_the_codec(given, written):
    config = DeliverConfig(**given)
    assert (config.file, config.depth_in_bits, config.subsampling, config.video_alpha) == written


def test_a_format_that_is_spelt_out_has_the_key_of_the_default():
    assert DeliverConfig(bits=8, chroma="420").keyed() == DeliverConfig().keyed()
    assert DeliverConfig(crf=20).keyed() != DeliverConfig().keyed()
    prores = {"codec": "prores", "side_by_side": False}
    assert DeliverConfig(**prores, crf=20).keyed() == DeliverConfig(**prores).keyed()
