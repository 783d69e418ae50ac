"""What measuring finds once, and what it does beside others' use of the device."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from support.surface import SURFACE

from recapture.models.metrics import features, flow, suite
from recapture.models.metrics.features import features_of, find_features
from recapture.models.metrics.flow import WarpErrors, pair_errors
from recapture.models.metrics.luma import to_colours, to_grey
from recapture.models.metrics.memo import Memo


def pictures(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 40, 56), dtype=np.uint8))


def counted(monkeypatch, module, name):
    """Return the list that gets an entry for each call of a function."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: calls.append(given) or function(*given))
    return calls


def test_a_memo_keeps_what_was_asked_for_last():
    memo = Memo[int](2)
    memo.put("a", 1)
    memo.put("b", 2)
    assert memo.get("a") == 1
    memo.put("c", 3)
    assert (memo.get("a"), memo.get("b"), memo.get("c")) == (1, None, 3)


def test_features_of_the_source_are_found_once_and_those_of_results_are_not_kept(monkeypatch):
    own, others = pictures(3, seed=1), pictures(2, seed=2)
    calls = counted(monkeypatch, features, "find_features")
    first = features_of(own, [*others, own[0]])
    assert len(calls) == 5
    again = features_of(own, others)
    assert len(calls) == 7
    for found, picture in zip([*first, *again], [*own, *others, own[0], *own, *others], strict=True):
        wanted = find_features(picture)
        np.testing.assert_array_equal(found.positions, wanted.positions)
        np.testing.assert_array_equal(found.descriptors, wanted.descriptors)


def test_flow_of_the_source_is_found_once_and_differs_with_any_colour(monkeypatch):
    video = torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    calls = counted(monkeypatch, flow, "optical_flow")

    def errors(seen):
        pairs = WarpErrors().pairs(to_grey(seen), to_colours(seen))
        return pair_errors({"source": pairs, "other": pairs}, "source")

    first = errors(video)
    assert len(calls) == 8  # two directions of two pairs, of the source and of the other
    assert first["source"] == first["other"]
    assert errors(video) == first and len(calls) == 12
    video[1, 2] *= 0.999  # less than luma, in whole numbers, may see
    assert errors(video)["source"] != first["source"] and len(calls) == 20


def test_what_the_cpu_measures_is_not_done_in_a_turn(monkeypatch, filmed):
    inside, seen = [], []

    @contextmanager
    def turn():
        inside.append(True)
        yield
        inside.pop()

    def watched(module, name):
        function = getattr(module, name)

        def call(*given):
            seen.append((name, bool(inside)))
            return function(*given)

        monkeypatch.setattr(module, name, call)

    monkeypatch.setattr(suite, "turn", turn)
    watched(features, "find_features")
    watched(flow, "optical_flow")
    watched(suite, "looked_up")
    watched(suite, "inner_masks")
    watched(suite, "seam_ring")
    noise = torch.rand(filmed.truth.shape, generator=torch.Generator().manual_seed(4)) * 2 - 1
    suite.measure(noise, filmed.source, filmed.view, surface=SURFACE, truth=filmed.truth)
    on_cpu = {"find_features", "optical_flow", "inner_masks", "seam_ring"}
    assert set(seen) == {("looked_up", True), *((name, False) for name in on_cpu)}


@pytest.mark.parametrize("contiguous", [True, False], ids=["planes", "as pixels"])
def test_colours_are_cut_to_the_range_and_laid_out_as_planes(contiguous):
    video = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(5))
    if not contiguous:
        video = video.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for given in (video, video.clamp(-1, 1)):
        found = to_colours(given)
        assert found.flags.c_contiguous and found.dtype == np.float32
        np.testing.assert_array_equal(found, video.clamp(-1, 1).numpy())
