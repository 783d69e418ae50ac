"""The feature network: its files, its size, and what its distance is."""

import json

import pytest
import torch
from torch.nn.functional import normalize, softplus

from recapture.models.metrics.feature_net import FeatureNet, judged, load_feature_net, save_feature_net

SMALL = {"widths": (4, 6, 8, 8, 8), "features": 8, "clip_width": 4}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    made = FeatureNet(**SMALL).eval().requires_grad_(False)
    for weights in made.weights:
        weights.copy_(torch.randn_like(weights))
    return made


@pytest.fixture(scope="module")
def pictures():
    return torch.rand((4, 3, 32, 48), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_network_comes_back_from_its_folder_in_half_precision(net, pictures, tmp_path):
    save_feature_net(net, tmp_path / "net")
    loaded = load_feature_net(tmp_path / "net")
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == ["config.json", "model.safetensors"]
    assert loaded.settings == net.settings
    assert torch.allclose(loaded(pictures).frame, net(pictures).frame, atol=0.02)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_folder_without_a_network_and_one_of_something_else_are_named(net, tmp_path):
    with pytest.raises(ValueError, match=r"feature network: .*nothing.* lacks config.json and model"):
        load_feature_net(tmp_path / "nothing")
    save_feature_net(net, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "features": 9}))
    with pytest.raises(ValueError, match=r"the files in .* do not fit: .*size mismatch for to_frame.weight"):
        load_feature_net(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "kind": "InceptionV3"}))
    with pytest.raises(ValueError, match=r"config.json does not describe a recapture.FeatureNet"):
        load_feature_net(tmp_path)


def test_the_distance_is_that_of_unit_features_weighted_and_summed(net, pictures):
    one, other = pictures[:2], pictures[2:]
    expected = torch.zeros(2)
    x = {name: net.stem(p) for name, p in (("one", one), ("other", other))}
    for level, weights in enumerate(net.weights):
        if level:
            for name, value in x.items():
                active = torch.relu(value / (value.square().mean(1, keepdim=True) + 1e-3).sqrt())
                value = net.down[level - 1](active)
                again = torch.relu(value / (value.square().mean(1, keepdim=True) + 1e-3).sqrt())
                x[name] = value + net.same[level - 1](again)
        apart = normalize(x["one"], dim=1, eps=1e-4) - normalize(x["other"], dim=1, eps=1e-4)
        for n in range(2):
            for channel in range(apart.shape[1]):
                expected[n] += softplus(weights[channel]) * (apart[n, channel] ** 2).mean()
    found = net.distance(net(one), net(other))
    assert torch.allclose(found, expected, rtol=1e-4)
    assert torch.equal(net.distance(net(one), net(one)), torch.zeros(2))


def test_features_of_a_clip_depend_on_the_order_of_its_frames(net, pictures):
    seen = net(pictures)
    forwards = net.clip_features(seen.scales[2][None], seen.frame[None])
    backwards = net.clip_features(seen.scales[2].flip(0)[None], seen.frame.flip(0)[None])
    assert forwards.shape == (1, 8)
    assert (forwards - backwards).abs().max() > 1e-3


def test_large_pictures_are_judged_at_a_shorter_side_of_192_and_small_ones_as_they_are_down_to_32():
    assert judged(torch.zeros(1, 3, 480, 832)).shape[-2:] == (192, 333)
    small = torch.rand(1, 3, 200, 64)
    assert judged(small) is small
    assert judged(torch.zeros(1, 3, 24, 48)).shape[-2:] == (32, 64)
