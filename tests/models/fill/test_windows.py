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
    for span, weight in zip(spans, window_weights(spans)):
        assert (weight > 0).all()
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_a_short_clip_is_padded_by_its_last_frame_and_a_long_one_shifts_its_last_window():
    assert windows(6, 17, 8) == [Window(0, 6, 9)]
    assert windows(6, 17, 8)[0].indices() == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert [(s.start, s.stop) for s in windows(30, 17, 8)] == [(0, 17), (9, 26), (13, 30)]


@pytest.mark.parametrize("case", CASES)
def test_windows_that_agree_join_to_the_clip_bit_for_bit(case):
    clip = torch.rand(case[0], 3, 4, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    spans = windows(*case)
    joined = torch.cat(list(join_windows(spans, (clip[span.indices()] for span in spans))))
    assert torch.equal(joined, clip)


def test_windows_that_differ_fade_linearly_without_a_jump():
    spans = windows(26, 17, 8)
    joined = torch.cat(list(join_windows(spans, (torch.full((17, 1), float(n)) for n in range(2)))))
    steps = joined[1:, 0] - joined[:-1, 0]
    assert joined[0] == 0 and joined[-1] == 1
    assert steps.min() >= 0 and steps.max() <= 1 / 9 + 1e-6


def test_join_holds_back_no_more_than_the_overlap():
    join = WindowJoin(windows(100, 17, 8))
    assert len(join.add(torch.zeros(17, 1))) == 9


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"4n\+1"):
        windows(30, 16, 8)
    with pytest.raises(ValueError, match="overlap of 9"):
        windows(30, 17, 9)
    with pytest.raises(ValueError, match="must return 17, not 16"):
        WindowJoin(windows(30, 17, 8)).add(torch.zeros(16, 1))
