"""Features of results given part by part: the same whatever the parts, against whole videos at once."""

import pytest
import torch

from recapture.models.metrics.feature_net import FeatureNet, save_feature_net
from recapture.models.metrics.feature_scores import FeatureScores
from recapture.models.metrics.learned import LearnedMetrics, LearnedScores

SMALL = {"widths": (4, 6, 8, 8, 8), "features": 8, "clip_width": 4}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return FeatureNet(**SMALL).eval().requires_grad_(False)


def video(frames, seed):
    return torch.rand((frames, 3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def scored(net, parts, frames=19, true=True):
    scores = FeatureScores(net)
    result, source, truth = (video(frames, seed) for seed in (1, 2, 3))
    start = 0
    for part in parts:
        cut = slice(start, start + part)
        shown = source[cut]
        scores.add({"a": result[cut], "copy": shown}, shown, truth[cut] if true else None)
        start += part
    return scores


@pytest.mark.parametrize("parts", [(19,), (16, 3), (1, 6, 1, 11), (7, 8, 4)])
def test_values_and_sets_do_not_depend_on_the_parts(net, parts):
    found = scored(net, parts)
    result, source, truth = (net(video(19, seed)) for seed in (1, 2, 3))
    values = found.scores()
    assert values["a"]["feature_distance"] == pytest.approx(
        float(net.distance(result, truth).mean()), rel=1e-4
    )
    assert values["a"]["view_agreement"] == pytest.approx(
        float((result.view * source.view).sum(1).mean()), abs=1e-5
    )
    assert values["copy"]["view_agreement"] == pytest.approx(1)
    sets = found.sets()
    starts = (0, 4, 8, 11)  # of windows of 8 frames; the last ends with the video
    for name, seen in {"a": result, "copy": source, "reference": truth}.items():
        windows = torch.cat(
            [net.clip_features(seen.scales[2][None, s : s + 8], seen.frame[None, s : s + 8]) for s in starts]
        )
        torch.testing.assert_close(
            torch.from_numpy(sets[f"{name}.frames"]).float(), seen.frame, atol=2e-3, rtol=0
        )
        torch.testing.assert_close(
            torch.from_numpy(sets[f"{name}.windows"]).float(), windows, atol=2e-3, rtol=0
        )
    assert sets["reference.true"]


@pytest.mark.parametrize(("frames", "windows"), [(2, 1), (8, 1), (9, 2), (12, 2), (13, 3)])
def test_windows_cover_the_video_whatever_its_length(net, frames, windows):
    sets = scored(net, (frames,), frames).sets()
    assert sets["a.frames"].shape == (frames, 8)
    assert sets["a.windows"].shape == (windows, 8)


def test_without_a_truth_the_source_is_the_reference(net):
    found = scored(net, (19,), true=False)
    sets = found.sets()
    assert not sets["reference.true"]
    assert (sets["reference.frames"] == sets["copy.frames"]).all()
    assert found.scores()["a"].keys() == {"view_agreement"}


def test_the_suite_of_learned_metrics_leaves_out_what_stands_beside(net, tmp_path):
    save_feature_net(net, tmp_path)
    metrics = LearnedMetrics(features=str(tmp_path))
    assert metrics.available() == ["feature_distance", "view_agreement"]
    scores = LearnedScores(metrics, ["view_agreement"], "")
    result, source, truth = (video(3, seed) for seed in (1, 2, 3))
    scores.add({"a": result, "a_unpasted": result}, source, truth=truth, beside=["a_unpasted"])
    found = scores.scores()
    assert found["a"].keys() == {"view_agreement"} and not found["a_unpasted"]
    assert {name.split(".")[0] for name in scores.sets()} == {"a", "reference"}
    assert LearnedScores(LearnedMetrics(), [], "").sets() == {}


def test_a_folder_that_holds_no_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"feature network: .* lacks config.json"):
        LearnedMetrics(features=str(tmp_path)).features()
