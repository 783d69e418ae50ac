"""Scores of several fills by closed forms; none depends on how many frames are added at once."""

import pytest
import torch

from recapture.models.metrics.seed_scores import MEASURES, SeedScores, spread_map


def fills(count=3, frames=4):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, frames, 3, 16, 16, generator=generator) * 2 - 1


def view(frames=4):
    visible = torch.ones(frames, 16, 16, dtype=torch.bool)
    visible[:, 4:9, 5:12] = False
    return torch.zeros(frames, 3, 16, 16), visible


def test_the_spread_is_the_deviation_as_a_share_of_the_range():
    black, white = torch.full((1, 1, 3, 2, 2), -1.0), torch.full((1, 1, 3, 2, 2), 1.0)
    assert spread_map(torch.cat([black, white])).unique().tolist() == [0.5]  # the most there is
    assert spread_map(torch.cat([white, white])).unique().tolist() == [0.0]


def test_scores_do_not_depend_on_the_parts():
    all_at_once, in_parts = SeedScores(3), SeedScores(3)
    video, visible = view()
    all_at_once.add(fills(), fills(), video, visible)
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        part = fills()[:, start:stop]
        in_parts.add(part, part, video[start:stop], visible[start:stop])
    for name in MEASURES:
        assert all_at_once.scores()[name] == pytest.approx(in_parts.scores()[name])
    assert all_at_once.spread == pytest.approx(in_parts.spread)


def scored(change):
    """The number that each measure prefers, of three equal fills of which one is changed."""
    base = torch.zeros(3, 4, 3, 16, 16)
    video, visible = view()
    base, unpasted = change(base.clone(), ~visible)
    scores = SeedScores(3)
    scores.add(base, unpasted, video, visible)
    return scores


def test_an_outlier_is_not_the_consensus():
    def shifted(all_fills, hole):
        all_fills[0] = torch.where(hole[:, None], 0.8, all_fills[0])
        return all_fills, all_fills

    found = scored(shifted).scores()["consensus"]
    # mean of 0.8, 0, 0 is 0.8 / 3
    assert found == pytest.approx([(0.8 * 2 / 3) ** 2, (0.8 / 3) ** 2, (0.8 / 3) ** 2])
    assert scored(shifted).best("consensus") == 1
    assert scored(shifted).best("first") == 0


def test_a_model_that_misses_the_known_pixels_beside_a_hole_agrees_less():
    def off(all_fills, hole):
        unpasted = all_fills.clone()
        unpasted[:2] = 0.5
        return all_fills, unpasted

    assert scored(off).scores()["agreement"] == pytest.approx([0.25, 0.25, 0])
    assert scored(off).best("agreement") == 2


def test_a_step_at_the_edge_of_a_hole_is_a_seam_and_a_change_in_time_is_not_calm():
    def flickering(all_fills, hole):
        all_fills[0] = torch.where(hole[:, None], 0.4, 0.0)
        all_fills[1, ::2] = torch.where(hole[::2, None], 0.4, 0.0)
        return all_fills, all_fills

    found = scored(flickering).scores()
    assert found["seam"] == pytest.approx([0.16, 0.08, 0])
    assert found["calm"] == pytest.approx([0, 0.16, 0])
    assert scored(flickering).best("ranks") == 2


def test_a_view_without_holes_prefers_the_first():
    video, visible = view()
    scores = SeedScores(3)
    scores.add(fills(), fills(), video, torch.ones_like(visible))
    assert scores.spread == 0
    assert scores.scores()["consensus"] == [0, 0, 0]
    assert scores.best("consensus") == 0
