"""The source as triangles on the target image: quads between neighbouring pixels, torn at depth jumps.

Every four neighbouring source pixels span a quad of two triangles. A quad whose depths differ by more than
`break_ratio` is torn: it shows nothing, but goes in as an occluder of finite thickness (a shell), so that
no camera looks through the missing back of a foreground object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recapture.models.geometry.cameras import pixel_motion, project_grid

SHELL_GAP = 0.05  # pixels that a shell stays away from the background's pixel centres
SHELL_SETBACK = 1e-4  # a surface wins against the shell that hangs on it


class CameraPair(NamedTuple):
    """The source and the target camera of each frame."""

    source_intrinsics: Tensor  # [T, 3, 3] pixels
    source_world_to_camera: Tensor  # [T, 4, 4]
    target_intrinsics: Tensor  # [T, 3, 3] pixels
    target_world_to_camera: Tensor  # [T, 4, 4]

    def of_frames(self, frame: Tensor | slice) -> CameraPair:
        """Return the pairs of some frames."""
        return CameraPair(*(camera[frame] for camera in self))

    def double(self) -> CameraPair:
        """Return the pairs in float64."""
        return CameraPair(*(camera.double() for camera in self))

    def reversed(self) -> CameraPair:
        """Return the pairs with source and target swapped."""
        return CameraPair(*self[2:], *self[:2])


@dataclass(frozen=True)
class Faces:
    """Triangles on the target image, corners in order of the source's orientation."""

    x: Tensor  # [3, F] pixels
    y: Tensor  # [3, F] pixels
    w: Tensor  # [3, F] 1 / depth, <= 0 where a corner is too near
    frame: Tensor  # [F] int64
    source_area: Tensor  # [F] pixels; 0 marks an occluder that shows nothing

    def __getitem__(self, picked: Tensor) -> Faces:
        return Faces(
            self.x.index_select(1, picked),
            self.y.index_select(1, picked),
            self.w.index_select(1, picked),
            self.frame.index_select(0, picked),
            self.source_area.index_select(0, picked),
        )

    def part(self, numbers: slice) -> Faces:
        """Return the faces of a range of numbers."""
        return Faces(
            self.x[:, numbers],
            self.y[:, numbers],
            self.w[:, numbers],
            self.frame[numbers],
            self.source_area[numbers],
        )


@dataclass(frozen=True)
class Quads:
    """Quads on the target image, corners clockwise from the top left in the source."""

    x: Tensor  # [4, Q] pixels
    y: Tensor  # [4, Q] pixels
    w: Tensor  # [4, Q] 1 / depth, 0 where a corner is too near
    frame: Tensor  # [Q] int64
    source_area: Tensor  # [Q] pixels, of one of two triangles; 0 marks an occluder that shows nothing

    def faces(self) -> Faces:
        """Return the first triangles of all quads, then their second ones."""
        halves = ((0, 1, 3), (1, 2, 3))
        x, y, w = (torch.cat([value[list(half)] for half in halves], 1) for value in (self.x, self.y, self.w))
        return Faces(x, y, w, self.frame.repeat(2), self.source_area.repeat(2))


@dataclass(frozen=True)
class Surface:
    """Quads between neighbouring pixels on the target image, and loose faces beside them."""

    x: Tensor  # [T, h+2, w+2] pixels: pixel centres of the source, and a border at the edge of its image
    y: Tensor  # [T, h+2, w+2] pixels
    w: Tensor  # [T, h+2, w+2] 1 / depth, 0 where a corner is too near
    whole: Tensor  # [T, h+1, w+1] bool, quads that are not torn
    source_area: Tensor  # [h+1, w+1] pixels, of one of a quad's two triangles
    loose: Quads  # lone pixels' squares and occluders

    def faces(self) -> Faces:
        """Return the whole quads' first triangles, their second ones, and the loose faces."""
        frame = torch.arange(len(self.x), device=self.x.device)[:, None, None]
        picked = self.whole.flatten().nonzero()[:, 0]
        x, y, w = (_corners(grid).flatten(1).index_select(1, picked) for grid in (self.x, self.y, self.w))
        quads = Quads(
            x,
            y,
            w,
            frame.expand_as(self.whole).flatten()[picked],
            self.source_area.expand_as(self.whole).flatten()[picked],
        )
        parts = (quads.faces(), self.loose.faces())
        return Faces(*(torch.cat([getattr(f, name) for f in parts], -1) for name in Faces.__annotations__))


