"""Training pairs from one clip: it goes to a new view and back, and what is lost on the way is to be filled.

Double reprojection (EasyCreator): degraded clip and mask share the source's own cameras, so the clip itself
is the clean target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recapture.models.depth.alignment import quantile
from recapture.models.fill.view import SourceView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.geometry.reproject import double_reprojection
from recapture.models.geometry.trajectories import CameraPath, keyframe_path
from recapture.models.training.seeds import uniform

Kind = Literal["source", "cycle", "pseudo"]
FLAT = 1.02  # far over near depth (95 % and 5 % quantile) below which nothing moves against anything else


@dataclass(frozen=True)
class Move:
    """A camera move about the pivot, relative to the source camera."""

    yaw: float  # degrees, + to the right
    pitch: float  # degrees, + up
    radius: float  # share of the pivot's depth by which it approaches
    direct: bool = False  # every frame at the full amount; else gradually from the source's view

    @property
    def angle(self) -> float:
        """Return the size of the yaw in degrees, which rounds are ordered by."""
        return abs(self.yaw)


@dataclass(frozen=True)
class Pair:
    """What the base is shown and what it should make of it."""

    degraded: Tensor  # [T, 3, H, W] in [-1, 1], 0 (grey) in holes
    visible: Tensor  # [T, H, W] bool
    target: Tensor  # [T, 3, H, W] in [-1, 1]
    kind: Kind
    angle: float  # degrees of yaw
    weight: float = 1.0  # how often it is drawn, relative to others

    def shown(self, visible: Tensor) -> Tensor:
        """Return the clip under another mask [T, H, W]: degraded where known, else clean; grey in holes."""
        known = torch.where(self.visible[:, None], self.degraded, self.target)
        return torch.where(visible[:, None], known, torch.zeros_like(known))


def check_source(source: SourceView, name: str, window: int = 1) -> None:
    """Raise ValueError for a clip that cannot be learned from: too short, without depth, without parallax."""
    frames = len(source.video)
    if frames < window:
        raise ValueError(
            f"tuning: clip {name!r} has {frames} frames, a window takes {window};"
            " shorten the window or drop the clip"
        )
    known = (source.known & torch.isfinite(source.depth) & (source.depth > 0))[:, ::2, ::2]
    depth = source.depth[:, ::2, ::2][known]
    if not depth.numel():
        raise ValueError(f"tuning: clip {name!r} has no known depth; re-run its depth or drop the clip")
    ratio = float(quantile(depth, 0.95) / quantile(depth, 0.05))
    if ratio < FLAT:
        raise ValueError(
            f"tuning: clip {name!r} has flat depth (far over near: {ratio:.3f}), so a camera move uncovers"
            " nothing; drop the clip or fix its depth"
        )


def draw_moves(
    count: int,
    low: float,
    high: float,
    random: torch.Generator,
    *,
    pitch_share: float = 0.5,
    radius: float = 0.1,
    direct_share: float = 0.1,
) -> list[Move]:
    """Draw moves with |yaw| uniform in low...high degrees, to both sides in turn.

    |pitch| is at most pitch_share of |yaw|, |radius| at most `radius`; a share `direct_share` of the moves
    starts away from the source's view: raise it, and lower `free_first_frame` of the masks, for an adapter
    that will fill direct moves, whose first frame has holes. Raises ValueError for an unusable range.
    """
    if not 0 <= low <= high < 180:
        raise ValueError(f"tuning: angles from {low:g} to {high:g} degrees; give 0 <= low <= high < 180")
    size = uniform(low, high, (count,), random)
    side = 2 * torch.randint(0, 2, (1,), generator=random, device=random.device) - 1
    yaw = size * side * (1 - 2 * (torch.arange(count, device=random.device) % 2))
    pitch = size * pitch_share * uniform(-1, 1, (count,), random)
    approach = uniform(-radius, radius, (count,), random)
    direct = uniform(0, 1, (count,), random) < direct_share
    return [Move(*values) for values in zip(yaw.tolist(), pitch.tolist(), approach.tolist(), direct.tolist())]


def move_path(source: SourceView, pivot_depth: float, move: Move) -> CameraPath:
    """Return the cameras of a move about the point at pivot_depth on the source's optical axis."""
    key = {"at": 1.0, "phi": move.yaw, "theta": move.pitch, "r": move.radius}
    keys = [key] if move.direct else [{"at": 0.0}, key]
    cameras = source.intrinsics.cpu(), source.world_to_camera.cpu()
    return keyframe_path(keys, *cameras, pivot_depth, interpolation="linear")


def source_pairs(
    source: SourceView, pivot_depth: float, moves: Sequence[Move], surface: SurfaceSettings
) -> Iterator[Pair]:
    """Yield one pair per move, by double reprojection; visible source pixels are kept bit for bit."""
    for move in moves:
        path = move_path(source, pivot_depth, move)
        seen = double_reprojection(
            source.video,
            source.depth,
            source.intrinsics,
            source.world_to_camera,
            path.intrinsics.to(source.depth.device),
            path.world_to_camera.to(source.depth.device),
            surface=surface,
            known=source.known,
        )
        yield Pair(seen.degraded, seen.visible, seen.clean, "source", move.angle)


def shares_of(kinds: Sequence[Kind], weights: Sequence[float], source_share: float) -> Tensor:
    """Return how often each pair is drawn [N] float64: by weight, sources at least by source_share.

    The share of pairs from the real source keeps self-made data from drifting. Raises ValueError where no
    pair has a weight, or no source pair has one.
    """
    weight = torch.tensor(list(weights), dtype=torch.float64)
    real = torch.tensor([kind == "source" for kind in kinds], dtype=torch.bool)
    if not 0 <= source_share <= 1 or (weight < 0).any() or not torch.isfinite(weight).all():
        raise ValueError(f"tuning: source share {source_share}, weights {list(weights)}; use shares in 0...1")
    if not weight.sum() > 0 or (source_share > 0 and not weight[real].sum() > 0):
        raise ValueError(
            f"tuning: {len(weight)} pairs, of which {int((weight[real] > 0).sum())} from the source with a"
            " weight; make some of each clip's own"
        )
    share = weight / weight.sum()
    kept = float(share[real].sum())
    if kept < source_share:
        share = torch.where(real, share * (source_share / kept), share * ((1 - source_share) / (1 - kept)))
    return share
