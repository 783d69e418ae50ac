"""Render a video with depth from new cameras: a triangle z-buffer over the source's pixel grid.

Every four neighbouring source pixels span a quad of two triangles. A quad whose depths differ by more than
`break_ratio` is torn: it shows nothing, but goes in as an occluder of finite thickness, so that nobody looks
through the missing back of a foreground object. Which surface wins a target pixel is decided by a z-buffer of
integer keys (depth bits, then face number), so that the same input gives the same bytes. Colour is looked up
once a target pixel, where the winning surface point lies in the source (deferred shading).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from recapture.models.geometry.cameras import invert_rigid

EMPTY = 2**63 - 1  # larger than every key: the bits of a positive float32, then a face number
SLACK = 1e-3  # pixels; closes the seams that rounding would leave between neighbouring triangles
SHELL_GAP = 0.05  # pixels that a shell stays away from the background's pixel centres
SHELL_SETBACK = 1e-4  # a surface wins against the shell that hangs on it
SMALL = 2  # faces that cover at most so many pixel centres a side are drawn without a list of candidates
CHUNK_QUADS = 1 << 23  # quads drawn at once on an accelerator; bounds memory to about 6 GB
CANDIDATES = 1 << 24  # pixel centres tested at once for faces that cover more


@dataclass(frozen=True)
class Rendered:
    """What the target cameras see of the source."""

    video: Tensor  # [T, 3, H, W] in [-1, 1], 0 (grey) in holes
    visible: Tensor  # [T, H, W] bool, True where the source saw the surface
    depth: Tensor  # [T, H, W] z-depth in the target camera, inf in holes
    stretch: Tensor  # [T, H, W] >= 1, the factor by which source pixels are magnified (area); 1 in holes


def render(
    video: Tensor,  # [T, 3, h, w] in [-1, 1]
    depth: Tensor,  # [T, h, w] z-depth in scene units
    source_intrinsics: Tensor,  # [T, 3, 3] pixels
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3] pixels
    target_world_to_camera: Tensor,  # [T, 4, 4]
    *,
    size: tuple[int, int] | None = None,
    known: Tensor | None = None,  # [T, h, w] bool, source pixels that may be lifted
    break_ratio: float = 0.05,
    shell: float = 0.3,
    near: float = 1e-3,
    max_stretch: float | None = None,
) -> Rendered:
    """Lift every frame to 3D and film it with the target camera of the same frame.

    size: (H, W) of the target, by default the source's. Source pixels with depth that is not finite and
    positive are never lifted. break_ratio: a quad with (max - min) / min depth above it is torn. shell: how
    deep, as a share of the foreground's depth, a torn quad occludes; 0 leaves it out. near: triangles with a
    corner closer to the target camera than near x the frame's median depth are dropped, so that what is
    behind the camera never shows. max_stretch: surfaces magnified more (in area) become holes.
    """
    frames, _, height, width = video.shape
    size = (height, width) if size is None else size
    usable = torch.isfinite(depth) & (depth > 0)
    known = usable if known is None else usable & known
    depth = torch.where(known, depth, torch.ones_like(depth)).float()
    chunk = 1 if video.device.type == "cpu" else max(1, CHUNK_QUADS // (height * width))
    parts = [
        _render_chunk(
            *(video[part].float(), depth[part], known[part]),
            *(source_intrinsics[part].double(), source_world_to_camera[part].double()),
            *(target_intrinsics[part].double(), target_world_to_camera[part].double()),
            *(size, break_ratio, shell, near, max_stretch),
        )
        for part in (slice(start, start + chunk) for start in range(0, frames, chunk))
    ]
    return Rendered(
        *(torch.cat([getattr(part, field) for part in parts]) for field in Rendered.__annotations__)
    )


def project_points(
    points: Tensor,  # [T, N, 3] pixel coordinates times depth: (u z, v z, z)
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3]
    target_world_to_camera: Tensor,  # [T, 4, 4]
) -> Tensor:
    """Carry homogeneous source pixels to homogeneous target pixels [T,N,3]; matrices are composed in float64."""
    motion = target_world_to_camera @ invert_rigid(source_world_to_camera)
    matrix = target_intrinsics @ motion[:, :3, :3] @ torch.linalg.inv(source_intrinsics)
    shift = target_intrinsics @ motion[:, :3, 3:]
    return points @ matrix.transpose(1, 2).to(points.dtype) + shift.transpose(1, 2).to(points.dtype)


@dataclass(frozen=True)
class _Faces:
    """Triangles on the target image, corners in order of the source's orientation."""

    x: Tensor  # [3, F] pixels
    y: Tensor  # [3, F] pixels
    w: Tensor  # [3, F] 1 / depth, <= 0 where a corner is too near
    frame: Tensor  # [F] int64
    source_area: Tensor  # [F] pixels; 0 marks an occluder that shows nothing

    def __getitem__(self, picked: Tensor) -> _Faces:
        return _Faces(
            self.x[:, picked],
            self.y[:, picked],
            self.w[:, picked],
            self.frame[picked],
            self.source_area[picked],
        )


