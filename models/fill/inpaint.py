"""OpenCV inpainting that knows depth: the background flows into a hole, not the object that hid it."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.heartbeat import beating

DEEP = 2  # rims from what is known; a hole nowhere deeper is inpainted at full size
RIM = 1 / 104  # of the frame's longer side: what of a deeper one is; frames up to 364 pixels have none


def inpaint(video: Tensor, known: Tensor, depth: Tensor, radius: float, empty: Tensor) -> Tensor:
    """Inpaint each frame [T, 3, H, W] where not `known` (OpenCV, Telea); `empty` where nothing is known.

    A hole beside a foreground object is background that the object hid. So the rim of the foreground (see
    `foreground`; depth is [T, H, W]) is hidden from Telea too, and only the background flows into the hole,
    as far as there is any. empty: [3] colour. Works on 8-bit values; known pixels keep their own.
    """
    filled = video.clone()
    for t in beating(range(len(video))):
        if known[t].all():
            continue
        if not known[t].any():
            filled[t] = empty[:, None, None]
            continue
        usable = known[t] & ~foreground(depth[t], known[t])
        hole = ~(usable if usable.any() else known[t])
        filled[t] = torch.where(known[t], video[t], _telea(video[t], hole, ~known[t], radius))
    return filled


def close_cracks(video: Tensor, known: Tensor, depth: Tensor, radius: float) -> Tensor:
    """Fill, in place, holes less than 3 pixels wide with what surrounds them; returns where, bool [T, H, W].

    Such a crack is a stretched surface, or an edge, that the render did not quite cover: what is known
    around it belongs there, foreground included, and a look through it to the background would be wrong. It
    takes its depth from the nearest known pixel, and is set known.
    """
    cracks = ~known & ~grown(~grown(known))
    cracked = torch.nonzero(cracks.flatten(1).any(1) & known.flatten(1).any(1)).flatten().tolist()
    for t in beating(cracked):
        picture = _telea(video[t], ~known[t], cracks[t], radius)
        video[t] = torch.where(cracks[t], picture, video[t])
        depth[t] = torch.where(cracks[t], nearest(depth[t], known[t]), depth[t])
        known[t] |= cracks[t]
    return cracks


def grown(where: Tensor) -> Tensor:
    """Return bool [..., H, W] that is True where one of the 3 x 3 pixels around is."""
    found = where.clone()
    found[..., 1:] |= where[..., :-1]
    found[..., :-1] |= where[..., 1:]
    across = found.clone()
    found[..., 1:, :] |= across[..., :-1, :]
    found[..., :-1, :] |= across[..., 1:, :]
    return found


def _telea(frame: Tensor, hole: Tensor, wanted: Tensor, radius: float) -> Tensor:
    """Return cv2.inpaint of one frame [3, H, W] at `wanted` [H, W] bool, part of `hole`; anything elsewhere.

    Holes farther apart than the radius do not know of each other, so each is inpainted in its own part of the
    frame, and only if something of it is wanted. The result is that of the whole frame.
    """
    pixels = ((frame.permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5).round().clip(0, 255)
    done = np.ascontiguousarray(pixels, dtype=np.uint8)
    open_, needed = hole.cpu().numpy().astype(np.uint8), wanted.cpu().numpy()
    side = 2 * (math.ceil(radius) + 2) + 1
    near = cv2.dilate(open_, np.ones((side, side), dtype=np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    inside = _depth_in(open_)
    rim = round(RIM * max(open_.shape))
    if rim < 4:
        rim = max(open_.shape)  # a small frame is inpainted at full size: no hole is that deep
    coarse = _coarse(done, open_, radius, rim) if inside[needed].max(initial=0) > DEEP * rim else done
    for label in np.unique(labels[needed]):
        left, top, width, height = boxes[label, :4]
        part = slice(max(0, top - 1), top + height + 1), slice(max(0, left - 1), left + width + 1)
        own = open_[part] * (labels[part] == label)
        filled = _joined(done[part], own, inside[part] * own, coarse[part], radius, rim)
        done[part][own > 0] = filled[own > 0]
    return torch.from_numpy(done).to(frame).permute(2, 0, 1) / 127.5 - 1


def _depth_in(hole: np.ndarray) -> np.ndarray:
    """Return how many pixels each one of a hole [H, W] uint8 is from what is known; large if nothing is."""
    return np.asarray(cv2.distanceTransform(hole, cv2.DIST_L2, 5))


def _joined(
    pixels: np.ndarray, hole: np.ndarray, inside: np.ndarray, coarse: np.ndarray, radius: float, rim: int
) -> np.ndarray:
    """Inpaint a hole's rim between what is known and, where the hole is deep, `coarse`."""
    if inside.max() <= DEEP * rim:
        return np.asarray(cv2.inpaint(np.ascontiguousarray(pixels), hole, radius, cv2.INPAINT_TELEA))
    deep = inside > rim
    given = np.where(deep[..., None], coarse, pixels)
    return np.asarray(cv2.inpaint(given, hole * ~deep, radius, cv2.INPAINT_TELEA))


