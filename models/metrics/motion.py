"""How well a clip performs a motion whose truth is known: bodies along their ways, and the camera's own.

A body that has vanished counts as resting where it was seen last, never as missing: failures are not dropped.
What the truth itself hides (a body behind another) is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.metrics.motion_bodies import Found, MotionTruth, find_bodies, true_places
from recapture.models.metrics.tracks import CameraFlow, tracked_flow

STEP = 4  # frames: one latent; shorter steps would ask for more than a causal VAE keeps
RESTING = 1.0  # pixels per step below which the truth's own motion is not scored
SHIFTS = 4  # frames by which timing may be off at most
NO_ROOM = 0.5  # distance of colours in [-1, 1], over three channels
SWEPT = 2  # pixels around the bodies' ways that belong to them
MOTION = ("motion_direction", "motion_amplitude", "motion_end", "motion_timing", "body_kept", "assignment")
PICTURE = ("psnr_body", "psnr_elsewhere")


def motion_scores(video: Tensor, truth: MotionTruth) -> dict[str, float]:
    """Return MOTION and PICTURE of a clip [T, 3, H, W] in [-1, 1] against the truth.

    motion_direction: mean cosine of displacements over STEP frames, -1 to 1. motion_amplitude: the generated
    way projected on the true one, 1 where they are as long. motion_end: distance of the last places / length
    of the true way. motion_timing: frames by which the clip is late. body_kept: share of frames in which a
    body's area is half to twice the true one. assignment: share of bodies whose way is nearest to their own
    true way (chance: 1 / bodies); NaN for one body. PSNR: on the bodies and all that they sweep, and off it.
    Means are over bodies whose true motion can be seen; NaN where there are none.
    """
    found, true = find_bodies(video, truth), true_places(truth)
    rows = [_body_scores(found, true, body) for body in range(len(truth.parts))]
    scores = {name: _mean([row[name] for row in rows]) for name in MOTION[:-1]}
    scores["assignment"] = assignment(found, true) if truth.bodies > 1 else math.nan
    region = swept(truth)
    error = (video - truth.video).square().mean(1)
    return scores | {"psnr_body": psnr(error[region]), "psnr_elsewhere": psnr(error[~region])}


def nearer_reading(video: Tensor, truths: Mapping[str, MotionTruth]) -> str:
    """Return the reading of "the same motion" whose ways are nearer to the clip's, on average."""

    def away(truth: MotionTruth) -> float:
        found, true = find_bodies(video, truth), true_places(truth)
        return float((found.place - true.place).norm(dim=-1)[true.there].mean())

    return min(truths, key=lambda reading: away(truths[reading]))


def camera_scores(video: Tensor, flow: CameraFlow) -> dict[str, float]:
    """Return camera_direction, camera_amplitude and camera_followed of a clip whose true flow is known.

    Points on a grid are followed over STEP frames (see `tracks.py`) and compared with where the true camera
    puts them. A point that is lost counts as resting. camera_followed: the share that is not lost.
    """
    tracked, kept = tracked_flow(video, flow)
    scored = flow.valid & (flow.moved.norm(dim=-1) >= RESTING)
    if not scored.any():
        return dict.fromkeys(("camera_direction", "camera_amplitude", "camera_followed"), math.nan)
    made, true = torch.where(kept[..., None], tracked, 0.0)[scored], flow.moved[scored]
    return {
        "camera_direction": float(_cosine(made, true).mean()),
        "camera_amplitude": float((made * true).sum() / true.square().sum()),
        "camera_followed": float(kept[scored].double().mean()),
    }


def assignment(found: Found, true: Found) -> float:
    """Return the share of bodies whose way, from their own start, is assigned to their own true way."""
    made, wanted = (one.place - one.place[:, :1] for one in (found, true))
    cost = (made[:, None] - wanted[None]).norm(dim=-1).mean(-1)
    rows, columns = linear_sum_assignment(cost.numpy())
    return float((rows == columns).mean())


def swept(truth: MotionTruth) -> Tensor:
    """Return [T, H, W] bool: the bodies and, where the camera stands still, all that they sweep."""
    bodies = truth.parts.any(0)
    if float(truth.background.diff(dim=0).abs().mean()) < 1e-3:
        bodies = bodies.any(0, keepdim=True).expand_as(bodies)
    side = 2 * SWEPT + 1
    return max_pool2d(bodies[:, None].float(), side, 1, SWEPT)[:, 0].bool()


