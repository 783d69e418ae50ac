import itertools

import pytest
import torch

from recapture.models.fill.windows import Window, WindowJoin, join_windows, window_weights, windows

CASES = [(1, 17, 8), (2, 5, 0), (16, 17, 8), (17, 17, 8), (18, 17, 8), (30, 17, 8), (33, 17, 0), (200, 49, 8)]


@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_covered_and_every_window_has_4n_plus_1_frames(case):
    frames, length, overlap = case
    spans = windows(*case)
    covered = {frame for span in spans for frame in range(span.start, span.stop)}
    assert covered == set(range(frames))
    assert all(span.length % 4 == 1 and span.stop - span.start <= span.length <= length for span in spans)
    assert all(before.stop - after.start >= overlap for before, after in itertools.pairwise(spans))
    assert spans[-1].stop == frames


@pytest.mark.parametrize("case", CASES)
def test_weights_sum_to_one_at_every_frame(case):
    total = torch.zeros(case[0], dtype=torch.float64)
    spans = windows(*case)
    for span, weight in zip(spans, window_weights(spans, case[2])):
        assert (weight >= 0).all()
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_a_short_clip_is_padded_by_its_last_frame_and_a_long_one_spreads_its_windows():
    assert windows(6, 17, 8) == [Window(0, 6, 9)]
    assert windows(6, 17, 8)[0].indices() == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert [(s.start, s.stop) for s in windows(30, 17, 8)] == [(0, 17), (6, 23), (13, 30)]


@pytest.mark.parametrize("length, overlap", [(17, 8), (17, 4), (17, 0), (49, 8), (49, 24)])
def test_a_surplus_frame_is_spread_over_all_overlaps_and_no_join_fades_over_more_than_the_overlap(
    length, overlap
):
    for frames in range(1, 4 * length + 2):
        spans = windows(frames, length, overlap)
        if frames <= length:
            assert [(s.start, s.stop) for s in spans] == [(0, frames)]
            assert spans[0].length % 4 == 1 and frames <= spans[0].length < frames + 4
            continue
        fewest = next(n for n in itertools.count(2) if n * length - (n - 1) * overlap >= frames)
        shared = [before.stop - after.start for before, after in itertools.pairwise(spans)]
        assert len(spans) == fewest and spans[0].start == 0 and spans[-1].stop == frames
        assert {s.length for s in spans} == {s.stop - s.start for s in spans} == {length}
        assert min(shared) >= overlap and max(shared) - min(shared) <= 1
        weight = torch.zeros(len(spans), frames, dtype=torch.float64)
        for n, (span, own) in enumerate(zip(spans, window_weights(spans, overlap))):
            weight[n, span.start : span.stop] = own
        assert (weight >= 0).all() and torch.allclose(weight.sum(0), torch.ones(frames).double())
        # what comes from the windows after n rises once from 0 to 1, over `overlap` frames
        for n in range(len(spans) - 1):
            later = weight[n + 1 :].sum(0)
            assert int(((later > 1e-9) & (later < 1 - 1e-9)).sum()) == overlap
            assert (later[1:] >= later[:-1] - 1e-12).all() and later[0] == 0
            assert torch.isclose(later[-1], torch.ones(()).double())


def test_one_frame_more_than_a_window_blends_eight_frames_and_not_the_whole_clip():
    """The shifted last window of 50 frames shared 48 with the one before, and all of these were averaged."""
    spans = windows(50, 49, 8)
    first, second = window_weights(spans, 8)
    assert [(s.start, s.stop) for s in spans] == [(0, 49), (1, 50)]
    assert int(((first > 0) & (first < 1)).sum()) == 8 == int(((second > 0) & (second < 1)).sum())
    expected = torch.cat([torch.ones(21), 1 - torch.arange(1, 9) / 9, torch.zeros(20)]).double()
    torch.testing.assert_close(first, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("frames", [82, 84, 101, 300])
@pytest.mark.parametrize("length, overlap", [(49, 8), (81, 8), (17, 8)])
def test_as_many_frames_come_out_as_go_in_and_every_index_is_right(frames, length, overlap):
    clip = torch.arange(frames, dtype=torch.float64)[:, None]
    spans = windows(frames, length, overlap)
    joined = torch.cat(list(join_windows(spans, (clip[s.indices()] for s in spans), overlap)))
    assert torch.equal(joined.round(), clip) and (joined - clip).abs().max() < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_windows_that_agree_join_to_the_clip_bit_for_bit(case):
    clip = torch.rand(case[0], 3, 4, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    spans = windows(*case)
    joined = torch.cat(list(join_windows(spans, (clip[span.indices()] for span in spans), case[2])))
    assert torch.equal(joined, clip)


def test_windows_that_differ_fade_linearly_without_a_jump():
    spans = windows(26, 17, 8)
    joined = torch.cat(list(join_windows(spans, (torch.full((17, 1), float(n)) for n in range(2)), 8)))
    steps = joined[1:, 0] - joined[:-1, 0]
    assert joined[0] == 0 and joined[-1] == 1
    assert steps.min() >= 0 and steps.max() <= 1 / 9 + 1e-6


def test_join_holds_back_no_more_than_the_overlap():
    join = WindowJoin(windows(98, 17, 8), 8)
    assert len(join.add(torch.zeros(17, 1))) == 9


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"4n\+1"):
        windows(30, 16, 8)
    with pytest.raises(ValueError, match="overlap of 9"):
        windows(30, 17, 9)
    with pytest.raises(ValueError, match="must return 17, not 16"):
        WindowJoin(windows(30, 17, 8), 8).add(torch.zeros(16, 1))