def _coarse(pixels: np.ndarray, hole: np.ndarray, radius: float, rim: int) -> np.ndarray:
    """Return a frame [H, W, 3] uint8 inpainted at half its size, and where deep still, at half of that.

    OpenCV's time grows with a hole's area times the length of its edge, and what it invents far from the edge
    are streaks: the deep of a hole is cheaper and nearer to the truth from a smaller picture.
    """
    height, width = hole.shape
    small = (-(-width // 2), -(-height // 2))
    known = (hole == 0).astype(np.float32)
    share = cv2.resize(known, small, interpolation=cv2.INTER_AREA)[..., None]
    sums = cv2.resize(pixels * known[..., None], small, interpolation=cv2.INTER_AREA)
    means = np.rint(np.divide(sums, share, out=np.zeros_like(sums), where=share > 0)).astype(np.uint8)
    empty = (share[..., 0] <= 1e-6).astype(np.uint8)
    inside = _depth_in(empty)
    if empty.all():
        return pixels
    smaller = _coarse(means, empty, radius, rim) if inside.max() > DEEP * rim else means
    filled = _joined(means, empty, inside, smaller, radius, rim)
    return np.asarray(cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR))


def nearest(values: Tensor, seeds: Tensor) -> Tensor:
    """Return values [H, W] at the nearest pixel where seeds [H, W] is True (there must be one)."""
    seed = seeds.cpu().numpy()
    _, labels = cv2.distanceTransformWithLabels(
        (~seed).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(labels.max() + 1, dtype=np.float32)
    table[labels[seed]] = values.float().cpu().numpy()[seed]
    return torch.from_numpy(table[labels]).to(values)


def foreground(depth: Tensor, known: Tensor) -> Tensor:
    """Return the known pixels [H, W] bool of whatever hid the hole beside them.

    From each pixel at a hole's edge one looks straight across the hole, along the row or the column, to the
    known pixel on its other side. The surface here is continued as a plane up to there (disparity is affine
    on a plane, so a floor does not hide its own far end); where what is there is more than 15 % farther
    than the plane, this side is foreground. The rim is what is within 1/6 of the frame's longer side of
    such an edge and is nearer than half way (geometric mean of the disparities) to the other side.
    """
    usable = known & torch.isfinite(depth) & (depth > 0)
    disparity = torch.where(usable, 1 / depth, torch.zeros_like(depth))
    threshold = torch.zeros_like(
        disparity
    )  # at foreground edges: the disparity that parts them from the other side
    for turns in range(4):
        turned = torch.rot90(disparity, turns).contiguous()
        found = _hides_what_is_right_of_it(turned, torch.rot90(~known, turns))
        threshold = torch.maximum(threshold, torch.rot90(found, -turns))
    reach = max(3, round(max(depth.shape) / 6))
    near = largest_within(threshold, reach)
    return usable & (near > 0) & (disparity >= near)


def largest_within(values: Tensor, reach: int) -> Tensor:
    """Return the largest value [..., H, W] within `reach` rows and columns of each pixel.

    What `max_pool2d` with a window of 2 reach + 1 returns, in time that hardly grows with it: the largest of
    windows of 2, 4, 8, ... pixels, each of two of the half, then of two that overlap.
    """
    for axis in (-2, -1):
        window, side = 2 * reach + 1, values.shape[axis]
        edge = values.new_full((), -torch.inf).expand(*values.movedim(axis, -1).shape[:-1], reach)
        found = torch.cat([edge, values.movedim(axis, -1), edge], dim=-1)
        width = 1
        while 2 * width <= window:
            found = torch.maximum(found[..., :-width], found[..., width:])
            width *= 2
        rest = window - width
        values = torch.maximum(found[..., :side], found[..., rest : rest + side]).movedim(-1, axis)
    return values


def _hides_what_is_right_of_it(disparity: Tensor, hole: Tensor) -> Tensor:
    """Return [H, W] the disparity half way at each edge that hides what is right of its hole, else 0."""
    width = disparity.shape[1]
    column = torch.arange(width, device=disparity.device).expand_as(disparity)
    # the next known column at or right of each pixel
    there = torch.where(disparity > 0, column, width).flip(1).cummin(1).values.flip(1)
    there = torch.cat([there[:, 1:], there.new_full((len(there), 1), width)], 1)
    beside_hole = (
        torch.cat([hole[:, 1:], hole.new_zeros(len(hole), 1)], 1) & (disparity > 0) & (there < width)
    )
    other = disparity.gather(1, there.clamp_max(width - 1))
    plane = disparity + (there - column) * _slope(disparity)
    hides = beside_hole & (other * 1.15 < plane)
    return torch.where(hides, (disparity * other).sqrt(), torch.zeros_like(disparity))


def _slope(disparity: Tensor) -> Tensor:
    """Return the change of disparity [H, W] per column from the left neighbour; 0 across an edge."""
    before = torch.cat([torch.zeros_like(disparity[:, :1]), disparity[:, :-1]], 1)
    change = disparity - before
    smooth = (before > 0) & (change.abs() <= 0.1 * disparity)
    return torch.where(smooth, change, torch.zeros_like(change))


def background_depth(depth: Tensor, known: Tensor) -> Tensor:
    """Return depth [H, W], holes with that of the nearest known pixel that is not `foreground`."""
    usable = known & torch.isfinite(depth) & (depth > 0)
    seeds = usable & ~foreground(depth, known)
    if not seeds.any():
        return torch.where(usable, depth, torch.ones_like(depth))
    return torch.where(usable, depth, nearest(depth, seeds))