def leak_colour(
    video: Tensor,
    truth: MotionTruth,
    asked: Tensor,  # [A, 3] colours in [-1, 1]
    reference: Tensor,  # [R, 3]
    others: Tensor,  # [O, 3]
) -> float:
    """Return the share of what is no room that has a colour of the reference.

    A pixel is none of the room where it is farther than NO_ROOM from the room's true pixel; it has the colour
    whose hue and saturation are nearest, whatever the light. 0 where nothing is there. Chance: R of all.
    """
    other = (video - truth.background).norm(dim=1) > NO_ROOM
    pixels = video.movedim(1, -1)[other]
    if not len(pixels):
        return 0.0
    colours = torch.cat([asked, reference, others]).to(pixels)
    nearest = torch.cdist(_chroma(pixels), _chroma(colours)).argmin(1) - len(asked)
    return float(((nearest >= 0) & (nearest < len(reference))).double().mean())


def leak_layout(video: Tensor, base: Tensor, reference: Tensor, truth: MotionTruth) -> float:
    """Return by how many dB a clip is nearer to the reference than the base's sample is, off bodies."""
    off = ~swept(truth)
    made, without = ((one - reference).square().mean(1)[off] for one in (video, base))
    return psnr(made) - psnr(without)


def psnr(error: Tensor) -> float:
    """Return the PSNR of squared errors for a range of 2; NaN of none."""
    return float(10 * torch.log10(4 / error.mean().clamp_min(1e-10))) if error.numel() else math.nan


def _body_scores(found: Found, true: Found, body: int) -> dict[str, float]:
    made, wanted, there = found.place[body], true.place[body], true.there[body]
    both = there[STEP:] & there[:-STEP]
    steps = wanted[STEP:] - wanted[:-STEP]
    moving = both & (steps.norm(dim=-1) >= RESTING)
    ratio = (found.area[body] / true.area[body].clamp_min(1))[there]
    kept = float(((ratio >= 0.5) & (ratio <= 2)).double().mean()) if there.any() else math.nan
    if not moving.any():
        return dict.fromkeys(MOTION[:-1], math.nan) | {"body_kept": kept}
    seen = there.nonzero()[:, 0]
    first, last = int(seen[0]), int(seen[-1])
    way, true_way = (made - made[first])[there], (wanted - wanted[first])[there]
    length = wanted[seen].diff(dim=0).norm(dim=-1).sum()
    return {
        "motion_direction": float(_cosine((made[STEP:] - made[:-STEP])[moving], steps[moving]).mean()),
        "motion_amplitude": float((way * true_way).sum() / true_way.square().sum()),
        "motion_end": float((made[last] - wanted[last]).norm() / length),
        "motion_timing": _late(made, wanted),
        "body_kept": kept,
    }


def _late(made: Tensor, wanted: Tensor) -> float:
    """Return the shift in frames at which velocities agree best; NaN for a way that rests."""
    made, wanted = made.diff(dim=0), wanted.diff(dim=0)
    if made.norm() < 1e-6:
        return math.nan
    agreement = {}
    for shift in sorted(range(-SHIFTS, SHIFTS + 1), key=abs):  # of those alike to 0.01, the smallest
        later = made[max(shift, 0) : len(made) + min(shift, 0)]
        there = wanted[max(-shift, 0) : len(wanted) + min(-shift, 0)]
        size = (later.norm() * there.norm()).clamp_min(1e-9)
        agreement[shift] = round(float((later * there).sum() / size), 2)
    return float(max(agreement, key=lambda shift: agreement[shift]))


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return cosines [...] of vectors [..., 2]; 0 where one has no length."""
    size = first.norm(dim=-1) * second.norm(dim=-1)
    return torch.where(size > 1e-9, (first * second).sum(-1) / size.clamp_min(1e-9), 0.0)


def _chroma(colours: Tensor) -> Tensor:
    """Return colours [..., 3] of [-1, 1] without their brightness."""
    positive = (colours + 1) / 2
    return positive / positive.sum(-1, keepdim=True).clamp_min(0.15)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
