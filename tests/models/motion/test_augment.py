import pytest
import torch

from recapture.models.motion.augment import Augmentation, copies

T, H, W = 5, 48, 64
PLAIN = Augmentation("none", 0.0, 0.0, 0.0)


def dots():
    """Two dots on grey: a bright one that goes right and down, and a dark one at rest to its right."""
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    video = torch.zeros(T, 3, H, W)
    for t in range(T):
        video[t] += 0.8 * torch.exp(-((x - 22 - 2 * t) ** 2 + (y - 20 - t) ** 2) / 8)
        video[t] -= 0.8 * torch.exp(-((x - 44) ** 2 + (y - 26) ** 2) / 8)
    return video


def centres(video, sign):
    """The path [T, 2] of what is brighter (or darker) than grey."""
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    weight = (sign * video.mean(1)).clamp_min(0.02) - 0.02
    total = weight.sum((1, 2))
    return torch.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], 1)


def made(video, count, augmentation, seed=0, visible=None):
    visible = torch.ones(T, H, W, dtype=torch.bool) if visible is None else visible
    return list(copies(video, visible, count, augmentation, torch.Generator().manual_seed(seed)))


def test_without_augmentation_a_copy_is_the_clip():
    video = torch.rand(T, 3, H, W, generator=torch.Generator().manual_seed(1)) * 2 - 1
    visible = torch.rand(T, H, W, generator=torch.Generator().manual_seed(2)) < 0.5
    for copy, seen in made(video, 2, PLAIN, visible=visible):
        torch.testing.assert_close(copy, video, rtol=1e-4, atol=1e-4)
        assert torch.equal(seen, visible)


def test_six_copies_have_the_six_orders_of_the_channels():
    video = torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1).expand(T, 3, H, W)
    found = [copy[0, :, 5, 5] for copy, _ in made(video, 6, Augmentation("permute", 0.0, 0.0, 0.0))]
    assert len({tuple(one.mul(10).round().tolist()) for one in found}) == 6


def test_jittered_colours_keep_grey_and_brightness_and_change_hue():
    grey = torch.full((T, 3, H, W), 0.3)
    red = torch.tensor([0.5, -0.5, -0.5]).view(1, 3, 1, 1).expand(T, 3, H, W)
    jitter = Augmentation("jitter", 0.0, 0.0, 0.0)
    for seed in range(3):
        torch.testing.assert_close(made(grey, 1, jitter, seed)[0][0], grey, rtol=1e-4, atol=1e-5)
        turned = made(red, 1, jitter, seed)[0][0][0, :, 5, 5]
        assert float(turned.mean()) == pytest.approx(-1 / 6, abs=1e-4)
        assert (turned - red[0, :, 5, 5]).abs().max() > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_moves_as_the_reference_does_by_one_shift_and_zoom_of_all_frames(seed):
    video = dots()
    copy, _ = made(video, 1, Augmentation("permute", 0.0, 0.1, 0.15), seed)[0]
    moving, moved = centres(video, 1), centres(copy, 1)
    steps, after = moving.diff(dim=0), moved.diff(dim=0)
    zoom = float((steps * after).sum() / steps.square().sum())
    assert 1 / 1.15 - 0.03 < zoom < 1.15 + 0.03
    torch.testing.assert_close(after, zoom * steps, rtol=0, atol=0.15)  # one zoom, in one direction: no flip
    rest, rested = centres(video, -1), centres(copy, -1)
    torch.testing.assert_close(rested, rested[:1].expand_as(rested), rtol=0, atol=0.15)
    torch.testing.assert_close(rested[0] - moved[0], zoom * (rest[0] - moving[0]), rtol=0, atol=0.3)


def test_light_changes_contrast_and_brightness_alike_in_all_frames():
    video = 0.4 * dots()
    copy, _ = made(video, 1, Augmentation("none", 0.2, 0.0, 0.0), 3)[0]
    gain = float(copy.std() / video.std())
    lift = float((copy - gain * video).mean())
    assert 0.8 <= gain <= 1.2 and abs(lift) <= 0.2 and abs(gain - 1) + abs(lift) > 0.02
    torch.testing.assert_close(copy, gain * video + lift, rtol=0, atol=2e-3)


def test_what_is_visible_moves_with_the_picture():
    video = dots()
    visible = centres(video, 1)  # a hole round the moving dot
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    holes = [((x - at[0]) ** 2 + (y - at[1]) ** 2) < 64 for at in visible]
    copy, seen = made(video, 1, Augmentation("none", 0.0, 0.1, 0.1), 1, ~torch.stack(holes))[0]
    outside = copy.mean(1) * seen
    assert outside.max() < 0.1 < copy.mean(1).max() and 0.05 < float((~seen).float().mean()) < 0.2
