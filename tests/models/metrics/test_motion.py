"""Motion measures against displacements that are known, and the published fidelity's known blindness."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recapture.models.metrics.motion import (
    assignment,
    camera_scores,
    leak_colour,
    leak_layout,
    motion_scores,
    nearer_reading,
)
from recapture.models.metrics.motion_bodies import MotionTruth, find_bodies, true_places
from recapture.models.metrics.tracks import camera_flow, motion_fidelity

FRAMES, SIDE, RADIUS = 17, 64, 7
RED, BLUE, GREEN = (torch.tensor(one) for one in ([0.8, -0.8, -0.8], [-0.8, -0.6, 0.9], [-0.8, 0.6, -0.7]))
T = torch.arange(FRAMES, dtype=torch.float64)
ACROSS = torch.stack([16 + 2 * T, 32 + 0 * T], 1)
BACK = torch.stack([48 - 2 * T, 48 + 0 * T], 1)


def room() -> Tensor:
    noise = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    return (
        torch.nn.functional.interpolate(noise, size=SIDE, mode="bicubic").clamp(0, 1).repeat(1, 3, 1, 1) - 0.5
    )


def disc(path: Tensor, radius: float | Tensor = RADIUS) -> Tensor:
    """Masks [T, H, W] of a disc along a path [T, 2]."""
    grid = torch.arange(SIDE) + 0.5
    away = (grid[None, :] - path[:, 0, None])[:, None, :] ** 2 + (grid[None, :] - path[:, 1, None])[
        :, :, None
    ] ** 2
    size = torch.as_tensor(radius, dtype=torch.float64).expand(len(path))
    return away < size[:, None, None] ** 2


def clip(*bodies: tuple[Tensor, Tensor]) -> Tensor:
    """A clip [T, 3, H, W] of masks [T, H, W] in their colours before the room."""
    video = room().repeat(FRAMES, 1, 1, 1)
    for mask, colour in bodies:
        video = torch.where(mask[:, None], colour[:, None, None], video)
    return video


def truth_of(*bodies: tuple[Tensor, Tensor]) -> MotionTruth:
    return MotionTruth(
        clip(*bodies), room().repeat(FRAMES, 1, 1, 1), torch.stack([mask for mask, _ in bodies])
    )


ONE = truth_of((disc(ACROSS), RED))
TWO = truth_of((disc(ACROSS), RED), (disc(BACK), BLUE))


def scores_of(path: Tensor) -> dict[str, float]:
    return motion_scores(clip((disc(path), RED)), ONE)


def test_bodies_are_found_where_they_are_drawn_also_under_noise() -> None:
    noisy = TWO.video + 0.1 * torch.randn(TWO.video.shape, generator=torch.Generator().manual_seed(1))
    for video, away in ((TWO.video, 1e-9), (noisy.clamp(-1, 1), 0.3)):
        found = find_bodies(video, TWO)
        assert float((found.place - torch.stack([ACROSS, BACK])).norm(dim=-1).max()) <= away + 0.05
        assert (found.area / true_places(TWO).area - 1).abs().max() < 0.12


def test_the_truth_scores_one_and_a_still_clip_nothing() -> None:
    true = motion_scores(TWO.video, TWO)
    assert true["motion_direction"] == pytest.approx(1) and true["motion_amplitude"] == pytest.approx(1)
    assert (true["motion_end"], true["motion_timing"], true["assignment"]) == (0, 0, 1)
    assert true["body_kept"] == 1 and true["psnr_body"] > 100 and true["psnr_elsewhere"] > 100
    still = motion_scores(TWO.video[:1].expand(FRAMES, -1, -1, -1), TWO)
    assert still["motion_direction"] == still["motion_amplitude"] == 0
    assert still["motion_end"] == pytest.approx(1) and math.isnan(still["motion_timing"])
    assert still["psnr_body"] < 15 < 100 < still["psnr_elsewhere"]


def test_scores_are_the_closed_forms_of_known_displacements() -> None:
    half = scores_of(torch.stack([16 + T, 32 + 0 * T], 1))
    assert half["motion_direction"] == pytest.approx(1, abs=1e-3)
    assert half["motion_amplitude"] == pytest.approx(0.5, abs=0.01)
    assert half["motion_end"] == pytest.approx(0.5, abs=0.01)
    aslant = scores_of(torch.stack([16 + 2 * T, 16 + 2 * T], 1))
    assert aslant["motion_direction"] == pytest.approx(math.cos(math.pi / 4), abs=0.01)
    assert aslant["motion_amplitude"] == pytest.approx(1, abs=0.02)  # its projection on the true way
    reversed_ = motion_scores(ONE.video.flip(0), ONE)
    assert reversed_["motion_direction"] == pytest.approx(-1)
    curved = torch.stack([20 + 10 * torch.sin(0.5 * T), 20 + 10 * torch.cos(0.5 * T)], 1)
    turning = truth_of((disc(curved), RED))
    late = torch.stack([20 + 10 * torch.sin(0.5 * (T - 2)), 20 + 10 * torch.cos(0.5 * (T - 2))], 1)
    assert motion_scores(clip((disc(late), RED)), turning)["motion_timing"] == 2


def test_a_body_that_vanishes_or_shrinks_is_a_failure_and_is_not_dropped() -> None:
    here = (T < 8)[:, None, None]
    gone = motion_scores(clip((disc(ACROSS) & here, RED)), ONE)
    assert gone["body_kept"] == pytest.approx(8 / 17)
    assert gone["motion_direction"] == pytest.approx(7 / 13, abs=0.02)  # of 13 steps of 4 frames
    assert gone["motion_end"] == pytest.approx(18 / 32, abs=0.01)
    small = motion_scores(clip((disc(ACROSS, 0.6 * RADIUS), RED)), ONE)
    assert small["body_kept"] == 0 and small["motion_direction"] == pytest.approx(1, abs=0.02)


def test_what_the_truth_itself_hides_is_not_scored() -> None:
    hidden = disc(BACK) & ~disc(ACROSS)
    hidden[6:10] = False
    occluded = truth_of((disc(ACROSS), RED), (hidden, BLUE))
    found = motion_scores(occluded.video, occluded)
    assert found["body_kept"] == 1 and found["motion_direction"] == pytest.approx(1)


def test_bodies_that_swap_their_ways_are_assigned_to_each_other() -> None:
    aside = torch.tensor([8.0, 16.0])
    swapped = clip((disc(ACROSS + aside), BLUE), (disc(BACK - aside), RED))
    scores = motion_scores(swapped, TWO)
    assert scores["assignment"] == 0 and scores["motion_direction"] == pytest.approx(-1, abs=0.01)
    places = true_places(TWO)
    assert assignment(places, places) == 1


def test_the_nearer_of_two_readings_is_chosen() -> None:
    readings = {"picture": ONE, "world": truth_of((disc(torch.stack([16 + 1.4 * T, 32 + 0 * T], 1)), RED))}
    assert nearer_reading(ONE.video, readings) == "picture"
    assert nearer_reading(readings["world"].video, readings) == "world"


def test_leaks_of_colour_and_layout_are_counted() -> None:
    asked, reference, others = RED[None], BLUE[None], GREEN[None]
    assert leak_colour(ONE.video, ONE, asked, reference, others) == 0
    dark = clip((disc(ACROSS), 0.6 * RED - 0.4))
    assert leak_colour(dark, ONE, asked, reference, others) == 0  # in the dark it is still red
    assert leak_colour(clip((disc(ACROSS), BLUE)), ONE, asked, reference, others) == 1
    assert leak_colour(clip(), ONE, asked, reference, others) == 0
    other = torch.rand(ONE.video.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    mixed = 0.5 * (ONE.video + other)
    assert leak_layout(mixed, ONE.video, other, ONE) == pytest.approx(20 * math.log10(2), abs=0.1)
    assert leak_layout(ONE.video, ONE.video, other, ONE) == 0


def test_a_camera_is_scored_against_the_flow_of_its_scene() -> None:
    wide = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(2)) - 0.5
    wide = torch.nn.functional.interpolate(wide, scale_factor=8, mode="bicubic")[0]

    def panned(speed: float) -> Tensor:
        starts = [round(20 + speed * frame) for frame in range(9)]
        return torch.stack([wide[:, 40:104, start : start + SIDE] for start in starts])

    depth = torch.full((9, SIDE, SIDE), 4.0)
    lens = torch.tensor([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]).expand(9, 3, 3)
    pose = torch.eye(4).repeat(9, 1, 1)
    pose[:, 0, 3] = -2 * torch.arange(9) * 4 / 64  # the picture moves 2 pixels to the left per frame
    flow = camera_flow(depth, lens, pose, 4)
    assert flow.moved[flow.valid].sub(torch.tensor([-8.0, 0.0])).abs().max() < 1e-4
    same = camera_scores(panned(2), flow)
    share = same["camera_followed"]  # points that a window at the picture's edge loses count as resting
    assert share > 0.9
    assert same["camera_direction"] == pytest.approx(share, abs=0.02)
    assert same["camera_amplitude"] == pytest.approx(share, abs=0.02)
    slow = camera_scores(panned(1), flow)
    assert slow["camera_amplitude"] == pytest.approx(0.5 * slow["camera_followed"], abs=0.02)
    assert camera_scores(panned(2).flip(0), flow)["camera_direction"] < -0.8
    still = camera_scores(panned(0), flow)
    assert still["camera_direction"] == still["camera_amplitude"] == 0


def test_published_fidelity_cannot_tell_a_flipped_clip_and_the_direction_can() -> None:
    # Two bodies that cross: mirrored, each moves the wrong way, and each track finds a partner all the same.
    mirrored = clip(
        (disc(BACK + ACROSS[0] - BACK[0] + torch.tensor([16.0, 0])), RED),
    )
    mirrored = torch.where(
        disc(ACROSS + BACK[0] - ACROSS[0] - torch.tensor([16.0, 0]))[:, None], BLUE[:, None, None], mirrored
    )
    flipped = TWO.video.flip(-1)
    assert motion_fidelity(TWO.video, TWO.video, grid=12) > 0.95
    assert motion_fidelity(flipped, TWO.video, grid=12) > 0.9
    assert motion_scores(mirrored, TWO)["motion_direction"] == pytest.approx(-1, abs=0.02)
    assert motion_fidelity(mirrored, TWO.video, grid=12) > 0.9
    still = ONE.video[:1].expand(FRAMES, -1, -1, -1)
    assert motion_fidelity(still, ONE.video, grid=12) == 0  # steps at rest have no direction


def test_clips_of_other_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="give both alike"):
        motion_scores(ONE.video[:9], ONE)


def test_a_body_that_the_truth_never_shows_is_not_scored_and_stops_nothing() -> None:
    hidden = truth_of((disc(ACROSS), RED), (torch.zeros_like(disc(BACK)), BLUE))
    scores = motion_scores(hidden.video, hidden)
    assert scores["motion_direction"] == pytest.approx(1) and scores["body_kept"] == 1