def _render_chunk(
    video: Tensor,
    depth: Tensor,
    known: Tensor,
    source_intrinsics: Tensor,
    source_world_to_camera: Tensor,
    target_intrinsics: Tensor,
    target_world_to_camera: Tensor,
    size: tuple[int, int],
    break_ratio: float,
    shell: float,
    near: float,
    max_stretch: float | None,
) -> Rendered:
    frames = len(video)
    cameras = (source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera)
    nearest = near * depth.flatten(1).median(1).values
    faces = _on_screen(_lift(depth, known, cameras, nearest, break_ratio, shell), size)
    keys = _z_buffer(faces, frames, size)
    hit = keys != EMPTY
    face = torch.where(hit, keys & 0xFFFFFFFF, 0)
    z = torch.where(hit, (keys >> 32).int().view(torch.float32), 1.0)
    stretch = _stretch(faces, face) if len(faces.frame) else torch.zeros_like(z)
    visible = hit & (stretch > 0)
    if max_stretch is not None:
        visible &= stretch <= max_stretch
    visible, z, stretch = (value.view(frames, *size) for value in (visible, z, stretch))
    return Rendered(
        _shade(video, z, visible, cameras),
        visible,
        torch.where(visible, z, torch.inf),
        torch.where(visible, stretch.clamp_min(1.0), 1.0),
    )


