"""Several fills of one view: where they differ, and which of them looks best without the truth."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from recapture.models.metrics.image import seam_ring

RING = 8  # pixels around holes in which a fill is compared with what is known
MEASURES = ("consensus", "agreement", "seam", "calm")


def spread_map(fills: Tensor) -> Tensor:
    """Return how far fills [N,T,3,H,W] in [-1,1] are apart: [T,H,W], the deviation as a share of the range.

    The population's standard deviation over the fills, as the root of its mean square over colours.
    """
    return fills.double().var(dim=0, correction=0).mean(dim=1).sqrt().float() / 2


class SeedScores:
    """Scores of fills of one view, added part by part; smaller is better. No score depends on the parts.

    consensus: squared distance from the mean of all fills, in holes: the fill that is most like the others.
    agreement: squared error of the model's own output beside holes, where the render knows better.
    seam: squared step between a hole's pixels and their known neighbours, in the finished picture.
    calm: squared change from frame to frame in holes.
    """

    def __init__(self, fills: int) -> None:
        self._sums = {name: np.zeros(fills) for name in MEASURES}
        self._counts = dict.fromkeys(MEASURES, 0)
        self._last: tuple[Tensor, Tensor] | None = None
        self._spread, self._holes = 0.0, 0

    def add(self, fills: Tensor, unpasted: Tensor, video: Tensor, visible: Tensor) -> Tensor:
        """Take the next frames of every fill [N,t,3,H,W], and return their spread [t,H,W].

        unpasted: the same before known pixels were put back; video [t,3,H,W], visible [t,H,W]: the render.
        """
        hole = ~visible
        away = (fills - fills.mean(dim=0)).square().mean(dim=2)
        self._take("consensus", away, hole)
        ring = seam_ring(visible, RING) & visible
        self._take("agreement", (unpasted - video).square().mean(dim=2), ring)
        for axis in (3, 2):
            step = fills.diff(dim=axis + 1).square().mean(dim=2)
            edge = hole.narrow(axis - 1, 1, hole.shape[axis - 1] - 1) != hole.narrow(
                axis - 1, 0, hole.shape[axis - 1] - 1
            )
            self._take("seam", step, edge)
        frames, holes = fills, hole
        if self._last is not None:
            frames = torch.cat([self._last[0], fills], dim=1)
            holes = torch.cat([self._last[1], hole])
        self._take("calm", frames.diff(dim=1).square().mean(dim=2), holes[1:] & holes[:-1])
        self._last = fills[:, -1:].clone(), hole[-1:].clone()
        found = spread_map(fills)
        self._spread += float(found[hole].double().sum())
        self._holes += int(hole.sum())
        return found

    def _take(self, name: str, errors: Tensor, region: Tensor) -> None:
        """Add errors [N,t,H,W] where region [t,H,W]."""
        self._sums[name] += (errors * region).sum(dim=(1, 2, 3), dtype=torch.float64).cpu().numpy()
        self._counts[name] += int(region.sum())

    @property
    def spread(self) -> float:
        """Return the mean spread in holes; 0 where there are none."""
        return self._spread / self._holes if self._holes else 0.0

    def scores(self) -> dict[str, list[float]]:
        """Return measure -> a score per fill; 0 for all where there is nothing to measure."""
        return {name: (self._sums[name] / max(1, self._counts[name])).tolist() for name in MEASURES}

    def best(self, by: str) -> int:
        """Return the number of the best fill by a measure, or by mean rank in all; the first of equals."""
        scores = self.scores()
        if by == "ranks":
            return int(np.mean([rankdata(scores[name]) for name in MEASURES], axis=0).argmin())
        return 0 if by == "first" else int(np.argmin(scores[by]))
