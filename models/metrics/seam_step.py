"""How far the boundary of holes shows in a finished picture, without any truth."""

import numpy as np


def seam_step(picture: np.ndarray, visible: np.ndarray) -> float:
    """Return by how many 8-bit levels neighbours differ more across the boundary of holes than beside it.

    picture: uint8 [H,W,3]; visible: bool [H,W], True where the source saw the pixel. Steps are between pixels
    beside or above each other, the mean over channels. Those beside the boundary have one pixel at it and
    both pixels on one side. 0: the boundary cannot be told from what is around it; NaN: there is none.
    """
    colours = picture.astype(np.int16)
    across: list[np.ndarray] = []
    beside: list[np.ndarray] = []
    for axis in (0, 1):
        steps = np.abs(np.diff(colours, axis=axis)).mean(-1)
        edge = np.diff(visible, axis=axis)
        near = np.zeros_like(edge)
        along = near if axis == 0 else near.T
        crossed = edge if axis == 0 else edge.T
        along[1:] |= crossed[:-1]
        along[:-1] |= crossed[1:]
        across.append(steps[edge])
        beside.append(steps[near & ~edge])
    steps_across, steps_beside = np.concatenate(across), np.concatenate(beside)
    if not len(steps_across) or not len(steps_beside):
        return float("nan")
    return float(steps_across.mean() - steps_beside.mean())
