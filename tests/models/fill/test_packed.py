from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_base as tiny
from support.filler import wan_filler
from support.surface import SURFACE

from recapture.models.fill.packed import (
    Candidate,
    FinishedView,
    Geometry,
    Packing,
    choose_frames,
    finished_view,
    packing_candidates,
    same_moments,
)
from recapture.models.fill.view import RenderedView
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.packing import pack
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents

CAPTION = "a red ball moves left"
POSITIONS = ["appended", "time_aligned"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "inpaint", "inpaint"))


def make_view(frames, seed=0, height=32, width=48):
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(frames, 3, height, width, generator=generator) * 2 - 1
    visible = torch.ones(frames, height, width, dtype=torch.bool)
    visible[:, 8:20, 30:] = False
    intrinsics = torch.tensor([[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]])
    return RenderedView(
        torch.where(visible[:, None], video, torch.zeros(())),
        visible,
        torch.full((frames, height, width), 2.0),
        torch.ones(frames, height, width),
        intrinsics.expand(frames, 3, 3),
        torch.eye(4).expand(frames, 4, 4),
    )


def finished(frames, seed=1, quality=1.0):
    """An earlier view; the larger its frame's number, the larger its repaired area."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(frames, 3, 32, 48, generator=generator) * 2 - 1
    visible = torch.ones(frames, 32, 48, dtype=torch.bool)
    for t in range(frames):
        visible[t, :8, : t + 1] = False
    return FinishedView(video, visible, torch.arange(frames), quality)


def first_by_rank(candidates, k, spacing):
    """Of all sets that keep their distance, the one whose best frame is best, then its next best."""
    worth = [c.area * c.quality for c in candidates]
    ranked = sorted((n for n in range(len(candidates)) if worth[n] > 0), key=lambda n: (-worth[n], n))
    best = None
    for size in range(k + 1):
        for places in combinations(range(len(ranked)), size):
            times = [candidates[ranked[p]].time for p in places]
            if all(abs(a - b) >= spacing for a, b in combinations(times, 2)):
                key = list(places) + [len(ranked)] * (k - size)
                best = min(best, key) if best is not None else key
    chosen = [ranked[p] for p in best if p < len(ranked)]
    return sorted(chosen, key=lambda n: (candidates[n].time, n))


CANDIDATES = st.builds(
    Candidate,
    st.sampled_from([0.0, 0.1, 0.2, 0.3]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 11),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CANDIDATES, max_size=9), st.integers(0, 3), st.integers(0, 5))
def test_the_choice_is_the_best_of_all_sets_that_keep_their_distance(candidates, k, spacing):
    assert choose_frames(candidates, k, spacing) == first_by_rank(candidates, k, spacing)


def test_ties_go_to_the_earlier_candidate_and_frames_come_in_order_of_time():
    candidates = [Candidate(0.2, 1.0, time) for time in (9, 0, 3, 8)]
    assert choose_frames(candidates, 4, 4) == [1, 0]
    assert choose_frames(candidates, 4, 0) == [1, 2, 3, 0]
    assert choose_frames([replace(c, area=c.time / 10) for c in candidates], 1, 4) == [0]


def test_quality_weighs_the_repaired_area():
    good, bad = finished(9, quality=1.0), finished(9, quality=0.5)
    candidates = packing_candidates([bad, good], make_view(9), SURFACE)
    assert [candidates[n].view for n in choose_frames(candidates, 2, 4)] == [1, 1]
    assert [c.area for c in candidates[:9]] == pytest.approx([8 * (t + 1) / (32 * 48) for t in range(9)])


def test_frames_of_other_moments_are_no_candidates():
    earlier = replace(finished(5), times=torch.tensor([-1, 0, 3, 8, 9]))
    assert [(c.time, c.frame) for c in packing_candidates([earlier], make_view(9), SURFACE)] == [
        (0, 1),
        (3, 2),
        (8, 3),
    ]


def test_with_geometry_only_what_covers_the_new_views_holes_counts():
    view = make_view(3)
    geometry = Geometry(view.depth, view.intrinsics, view.world_to_camera)
    hole = 12 * 18 / (32 * 48)

    def areas(x, y=0.0):
        """The earlier camera stands x to the right and y below; pixels are 1/20 apart on the plane."""
        moved = view.world_to_camera.clone()
        moved[:, 0, 3], moved[:, 1, 3] = -x, -y
        earlier = replace(finished(3), geometry=replace(geometry, world_to_camera=moved))
        return [c.area for c in packing_candidates([earlier], view, SURFACE)]

    assert areas(0.0) == pytest.approx([hole] * 3)
    # The earlier picture reaches from 14 pixels below the new one's top: 6 of the hole's 12 rows
    assert areas(0.0, y=14 / 20) == pytest.approx([hole / 2] * 3, abs=18 / (32 * 48))
    # and, 24 pixels to the left, covers none of the hole's columns
    assert areas(-24 / 20) == [0.0] * 3


def test_a_filled_view_is_trusted_as_far_as_the_base_kept_what_it_was_shown():
    view = make_view(3)
    video = torch.where(view.visible[:, None], view.video, torch.full((), 0.3))
    times = torch.arange(3)
    assert finished_view(view, video, times).quality == 1.0
    wrong = video.clone()
    wrong[:, :, :, :15] += 0.4  # half of the columns that are known throughout, a fifth of the range
    share = float(view.visible[:, :, :15].float().sum() / view.visible.float().sum())
    found = finished_view(view, video, times, unpasted=wrong)
    assert found.quality == pytest.approx(1 - 0.2 * share**0.5, abs=1e-6)
    hidden = replace(view, visible=torch.zeros_like(view.visible))
    assert finished_view(hidden, video, times).quality == 1.0
    assert torch.equal(found.video, video) and torch.equal(found.visible, view.visible)


def test_holes_of_a_filled_view_lie_in_the_background_beside_them():
    view = make_view(2)
    depth = view.depth.clone()
    depth[:, :, :40] = 1.0  # left of the hole's right part, something near hides a wall at 2
    depth[~view.visible] = torch.inf
    found = finished_view(replace(view, depth=depth), view.video, torch.arange(2)).geometry
    assert torch.equal(found.depth[view.visible], depth[view.visible])
    assert (found.depth[:, 8:20, 30:] <= 2.0).all() and torch.isfinite(found.depth).all()


MOMENTS = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(MOMENTS, MOMENTS)
def test_moments_are_found_at_the_same_place_then_at_the_first(earlier, new):
    expected = []
    for n, moment in enumerate(earlier):
        places = [place for place, other in enumerate(new) if other == moment]
        expected.append(n if n in places else min(places, default=-1))
    assert same_moments(torch.tensor(earlier), torch.tensor(new)).tolist() == expected


def fill(base, view, packed=(), packing=None, **changes):
    filler = wan_filler(base, steps=2, packing=packing or Packing(2), **changes)
    return filler.fill_both(view, caption=CAPTION, seed=1, packed=packed).unpasted


def test_nothing_to_pack_changes_no_bit(base):
    view = make_view(9)
    plain = fill(base, view)
    whole = replace(finished(9), visible=torch.ones(9, 32, 48, dtype=torch.bool))
    elsewhere = replace(finished(9), times=torch.arange(9) + 9)
    for packed, packing in (
        ((), Packing(2)),
        ([finished(9)], Packing(frames=0)),
        ([whole], Packing(2)),  # repaired nothing
        ([elsewhere], Packing(2)),
    ):
        assert torch.equal(fill(base, view, packed, packing=packing), plain)
    assert not torch.equal(fill(base, view, [finished(9)]), plain)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_packed_clip_is_conditioned_packed_sampled_and_decoded(base, positions):
    view, earlier = make_view(9), finished(9)
    found = fill(base, view, [earlier], packing=Packing(2, 5, positions), noise_scale=0.5)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 16, 3, 4, 6, generator=generator)
    given = condition(base, view.video, view.visible)
    given = pack(base, given, earlier.video[[3, 8]], [3, 8], positions=positions, generator=generator)
    latents = sample(
        base,
        given,
        encode_text(base, CAPTION, ""),
        scheduler=make_scheduler("unipc", 3.0),
        steps=2,
        generator=generator,
        latents=0.5 * noise,
        guidance_scale=5.0,
    )
    assert torch.equal(found, decode_latents(base.vae, latents)[0])


@pytest.mark.parametrize("positions", POSITIONS)
def test_windows_of_a_long_clip_pack_the_frames_of_their_own_time(base, positions):
    view, earlier = make_view(15), finished(15)
    packing = Packing(2, 5, positions)
    found = fill(base, view, [earlier], window=9, overlap=3, packing=packing)
    parts = []
    for first in (0, 6):
        span = slice(first, first + 9)
        names = [name for name in RenderedView.__dataclass_fields__ if name != "pose_group"]
        part = RenderedView(*(getattr(view, name)[span] for name in names))
        own = FinishedView(earlier.video[span], earlier.visible[span], torch.arange(9))
        parts.append(fill(base, part, [own], packing=packing))
    assert torch.equal(found[:6], parts[0][:6]) and torch.equal(found[9:], parts[1][3:])


def test_frames_of_several_earlier_views_are_told_apart(base):
    view, few, many = make_view(9), finished(9), finished(9, seed=2)
    few = replace(few, visible=many.visible | (torch.arange(9) != 2)[:, None, None])  # frame 2 alone repaired
    alone = replace(many, video=torch.cat([many.video[:2], few.video[2:3], many.video[3:]]))
    many = replace(many, visible=many.visible | (torch.arange(9) == 2)[:, None, None])
    packing = Packing(2, 6)
    assert torch.equal(
        fill(base, view, [few, many], packing=packing), fill(base, view, [alone], packing=packing)
    )


def test_earlier_views_of_another_size_or_without_times_are_refused(base):
    small = FinishedView(torch.zeros(9, 3, 16, 48), torch.zeros(9, 16, 48).bool(), torch.arange(9))
    with pytest.raises(ValueError, match="32x48 pixels"):
        fill(base, make_view(9), [finished(9), small])
    with pytest.raises(ValueError, match="one time per frame"):
        replace(small, times=torch.arange(8))
    with pytest.raises(ValueError, match="quality of 2"):
        replace(small, quality=2)
    with pytest.raises(ValueError, match="-1 frames"):
        Packing(frames=-1)
