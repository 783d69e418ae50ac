import math

import pytest
import torch

from recapture.models.depth.alignment import (
    Scale,
    align_depth,
    check_depth,
    fit_disparity,
    quantile,
)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def clip():
    """True disparity [T, H, W]: a tilted wall, a box that moves over it."""
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    wall = (0.2 + 0.002 * rows + 0.001 * columns).double()
    frames = []
    for t in range(12):
        frame = wall.clone()
        frame[10:24, 2 * t : 2 * t + 12] = 0.6
        frames.append(frame)
    return torch.stack(frames)


def wobble(disparity, seed=0):
    """What a per-frame model makes of it: an affine map of its own in every frame."""
    count = len(disparity)
    a, b = 3 + 4 * random(count, seed=seed), 2 * random(count, seed=seed + 1) - 1
    return disparity * a[:, None, None] + b[:, None, None]


def test_frames_with_different_scale_and_shift_come_out_as_one_scene(clip):
    depth, _ = align_depth(wobble(clip), "inverse", scale=Scale(median_depth=4, far_ratio=10))
    static = torch.ones_like(clip[0], dtype=torch.bool)
    static[10:24] = False
    assert float((1 / depth[0]).median()) == pytest.approx(1 / 4, rel=1e-6)
    spread = (depth[:, static] / depth[0, static] - 1).abs()
    assert float(spread.max()) < 1e-6
    before = wobble(clip)[:, static]
    assert float((before / before[0] - 1).abs().max()) > 0.3


def test_the_first_frame_is_set_to_the_stated_range(clip):
    depth, _ = align_depth(clip[:1] * 7 + 3, "inverse", scale=Scale(median_depth=2.5, far_ratio=6))
    near, far = quantile(depth, 0.01), quantile(depth, 0.99)
    assert float(far / near) == pytest.approx(6, rel=1e-6)
    assert float(depth.median()) == pytest.approx(2.5, rel=1e-2)


def test_metric_predictions_keep_their_units_and_lose_most_of_their_flicker():
    truth = 2 + 3 * random(1, 20, 20).expand(200, 20, 20)
    flicker = (0.1 * torch.randn(200, 1, 1, generator=torch.Generator().manual_seed(5))).double().exp()
    depth, _ = align_depth(flicker * truth, "metric", scale=Scale(factor=2.0))
    scales = (depth / truth).mean((1, 2))[20:]
    assert float(scales.mean()) == pytest.approx(2, rel=0.05)
    assert float(scales.std()) / 2 < 0.03


