"""OpenCV inpainting that knows depth: the background flows into a hole, not the object that hid it."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.conf.heartbeat import beating


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
        hole = (~(usable if usable.any() else known[t])).cpu().numpy().astype(np.uint8)
        filled[t] = torch.where(known[t], video[t], _telea(video[t], hole, radius))
    return filled


def close_cracks(video: Tensor, known: Tensor, depth: Tensor, radius: float) -> Tensor:
    """Fill, in place, holes less than 3 pixels wide with what surrounds them; returns where, bool [T, H, W].

    Such a crack is a stretched surface, or an edge, that the render did not quite cover: what is known
    around it belongs there, foreground included, and a look through it to the background would be wrong. It
    takes its depth from the nearest known pixel, and is set known.
    """
    hole = (~known)[:, None].float()
    eroded = 1 - max_pool2d(1 - hole, 3, 1, 1)
    cracks = ~known & (max_pool2d(eroded, 3, 1, 1)[:, 0] == 0)
    cracked = torch.nonzero(cracks.flatten(1).any(1) & known.flatten(1).any(1)).flatten().tolist()
    for t in beating(cracked):
        picture = _telea(video[t], (~known[t]).cpu().numpy().astype(np.uint8), radius)
        video[t] = torch.where(cracks[t], picture, video[t])
        depth[t] = torch.where(cracks[t], nearest(depth[t], known[t]), depth[t])
        known[t] |= cracks[t]
    return cracks


def _telea(frame: Tensor, hole: np.ndarray, radius: float) -> Tensor:
    """Return cv2.inpaint of one frame [3, H, W] where hole [H, W] uint8 is 1."""
    pixels = ((frame.permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5).round().clip(0, 255)
    done = cv2.inpaint(np.ascontiguousarray(pixels, dtype=np.uint8), hole, radius, cv2.INPAINT_TELEA)
    return torch.from_numpy(done).to(frame).permute(2, 0, 1) / 127.5 - 1


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
        turned = torch.rot90(disparity, turns)
        found = _hides_what_is_right_of_it(turned, torch.rot90(~known, turns))
        threshold = torch.maximum(threshold, torch.rot90(found, -turns))
    reach = max(3, round(max(depth.shape) / 6))
    near = max_pool2d(threshold[None, None], 2 * reach + 1, 1, reach)[0, 0]
    return usable & (near > 0) & (disparity >= near)


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
