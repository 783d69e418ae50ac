"""Scenes of several varieties: shares, captions, and that a seed draws what its stream would."""

import pytest
import torch

from recapture.datasets.scenes.stream import SceneStream
from recapture.tasks.pretrain.data import SceneMixture


@pytest.fixture(scope="module")
def streams():
    return {
        "classic": SceneStream(range(3), variety="classic"),
        "wide": SceneStream(range(2), variety="wide"),
    }


def test_each_draw_is_one_streams_and_its_captions_are_found(streams):
    mixture = SceneMixture(streams, {"classic": 0.5, "wide": 0.5})
    assert mixture.captions == (*streams["classic"].captions, *streams["wide"].captions)
    seen = set()
    for seed in range(8):
        drawn = mixture.draw(seed, 3, 1, 8, 8)
        assert [mixture.captions[index] for index in drawn.scene_index] == drawn.captions
        mine = [
            name
            for name, stream in streams.items()
            if torch.equal(stream.draw(seed, 3, 1, 8, 8).video, drawn.video)
        ]
        assert len(mine) == 1
        seen |= set(mine)
    assert seen == {"classic", "wide"}


def test_a_share_of_nought_is_never_drawn_and_shares_must_fit(streams):
    mixture = SceneMixture(streams, {"classic": 0.0, "wide": 1.0})
    for seed in range(6):
        assert int(mixture.draw(seed, 2, 1, 8, 8).scene_index.min()) >= 3
    for shares in ({"wide": 1.0}, {"classic": 0.0, "wide": 0.0}):
        with pytest.raises(ValueError, match="do not fit"):
            SceneMixture(streams, shares)
