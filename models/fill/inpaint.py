"""OpenCV inpainting that knows depth: the background flows into a hole, not the object that hid it."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d


def inpaint(video: Tensor, known: Tensor, depth: Tensor, radius: float, empty: Tensor) -> Tensor:
    """OpenCV's Telea inpainting of each frame [T, 3, H, W] where not `known`; `empty` where nothing is known.

    A hole beside a foreground object is background that the object hid. So the rim of the foreground (see
    `foreground`; depth is [T, H, W]) is hidden from Telea too, and only the background flows into the hole,
    as far as there is any. empty: [3] colour. Works on 8-bit values; known pixels keep their own.
    """
    filled = video.clone()
    for t in range(len(video)):
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
    for t in torch.nonzero(cracks.flatten(1).any(1) & known.flatten(1).any(1)).flatten().tolist():
        picture = _telea(video[t], (~known[t]).cpu().numpy().astype(np.uint8), radius)
        video[t] = torch.where(cracks[t], picture, video[t])
        depth[t] = torch.where(cracks[t], nearest(depth[t], known[t]), depth[t])
        known[t] |= cracks[t]
    return cracks


def _telea(frame: Tensor, hole: np.ndarray, radius: float) -> Tensor:
    """cv2.inpaint of one frame [3, H, W] where hole [H, W] uint8 is 1."""
    pixels = ((frame.permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5).round().clip(0, 255)
    done = cv2.inpaint(np.ascontiguousarray(pixels, dtype=np.uint8), hole, radius, cv2.INPAINT_TELEA)
    return torch.from_numpy(done).to(frame).permute(2, 0, 1) / 127.5 - 1


def nearest(values: Tensor, seeds: Tensor) -> Tensor:
    """values [H, W] at the nearest pixel where seeds [H, W] is True (there must be one)."""
    seed = seeds.cpu().numpy()
    _, labels = cv2.distanceTransformWithLabels(
        (~seed).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(labels.max() + 1, dtype=np.float32)
    table[labels[seed]] = values.float().cpu().numpy()[seed]
    return torch.from_numpy(table[labels]).to(values)


def foreground(depth: Tensor, known: Tensor) -> Tensor:
    """Known pixels [H, W] that stand before something known nearby, beside a hole: bool [H, W].

    The surface of each pixel is continued as a plane (disparity is affine on a plane, so a floor does not
    stand before its own far end) to known pixels 1/36, 1/18 and 1/12 of the longer side away in eight
    directions; where what is there is more than 15 % farther than the plane, the pixel is foreground. Only
    those are returned that lie within 1/12 of the longer side of a hole.
    """
    reach = max(3, round(max(depth.shape) / 12))
    usable = known & torch.isfinite(depth) & (depth > 0)
    disparity = torch.where(usable, 1 / depth, torch.zeros_like(depth))
    slope_y, slope_x = (_slope(disparity, usable, axis) for axis in (0, 1))
    before = torch.zeros_like(usable)
    for distance in sorted({max(1, reach // 3), max(1, 2 * reach // 3), reach}):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1)):
            there = _shifted(disparity, dy * distance, dx * distance)
            plane = disparity + distance * (dy * slope_y + dx * slope_x)
            before |= (there > 0) & (there * 1.15 < plane)
    beside_hole = max_pool2d((~known)[None, None].float(), 2 * reach + 1, 1, reach)[0, 0] > 0
    return usable & before & beside_hole


def background_depth(depth: Tensor, known: Tensor) -> Tensor:
    """Depth [H, W] with each hole pixel given that of the nearest known pixel that is not `foreground`."""
    usable = known & torch.isfinite(depth) & (depth > 0)
    seeds = usable & ~foreground(depth, known)
    if not seeds.any():
        return torch.where(usable, depth, torch.ones_like(depth))
    return torch.where(usable, depth, nearest(depth, seeds))


def _shifted(image: Tensor, dy: int, dx: int) -> Tensor:
    """The image [H, W] at (y + dy, x + dx), 0 outside."""
    height, width = image.shape
    moved = torch.zeros_like(image)
    if abs(dy) < height and abs(dx) < width:
        rows = slice(max(0, -dy), height - max(0, dy)), slice(max(0, dy), height - max(0, -dy))
        columns = slice(max(0, -dx), width - max(0, dx)), slice(max(0, dx), width - max(0, -dx))
        moved[rows[0], columns[0]] = image[rows[1], columns[1]]
    return moved


def _slope(disparity: Tensor, usable: Tensor, axis: int) -> Tensor:
    """Change of disparity [H, W] a pixel along an axis: the smaller one-sided difference."""
    step = (1, 0) if axis == 0 else (0, 1)
    ahead = _shifted(disparity, *step) - disparity
    behind = disparity - _shifted(disparity, -step[0], -step[1])
    with_ahead = usable & (_shifted(disparity, *step) > 0)
    with_behind = usable & (_shifted(disparity, -step[0], -step[1]) > 0)
    infinite = torch.full_like(disparity, float("inf"))
    ahead, behind = torch.where(with_ahead, ahead, infinite), torch.where(with_behind, behind, infinite)
    slope = torch.where(ahead.abs() < behind.abs(), ahead, behind)
    return torch.where(torch.isfinite(slope), slope, torch.zeros_like(slope))