def test_chunks_give_the_same_bytes_as_the_whole_clip(clip):
    raw = wobble(clip).float()
    whole, _ = align_depth(raw, "inverse")
    state, pieces = None, []
    for chunk in raw.split(5):
        piece, state = align_depth(chunk, "inverse", state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert state.frames == len(clip)


def test_noise_does_not_shrink_the_scene_over_a_long_clip():
    columns = torch.arange(64).double() * math.tau / 64
    wall = (0.5 + 0.2 * torch.cos(columns) + 0.05 * torch.sin(3 * columns)).expand(16, 64)
    state = None
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        noise = 0.02 * torch.randn(100, 16, 64, generator=generator, dtype=torch.float64)
        # a camera that moves on: the wall slides by, so that key frames must change
        chunk = torch.stack([wall.roll(k, 1) for k in range(100)]) + noise
        depth, state = align_depth(chunk, "inverse", state)
    disparity, first = 1 / depth[-1], 1 / align_depth(wall[None], "inverse")[0][0]
    assert state.frames == 2000 and state.keys > 1
    assert float(disparity.std() / first.std()) == pytest.approx(1, abs=0.15)


def test_metric_depth_follows_a_camera_that_walks_away_for_good():
    state, generator = None, torch.Generator().manual_seed(4)
    for start in range(0, 400, 100):
        distance = 1 + 0.05 * torch.arange(start, start + 100).double()[:, None, None]
        relief = 0.05 * torch.rand(100, 16, 16, generator=generator, dtype=torch.float64)
        depth, state = align_depth(distance + relief, "metric", state)
    assert float(depth[-1].median()) == pytest.approx(1 + 0.05 * 399, rel=0.05)


def test_after_a_cut_the_scene_keeps_its_range():
    first, second = random(1, 24, 24), 5 * random(3, 24, 24, seed=8) - 2
    depth, _ = align_depth(torch.cat([first, second]), "inverse")
    disparity = 1 / depth
    assert float(disparity[3].std() / disparity[0].std()) == pytest.approx(1, rel=0.1)
    assert float(disparity[3].mean() / disparity[0].mean()) == pytest.approx(1, rel=0.1)


def test_the_state_does_not_grow(clip):
    _, after_one = align_depth(clip[:1], "inverse")
    _, after_all = align_depth(clip, "inverse")
    assert after_one.key.numel() + after_one.last.numel() == after_all.key.numel() + after_all.last.numel()


def test_unknown_pixels_stay_unknown_and_do_not_disturb_the_fit(clip):
    raw = wobble(clip)
    raw[3, :20, :20] = float("nan")
    depth, _ = align_depth(raw, "inverse")
    whole, _ = align_depth(wobble(clip), "inverse")
    assert depth[3, :20, :20].isnan().all()
    torch.testing.assert_close(depth[4:], whole[4:])


def test_a_frame_without_prediction_is_named(clip):
    raw = clip.clone()
    raw[4] = float("inf")
    with pytest.raises(ValueError, match="frame 4 has no finite prediction"):
        align_depth(raw, "inverse")


def test_flat_and_negative_predictions_do_not_crash_or_go_behind_the_camera():
    flat, _ = align_depth(torch.full((3, 8, 8), -2.0), "inverse")
    assert torch.isfinite(flat).all() and (flat > 0).all()
    wild = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    depth, _ = align_depth(wild, "inverse")
    assert (depth > 0).all() and depth.max() <= 25 * 4 + 1e-3


def test_fit_recovers_the_affine_map_though_a_third_of_the_pixels_moved():
    raw = random(30, 30)
    reference = 1.7 * raw + 0.4
    reference[:10] = random(10, 30, seed=9)
    a, b, agreement = fit_disparity(raw, reference)
    assert (a, b) == (pytest.approx(1.7, abs=0.05), pytest.approx(0.4, abs=0.05))
    assert 0.6 < agreement < 0.8


@pytest.mark.parametrize("kind", ["inverse", "metric"])
def test_a_consistent_clip_keeps_the_first_frames_scale_and_shift(clip, kind):
    nearing = clip * torch.linspace(1, 2, len(clip)).double()[:, None, None]
    prediction = 3 * nearing - 0.4 if kind == "inverse" else 1 / nearing
    scale = Scale(median_depth=4, far_ratio=10)
    depth, _ = align_depth(prediction, kind, scale=scale, consistent=True)
    first, _ = align_depth(prediction[:1], kind, scale=scale)
    x, y = prediction[0].flatten(), 1 / first.flatten()
    x = 1 / x if kind == "metric" else x
    a, b = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution.flatten()
    expected = a * (prediction if kind == "inverse" else 1 / prediction) + b
    torch.testing.assert_close(1 / depth, expected, rtol=1e-9, atol=1e-9)
    fitted, _ = align_depth(prediction, kind, scale=scale)
    assert float((depth[-1] / fitted[-1] - 1).abs().max()) > 0.1  # without it the approach is undone or lags
    state, parts = None, []
    for part in prediction.split(5):
        aligned, state = align_depth(part, kind, state, scale=scale, consistent=True)
        parts.append(aligned)
    assert torch.equal(torch.cat(parts), depth) and state.frames == len(clip)


def test_a_consistent_clip_that_begins_flat_takes_its_scale_from_the_first_frame_that_is_not(clip):
    prediction = torch.cat([torch.full_like(clip[:2], 0.3), 3 * clip - 0.4])
    depth, _ = align_depth(prediction, "inverse", consistent=True)
    expected, _ = align_depth(prediction[2:], "inverse", consistent=True)
    assert torch.equal(depth[2:], expected) and (depth[:2] == 4).all()


def test_unusable_pixels_become_unknown_up_to_the_stated_share():
    depth = torch.ones(2, 4, 4)
    depth[0, 0] = torch.tensor([0.0, -1.0, math.nan, math.inf])
    clean, known = check_depth(depth, "bmx/003")
    assert int((~known).sum()) == 4 and not known[0, 0].any()
    assert (clean[known] == 1).all() and (clean[~known] == 0).all()


def test_a_frame_with_too_many_unusable_pixels_names_clip_frames_and_way_out():
    depth = torch.ones(5, 4, 4)
    depth[2:4, :3] = math.nan
    with pytest.raises(ValueError, match=r"clip 'bmx/003'.*2 frames \(102, 103\).*75%.*depth\.source"):
        check_depth(depth, "bmx/003", first_frame=100)