def lift(
    depth: Tensor,  # [T, h, w]
    known: Tensor,  # [T, h, w]
    cameras: CameraPair,
    nearest: Tensor,  # [T]
    break_ratio: float,
    shell: float,
) -> Surface:
    """Span quads between neighbouring pixel centres, half a pixel further at the border, and project them."""
    _, height, width = depth.shape
    z = pad(depth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    seen = pad(known[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0] > 0
    u, v = _corner_positions(width, depth), _corner_positions(height, depth)
    usable = _around(seen, torch.logical_and)
    torn = usable & (_around(z, torch.maximum) > _around(z, torch.minimum) * (1 + break_ratio))
    whole = usable & ~torn
    matrix, shift = pixel_motion(*cameras)
    x, y, w = _on_image(project_grid(u, v, z, matrix, shift), nearest[:, None, None])
    motion = _Motion(matrix.to(z.dtype), shift.to(z.dtype), nearest)
    area = (v[1:] - v[:-1])[:, None] * (u[1:] - u[:-1])
    ragged = known & ~(_around(whole, torch.logical_or) & _around(usable, torch.logical_and))
    loose = [_footprints(depth, ragged, motion)]
    if shell > 0:
        loose.append(_shell(u, v, z, torn, motion, break_ratio, shell))
    return Surface(x, y, w, whole, area / 2, _joined(loose))


def face_stretch(faces: Faces) -> Tensor:
    """Return [F]: target area / source area; 0 for occluders and for backs of surfaces."""
    x, y = faces.x - faces.x[0], faces.y - faces.y[0]
    area = (x[1] * y[2] - x[2] * y[1]) / 2
    shown = (faces.source_area > 0) & (area > 0)
    return torch.where(shown, area / faces.source_area.clamp_min(1e-6), 0.0)


def surface_stretch(surface: Surface) -> Tensor:
    """Return `face_stretch` of all the quads' first triangles, all their second ones, and the loose faces."""
    x, y = surface.x, surface.y
    right_x, right_y = x.diff(dim=2), y.diff(dim=2)
    down_x, down_y = x.diff(dim=1), y.diff(dim=1)
    first = right_x[:, :-1] * down_y[..., :-1] - down_x[..., :-1] * right_y[:, :-1]
    second = right_x[:, 1:] * down_y[..., 1:] - down_x[..., 1:] * right_y[:, 1:]
    halves = torch.stack([first, second]) / 2 / surface.source_area
    return torch.cat([halves.clamp_min(0.0).flatten(), face_stretch(surface.loose.faces())])


def _joined(quads: list[Quads]) -> Quads:
    return Quads(*(torch.cat([getattr(q, name) for q in quads], -1) for name in Quads.__annotations__))


def _corner_positions(side: int, like: Tensor) -> Tensor:
    """Return [side + 2]: the image's edge, the pixel centres, the other edge."""
    centres = torch.arange(side, device=like.device, dtype=torch.float32) + 0.5
    return torch.cat([centres.new_zeros(1), centres, centres.new_full((1,), float(side))])


def _corners(grid: Tensor) -> Tensor:
    """Return the four corners of each quad, clockwise from the top left: [4, T, h+1, w+1]."""
    return torch.stack([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, 1:], grid[:, 1:, :-1]])


def _around(grid: Tensor, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return [T,h-1,w-1]: what an operation makes of every four neighbours."""
    beside = of_two(grid[..., :-1], grid[..., 1:])
    return of_two(beside[:, :-1], beside[:, 1:])


class _Motion(NamedTuple):
    """How homogeneous pixels move from the source to the target; see `pixel_motion`."""

    matrix: Tensor  # [T, 3, 3]
    shift: Tensor  # [T, 1, 3]
    nearest: Tensor  # [T], least depth in the target camera


def _project(
    u: Tensor, v: Tensor, z: Tensor, frame: Tensor, motion: _Motion
) -> tuple[Tensor, Tensor, Tensor]:
    """Return target x, y in pixels and 1/depth of loose points [N] of the frames `frame` [N]."""
    points = torch.stack([u * z, v * z, z], dim=-1)
    if len(motion.matrix) == 1:
        target = points @ motion.matrix[0] + motion.shift[0]
    else:
        target = (points[:, None] @ motion.matrix[frame] + motion.shift[frame])[:, 0]
    return _on_image(target.unbind(1), motion.nearest[frame])


def _on_image(target: Sequence[Tensor], nearest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y in pixels and 1/depth (0 where nearer than `nearest`) of three homogeneous coordinates."""
    x, y, depth = target
    w = torch.where(depth > nearest, 1.0 / depth, 0.0)
    return x * w, y * w, w


def _footprints(depth: Tensor, ragged: Tensor, motion: _Motion) -> Quads:
    """Give pixels without whole quads around them their own square, so that thin things do not vanish."""
    frame, row, column = ragged.nonzero(as_tuple=True)
    z = depth[frame, row, column]
    corners = [(column + du, row + dv) for du, dv in ((0, 0), (1, 0), (1, 1), (0, 1))]
    projected = [_project(u.float(), v.float(), z, frame, motion) for u, v in corners]
    x, y, w = (torch.stack([corner[i] for corner in projected]) for i in range(3))
    return Quads(x, y, w, frame, torch.full_like(z, 0.5))


def _shell(
    u: Tensor,
    v: Tensor,
    depth: Tensor,  # [T, h+2, w+2]
    torn: Tensor,  # [T, h+1, w+1]
    motion: _Motion,
    break_ratio: float,
    shell: float,
) -> Quads:
    """Stand two occluders in each torn quad: one at the foreground's depth, one back to (1 + shell) times it.

    The true silhouette is somewhere in the quad; the first keeps the background from showing before it.
    """
    frame, row, column = torn.nonzero(as_tuple=True)
    steps = ((0, 0), (0, 1), (1, 1), (1, 0))
    z = torch.stack([depth[frame, row + below, column + right] for below, right in steps])
    front = z.amin(0)
    behind = z > front * (1 + break_ratio)
    across = torch.stack([u[column + right] for _, right in steps])
    down = torch.stack([v[row + below] for below, _ in steps])
    # just short of the background's pixel centre: the source itself sees no shell
    share = (~behind).float() / (~behind).sum(0)
    across = torch.where(behind, torch.lerp(across, (share * across).sum(0), SHELL_GAP), across)
    down = torch.where(behind, torch.lerp(down, (share * down).sum(0), SHELL_GAP), down)
    lid = torch.where(behind, front, z)
    back = torch.where(behind, front * (1 + shell), z)
    z = torch.cat([lid, back], dim=1) * (1 + SHELL_SETBACK)
    frame, across, down = frame.repeat(2), across.repeat(1, 2), down.repeat(1, 2)
    projected = [_project(across[i], down[i], z[i], frame, motion) for i in range(4)]
    x, y, w = (torch.stack([corner[i] for corner in projected]) for i in range(3))
    return Quads(x, y, w, frame, torch.zeros_like(z[0]))
