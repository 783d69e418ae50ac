"""Depth of single frames or windows made consistent over a clip, with a state of constant size.

Depth models err by a scale, and most also by a shift of 1/depth, that change from frame to frame.
Everything here works on disparity = 1/depth, where both are affine: disparity = a * prediction + b.

Inverse depth (scale and shift unknown). A key frame's disparity is kept. Each new frame is fitted to it on
the pixels where the two agree: the first fit uses all pixels, then pixels with a residual over 2.5 robust
standard deviations (moving things, newly seen ones) are left out and the fit repeated, five times. The fit
is the reduced major axis (ratio of standard deviations), not least squares: least squares with noise in the
prediction shrinks a each time, and over thousands of frames the scene would collapse. When fewer than half
of the pixels agree (the camera has moved on), the frame last aligned becomes the key frame and the fit is
repeated: a still camera never drifts, a moving one by the error of one fit a key frame. That error is small
but can be one-sided (measured on a sliding wall with noise: +0.2 % of scale a key, a factor of 6 after 1000
keys), so each new key frame is first pulled 5 % of the way back to the mean and spread of the clip's first
frame. When not even the last frame agrees (a cut), mean and spread of all pixels are matched. The first
frame fixes scale and shift of the clip: see `Scale`. What this cannot know: a camera that walks straight at
a wall changes disparity by a scale too, and is undone.

Metric depth (scale flickers about the truth). Each frame's scale follows the frame before it (median
ratio), but leaks 10 % a frame back to the model's own: flicker shrinks to about a quarter, and true motion
is followed with a lag of at most ten frames.

A model of whole videos is consistent by itself: the first frame's scale and shift hold for the whole clip,
and nothing is fitted.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["inverse", "metric"]
PULL = 0.05  # of the way back to the first frame's mean and spread, at each new key frame
LEAK = 0.1  # of the way back to a metric model's own scale, at each frame
MIN_AGREEMENT = 0.5  # share of pixels that must fit the key frame
_ROUNDS = 5


@dataclass(frozen=True)
class Scale:
    """What the first frame's predictions mean in scene units.

    inverse: a prediction is disparity up to scale and shift. The shift is chosen so that the farthest point
    (1 % quantile of the prediction) is `far_ratio` times as deep as the nearest (99 %), the scale so that
    the median depth is `median_depth`. metric: a prediction is depth in scene units; it is multiplied by
    `factor`, and `median_depth` and `far_ratio` are not used. No depth leaves [0, limit * median_depth] (or
    limit * the first frame's median for metric).
    """

    median_depth: float = 4.0
    far_ratio: float = 10.0
    factor: float = 1.0
    limit: float = 25.0


@dataclass(frozen=True)
class AlignmentState:
    """What the next chunk must know of all chunks before it: two frames, whatever the clip's length."""

    key: Tensor  # [H, W] disparity of the key frame, NaN where unknown
    last: Tensor  # [H, W] disparity of the frame last aligned
    first_gain: float  # what turns a prediction into disparity by itself: gain * prediction + shift
    first_shift: float
    mean: float  # of the first frame's disparity
    spread: float  # its standard deviation
    least: float  # disparity floor: 1 / the deepest depth
    frames: int  # aligned so far
    keys: int  # key frames so far


def align_depth(
    prediction: Tensor,  # [T, H, W] what the model says; non-finite (metric: or <= 0) = unknown
    kind: Kind,
    state: AlignmentState | None = None,
    *,
    scale: Scale = Scale(),
    consistent: bool = False,
) -> tuple[Tensor, AlignmentState]:
    """Return consistent z-depth [T, H, W] in scene units (NaN: unknown), and the next chunk's state.

    kind 'inverse' fits scale and shift of disparity, 'metric' the scale alone. consistent: the predictions of
    all frames share one scale and shift already, and keep it.
    Cutting a clip into chunks changes nothing: the same frames in the same order give the same bytes.
    Raises ValueError when a frame has no known pixel.
    """
    depths = []
    for frame in prediction.double():
        number = state.frames if state else 0
        known = torch.isfinite(frame) & ((frame > 0) if kind == "metric" else torch.ones_like(frame).bool())
        if not known.any():
            raise ValueError(
                f"depth: frame {number} has no finite prediction; drop the clip or fix its depth"
            )
        raw = torch.where(
            known, 1 / frame if kind == "metric" else frame, torch.full_like(frame, float("nan"))
        )
        if state is None:
            state = _first_frame(raw, kind, scale)
            aligned = state.last
        elif consistent:
            aligned, state = _same_scale(raw, kind, state, scale)
        else:
            aligned, state = _next_frame(raw, kind, state)
        # the state keeps what was fitted, not the floored values, or the floor would bias every later fit
        depths.append(1 / aligned.clamp_min(state.least))
    if state is None:
        raise ValueError("depth: cannot align an empty chunk")
    return torch.stack(depths).to(prediction.dtype), state


def _first_frame(raw: Tensor, kind: Kind, scale: Scale) -> AlignmentState:
    known = raw[~raw.isnan()]
    if kind == "metric":
        gain, shift = 1 / scale.factor, 0.0
        least = 1 / (scale.limit * float(1 / (known * gain).median()))
    else:
        far, near = quantile(known, 0.01), quantile(known, 0.99)
        # near + b = far_ratio * (far + b); the median then fixes the factor
        offset = (near - far) / (scale.far_ratio - 1) - far
        middle = float((known + offset).median()) * scale.median_depth
        # a flat frame has no range to stretch
        gain, shift = (1 / middle, float(offset) / middle) if near > far else (0.0, 1 / scale.median_depth)
        least = 1 / (scale.limit * scale.median_depth)
    disparity = gain * raw + shift
    mean, spread = _moments(disparity)
    return AlignmentState(disparity, disparity, gain, shift, mean, spread, least, 1, 1)


def _same_scale(
    raw: Tensor, kind: Kind, state: AlignmentState, scale: Scale
) -> tuple[Tensor, AlignmentState]:
    if state.first_gain == 0:  # flat so far: this frame says what the scale is
        state = replace(_first_frame(raw, kind, scale), frames=state.frames, keys=state.keys)
    aligned = state.first_gain * raw + state.first_shift
    return aligned, replace(state, last=aligned, frames=state.frames + 1)


def _next_frame(raw: Tensor, kind: Kind, state: AlignmentState) -> tuple[Tensor, AlignmentState]:
    if kind == "metric":
        a, b = follow_scale(raw, state.last) ** (1 - LEAK) * state.first_gain**LEAK, 0.0
    else:
        a, b, agreement = fit_disparity(raw, state.key)
        if agreement < MIN_AGREEMENT:
            state = replace(state, key=_pulled_back(state), keys=state.keys + 1)
            a, b, agreement = fit_disparity(raw, state.key)
        if agreement < MIN_AGREEMENT:
            a, b = _match_spread(raw, state.key)
    aligned = a * raw + b
    return aligned, replace(state, last=aligned, frames=state.frames + 1)


def _match_spread(raw: Tensor, reference: Tensor) -> tuple[float, float]:
    """Return a, b that give raw's known pixels the mean and standard deviation of reference's."""
    mean, spread = _moments(raw)
    wanted_mean, wanted_spread = _moments(reference)
    a = wanted_spread / spread if spread > 1e-12 else 1.0
    return a, wanted_mean - a * mean


def _pulled_back(state: AlignmentState) -> Tensor:
    mean, spread = _moments(state.last)
    gain = (state.spread / spread) ** PULL if min(spread, state.spread) > 1e-12 else 1.0
    return (state.last - mean) * gain + mean + PULL * (state.mean - mean)


def _moments(disparity: Tensor) -> tuple[float, float]:
    known = disparity[~disparity.isnan()]
    return float(known.mean()), float(known.std(correction=0))


def follow_scale(raw: Tensor, reference: Tensor) -> float:
    """Return the median ratio of reference to raw [H, W] (NaN: unknown); 1 without common pixels."""
    ratio = reference / raw
    ratio = ratio[~ratio.isnan()]
    return float(ratio.median()) if ratio.numel() else 1.0


def fit_disparity(raw: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """Return a > 0, b such that a * raw + b follows reference [H, W] (NaN: unknown), and agreement.

    The reduced major axis on the pixels that agree, see above. The third value is the share of common
    pixels whose residual is within a quarter of the reference's standard deviation. Where raw is flat only
    b is fitted; without common pixels a = 1, b = 0.
    """
    common = ~raw.isnan() & ~reference.isnan()
    x, y = raw[common], reference[common]
    if not x.numel():
        return 1.0, 0.0, 0.0
    kept = torch.ones_like(x, dtype=torch.bool)
    a, b = 1.0, 0.0
    for _ in range(_ROUNDS):
        u, v = x[kept], y[kept]
        spread = float(u.std(correction=0)) if u.numel() else 0.0
        a = float(v.std(correction=0)) / spread if spread > 1e-12 else 1.0
        b = float(v.mean()) - a * float(u.mean())
        residual = (a * x + b - y).abs()
        kept = residual <= 2.5 * 1.4826 * residual.median() + 1e-12
    close = (a * x + b - y).abs() <= 0.25 * float(y.std(correction=0)) + 1e-12
    return a, b, float(close.double().mean())


def quantile(values: Tensor, share: float) -> Tensor:
    """Return the quantile of any number of values (torch.quantile stops at 16 million)."""
    count = values.numel()
    return values.flatten().kthvalue(1 + round(share * (count - 1))).values


def check_depth(
    depth: Tensor,  # [T, H, W]
    clip: str,
    *,
    first_frame: int = 0,
    max_unknown_share: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Return the depth with unusable pixels set to 0, and `known` [T, H, W] bool, False there.

    The rule: a pixel that is non-finite, zero or negative is unknown, and never lifted. A frame with more
    than `max_unknown_share` of such pixels is an error: ValueError naming the clip and the frames (counted
    from `first_frame`, for chunks).
    """
    known = torch.isfinite(depth) & (depth > 0)
    unknown_share = 1 - known.double().mean((1, 2))
    bad = torch.nonzero(unknown_share > max_unknown_share).flatten().tolist()
    if bad:
        named = ", ".join(str(first_frame + n) for n in bad[:12]) + (", ..." if len(bad) > 12 else "")
        raise ValueError(
            f"clip {clip!r}: depth has {len(bad)} frames ({named}) with more than {max_unknown_share:.0%}"
            f" non-finite, zero or negative pixels (up to {float(unknown_share.max()):.0%}); fix or"
            " remove the clip's depth file, set depth.source to a model, or raise depth.max_unknown_share"
        )
    return torch.where(known, depth, torch.zeros_like(depth)), known