def _lift(
    depth: Tensor,  # [T, h, w]
    known: Tensor,  # [T, h, w]
    cameras: tuple[Tensor, Tensor, Tensor, Tensor],
    nearest: Tensor,  # [T]
    break_ratio: float,
    shell: float,
) -> _Faces:
    """Span quads between neighbouring pixel centres, half a pixel further at the border, and project them."""
    frames, height, width = depth.shape
    z = pad(depth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    seen = pad(known[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0] > 0
    u, v = _corner_positions(width, depth), _corner_positions(height, depth)
    corners_z = _corners(z)
    lowest, highest = corners_z.amin(0), corners_z.amax(0)
    usable = _corners(seen).all(0)
    torn = usable & (highest > lowest * (1 + break_ratio))
    whole = usable & ~torn
    x, y, w = _project(u[None, None, :], v[None, :, None], z, cameras, nearest)
    area = (v[1:] - v[:-1])[:, None] * (u[1:] - u[:-1])
    surface = _triangles(
        *(_corners(value).flatten(1) for value in (x, y, w)),
        torch.arange(frames, device=z.device)[:, None, None].expand_as(whole).flatten(),
        (area.expand_as(whole) / 2).flatten(),
        whole.flatten(),
    )
    ragged = known & (~_touched(whole) | _touched(~usable))
    faces = [surface, _footprints(depth, ragged, cameras, nearest)]
    if shell > 0:
        faces.append(_shell(u, v, corners_z, torn, cameras, nearest, break_ratio, shell))
    return _Faces(*(torch.cat([getattr(f, name) for f in faces], -1) for name in _Faces.__annotations__))


def _corner_positions(side: int, like: Tensor) -> Tensor:
    """Return [side + 2]: the image's edge, the pixel centres, the other edge."""
    centres = torch.arange(side, device=like.device, dtype=torch.float32) + 0.5
    return torch.cat([centres.new_zeros(1), centres, centres.new_full((1,), float(side))])


def _corners(grid: Tensor) -> Tensor:
    """Return the four corners of each quad, clockwise from the top left: [4, T, h+1, w+1]."""
    return torch.stack([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, 1:], grid[:, 1:, :-1]])


def _touched(quads: Tensor) -> Tensor:
    """Return [T,h,w]: pixels that are a corner of at least one of the quads."""
    return quads[:, :-1, :-1] | quads[:, :-1, 1:] | quads[:, 1:, 1:] | quads[:, 1:, :-1]


def _project(
    u: Tensor, v: Tensor, z: Tensor, cameras: tuple[Tensor, Tensor, Tensor, Tensor], nearest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return target x, y in pixels and 1/depth (0 where nearer than `nearest`) of source pixels [T,...]."""
    points = torch.stack([u * z, v * z, z.expand_as(u * z)], dim=-1)
    target = project_points(points.flatten(1, -2), *cameras).view(points.shape)
    depth = target[..., 2]
    fine = depth > nearest.view(-1, *[1] * (depth.ndim - 1))
    w = torch.where(fine, 1.0 / torch.where(fine, depth, 1.0), 0.0)
    return target[..., 0] * w, target[..., 1] * w, w


def _triangles(x: Tensor, y: Tensor, w: Tensor, frame: Tensor, area: Tensor, kept: Tensor) -> _Faces:
    """Cut quads (corners [4,Q]) into two triangles each; `area` [Q] is a triangle's in the source."""
    picked = kept.nonzero()[:, 0]
    x, y, w = x[:, picked], y[:, picked], w[:, picked]
    halves = ((0, 1, 3), (1, 2, 3))
    return _Faces(
        *(torch.cat([value[list(half)] for half in halves], 1) for value in (x, y, w)),
        frame[picked].repeat(2),
        area[picked].repeat(2),
    )


def _footprints(
    depth: Tensor, ragged: Tensor, cameras: tuple[Tensor, Tensor, Tensor, Tensor], nearest: Tensor
) -> _Faces:
    """Give pixels without whole quads around them their own square, so that thin things do not vanish."""
    frame, row, column = ragged.nonzero(as_tuple=True)
    z = depth[frame, row, column]
    corners = [(column + du, row + dv) for du, dv in ((0, 0), (1, 0), (1, 1), (0, 1))]
    projected = [_project_each(u.float(), v.float(), z, frame, cameras, nearest) for u, v in corners]
    x, y, w = (torch.stack([corner[i] for corner in projected]) for i in range(3))
    return _triangles(x, y, w, frame, torch.full_like(z, 0.5), torch.ones_like(frame, dtype=torch.bool))


def _shell(
    u: Tensor,
    v: Tensor,
    corners_z: Tensor,  # [4, T, h+1, w+1]
    torn: Tensor,  # [T, h+1, w+1]
    cameras: tuple[Tensor, Tensor, Tensor, Tensor],
    nearest: Tensor,
    break_ratio: float,
    shell: float,
) -> _Faces:
    """Stand two occluders in each torn quad: one at the foreground's depth, one back to (1 + shell) times it.

    The true silhouette lies somewhere in the quad; the first keeps the background from showing before it.
    """
    frame, row, column = torn.nonzero(as_tuple=True)
    z = corners_z[:, frame, row, column]
    front = z.amin(0)
    behind = z > front * (1 + break_ratio)
    steps = ((0, 0), (0, 1), (1, 1), (1, 0))
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
    projected = [_project_each(across[i], down[i], z[i], frame, cameras, nearest) for i in range(4)]
    x, y, w = (torch.stack([corner[i] for corner in projected]) for i in range(3))
    return _triangles(x, y, w, frame, torch.zeros_like(z[0]), torch.ones_like(frame, dtype=torch.bool))


def _project_each(
    u: Tensor,
    v: Tensor,
    z: Tensor,
    frame: Tensor,
    cameras: tuple[Tensor, Tensor, Tensor, Tensor],
    nearest: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Like _project for loose points [N] of the frames `frame` [N]."""
    points = torch.stack([u * z, v * z, z], dim=-1)[:, None]
    target = project_points(points, *(camera[frame] for camera in cameras))[:, 0]
    fine = target[:, 2] > nearest[frame]
    w = torch.where(fine, 1.0 / torch.where(fine, target[:, 2], 1.0), 0.0)
    return target[:, 0] * w, target[:, 1] * w, w


def _on_screen(faces: _Faces, size: tuple[int, int]) -> _Faces:
    """Keep the faces that are in front of the camera and may cover a pixel centre of the target."""
    left, right, top, bottom = _bounds(faces, size)
    return faces[((faces.w > 0).all(0) & (left <= right) & (top <= bottom)).nonzero()[:, 0]]


def _bounds(faces: _Faces, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first and last column and row of pixel centres [F] in each face's bounding box."""
    height, width = size
    bounds = []
    for corners, side in ((faces.x, width), (faces.y, height)):
        low = torch.ceil(corners.amin(0) - 0.5 - SLACK).clamp(0, side)
        high = torch.floor(corners.amax(0) - 0.5 + SLACK).clamp(-1, side - 1)
        bounds += [low.long(), high.long()]
    return bounds[0], bounds[1], bounds[2], bounds[3]


def _z_buffer(faces: _Faces, frames: int, size: tuple[int, int]) -> Tensor:
    """Return [T H W] int64 keys: the bits of the nearest depth << 32, or'ed with its face's number."""
    height, width = size
    keys = torch.full((frames * height * width,), EMPTY, dtype=torch.int64, device=faces.x.device)
    if not len(faces.frame):
        return keys
    left, right, top, bottom = _bounds(faces, size)
    planes = _planes(faces)
    columns, rows = right - left + 1, bottom - top + 1
    small = (columns <= SMALL) & (rows <= SMALL)

    def draw(face: Tensor, column: Tensor, row: Tensor) -> None:
        z, inside = _depth_at(planes, face, column, row)
        face, column, row, z = face[inside], column[inside], row[inside], z[inside]
        pixel = (faces.frame[face] * height + row) * width + column
        keys.scatter_reduce_(0, pixel, (z.view(torch.int32).long() << 32) | face, "amin")

    face = small.nonzero()[:, 0]
    for below in range(SMALL):
        for beside in range(SMALL):
            fits = face[(columns[face] > beside) & (rows[face] > below)]
            draw(fits, left[fits] + beside, top[fits] + below)
    large = (~small).nonzero()[:, 0]
    counts = (columns * rows)[large]
    for part in _parts(counts):
        face = large[part].repeat_interleave(counts[part])
        within = torch.arange(len(face), device=face.device)
        within -= (counts[part].cumsum(0) - counts[part]).repeat_interleave(counts[part])
        draw(face, left[face] + within % columns[face], top[face] + within // columns[face])
    return keys


def _parts(counts: Tensor) -> list[slice]:
    """Cut faces into runs of at most CANDIDATES pixel centres each (a single face may have more)."""
    if not len(counts):
        return []
    run = (counts.cumsum(0) - counts) // CANDIDATES
    starts = torch.cat([run.new_zeros(1), (run.diff() != 0).nonzero()[:, 0] + 1]).tolist()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(counts)])]


def _planes(faces: _Faces) -> Tensor:
    """Return [F,14]: corner 0, three signed edge distances and the inverse depth as functions of the offset to it."""
    x0, y0, w0 = faces.x[0], faces.y[0], faces.w[0]
    x1, y1, x2, y2 = faces.x[1] - x0, faces.y[1] - y0, faces.x[2] - x0, faces.y[2] - y0
    area = x1 * y2 - x2 * y1
    flat = area.abs() < 1e-9  # seen edge-on: covers nothing
    sign = torch.where(flat, torch.nan, area.sign())
    first = sign / torch.hypot(x1, y1)
    second = sign / torch.hypot(x2 - x1, y2 - y1)
    third = sign / torch.hypot(x2, y2)
    w1, w2 = (faces.w[1] - w0) / area, (faces.w[2] - w0) / area
    return torch.stack(
        [
            *(x0, y0),
            *(-y1 * first, x1 * first),
            *((y1 - y2) * second, (x2 - x1) * second, (x1 * y2 - x2 * y1) * second),
            *(y2 * third, -x2 * third),
            *(w0, w1 * y2 - w2 * y1, w2 * x1 - w1 * x2),
            *(faces.w.amin(0), faces.w.amax(0)),
        ],
        dim=1,
    )


def _depth_at(planes: Tensor, face: Tensor, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Return the depth of faces at pixel centres, and whether the centres lie inside (or within SLACK)."""
    at = planes[face].T
    dx, dy = column + 0.5 - at[0], row + 0.5 - at[1]
    inside = (
        (at[2] * dx + at[3] * dy >= -SLACK)
        & (at[4] * dx + at[5] * dy + at[6] >= -SLACK)
        & (at[7] * dx + at[8] * dy >= -SLACK)
    )
    w = torch.minimum(torch.maximum(at[9] + at[10] * dx + at[11] * dy, at[12]), at[13])
    return 1.0 / w, inside


def _stretch(faces: _Faces, face: Tensor) -> Tensor:
    """Return target area / source area of the winning faces; 0 for occluders and for backs of surfaces."""
    x, y = faces.x - faces.x[0], faces.y - faces.y[0]
    area = (x[1] * y[2] - x[2] * y[1]) / 2
    shown = (faces.source_area > 0) & (area > 0)
    return torch.where(shown, area / faces.source_area.clamp_min(1e-6), 0.0)[face]


def _shade(
    video: Tensor, z: Tensor, visible: Tensor, cameras: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """Look each visible target pixel's surface point up in the source, bilinearly; 0 elsewhere."""
    frames, height, width = z.shape
    source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera = cameras
    u = torch.arange(width, device=z.device) + 0.5
    v = torch.arange(height, device=z.device)[:, None] + 0.5
    points = torch.stack([u * z, v * z, z], dim=-1).flatten(1, 2)
    back = (target_intrinsics, target_world_to_camera, source_intrinsics, source_world_to_camera)
    source = project_points(points, *back).view(frames, height, width, 3)
    position = source[..., :2] / torch.where(visible, source[..., 2], 1.0)[..., None]
    side = position.new_tensor([video.shape[3], video.shape[2]])
    grid = torch.where(visible[..., None], 2 * position / side - 1, 0.0)
    colours = grid_sample(video, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(visible[:, None], colours, 0.0)
