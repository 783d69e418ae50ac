import pytest
import torch

from recapture.models.geometry import z_buffer as z_buffer_file
from recapture.models.geometry import z_buffer_grid
from recapture.models.geometry.cameras import default_intrinsics, rigid, rotation_degrees
from recapture.models.geometry.mesh import CameraPair, Faces, face_stretch, lift, surface_stretch
from recapture.models.geometry.z_buffer import EMPTY, z_buffer


def depth_of(keys):
    return torch.where(keys == EMPTY, torch.inf, (keys >> 32).int().view(torch.float32))


def slow_z_buffer(x, y, w, size):
    """Depth [H,W] float64 of triangles [3,F] one after another, and where a centre is close to an edge."""
    v, u = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) + 0.5 for side in size), indexing="ij")
    nearest = torch.full(size, torch.inf, dtype=torch.float64)
    close = torch.zeros(size, dtype=torch.bool)
    for corners in zip(x.double().T, y.double().T, w.double().T):
        (x0, x1, x2), (y0, y1, y2), (w0, w1, w2) = corners
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        first = ((x2 - x1) * (v - y1) - (y2 - y1) * (u - x1)) / area
        second = ((x0 - x2) * (v - y2) - (y0 - y2) * (u - x2)) / area
        third = 1 - first - second
        inside = (first >= 0) & (second >= 0) & (third >= 0)
        nearest = torch.where(
            inside, torch.minimum(nearest, 1 / (first * w0 + second * w1 + third * w2)), nearest
        )
        sides = ((x1, y1, x2, y2), (x2, y2, x0, y0), (x0, y0, x1, y1))
        distance = torch.stack(
            [
                share * area.abs() / torch.hypot(bx - ax, by - ay)
                for share, (ax, ay, bx, by) in zip((first, second, third), sides)
            ]
        ).amin(0)
        close |= distance.abs() < 0.01
    return nearest, close


@pytest.mark.parametrize("reach", [1.5, 8.0, 60.0])
def test_the_z_buffer_agrees_with_one_triangle_after_another_in_float64(reach):
    """Triangles of one pixel, of some, and larger than the picture."""
    generator = torch.Generator().manual_seed(int(reach))
    size, count = (23, 31), 400 if reach < 2 else 60
    centre = torch.rand(2, 1, count, generator=generator) * torch.tensor([31.0, 23.0])[:, None, None]
    x, y = centre + (torch.rand(2, 3, count, generator=generator) - 0.5) * 2 * reach
    w = 0.2 + torch.rand(3, count, generator=generator)
    faces = Faces(x, y, w, torch.zeros(count, dtype=torch.int64), torch.ones(count))
    keys = z_buffer(faces, 1, size).view(size)
    depth = depth_of(keys).double()
    slow, close = slow_z_buffer(x, y, w, size)
    assert (~close).float().mean() > 0.5 and torch.isfinite(slow).float().mean() > 0.1
    torch.testing.assert_close(depth[~close], slow[~close], rtol=2e-4, atol=0)


def surface(size, target_size, travel, degrees, shell, device="cpu"):
    """Lift two frames with hills, a near block and unknown pixels."""
    generator = torch.Generator().manual_seed(0)
    v, u = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    depth = 4 + torch.sin(u / 7) * torch.cos(v / 5)
    depth[size[0] // 4 : size[0] // 2, size[1] // 3 : size[1] // 2] = 2
    depth = depth + 0.02 * torch.rand(2, *size, generator=generator)
    known = torch.rand(2, *size, generator=generator) > 0.02
    target = rigid(rotation_degrees("y", degrees), -torch.tensor(travel).double())
    cameras = CameraPair(
        default_intrinsics(*size).double().expand(2, 3, 3).to(device),
        torch.eye(4).double().expand(2, 4, 4).to(device),
        default_intrinsics(*target_size).double().expand(2, 3, 3).to(device),
        target.expand(2, 4, 4).to(device),
    )
    nearest = torch.full((2,), 4e-3, device=device)
    return lift(depth.to(device), known.to(device), cameras, nearest, 0.05, shell)


VIEWS = {
    "beside": ((48, 64), (48, 64), (0.3, 0.1, 0.0), 8.0, 0.3),
    "larger picture": ((24, 32), (96, 80), (-0.3, 0.1, 0.5), -8.0, 0.3),
    "before one's nose": ((24, 32), (400, 300), (0.1, 0.1, 3.0), 0.0, 0.0),
}

CPU_VIEWS = VIEWS | {
    "folded": ((48, 64), (48, 64), (3.0, 0.2, 1.0), 45.0, 0.3),
    "among the hills": ((24, 32), (60, 80), (0.1, 0.0, 3.3), 0.0, 0.3),
}


@pytest.mark.parametrize("view", VIEWS)
def test_stretch_of_the_grid_is_the_stretch_of_its_triangles(view):
    lifted = surface(*VIEWS[view])
    both = lifted.whole.flatten().nonzero()[:, 0]
    picked = torch.cat([both, both + lifted.whole.numel()])
    loose = torch.arange(2 * lifted.whole.numel(), len(surface_stretch(lifted)))
    faces = lifted.faces()
    drawn = (faces.w > 0).all(0)
    expected, got = face_stretch(faces)[drawn], surface_stretch(lifted)[torch.cat([picked, loose])][drawn]
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("view", VIEWS)
def test_how_many_faces_are_drawn_at_once_changes_nothing(view, monkeypatch):
    faces, size = surface(*VIEWS[view]).faces(), VIEWS[view][1]
    whole = z_buffer(faces, 2, size)
    assert len(faces.frame) < z_buffer_file.PART  # so that this was one part
    monkeypatch.setattr(z_buffer_file, "PART", 700)
    assert torch.equal(z_buffer(faces, 2, size), whole)


@pytest.mark.parametrize("view", CPU_VIEWS)
@pytest.mark.parametrize(("block", "reach"), [(1 << 15, 64), (700, 64), (700, 2), (1 << 15, 1)])
def test_the_z_buffer_of_the_grid_is_that_of_its_list_of_triangles(view, block, reach, monkeypatch):
    """Whatever is drawn at once, and however much is left to the list."""
    monkeypatch.setattr(z_buffer_grid, "BLOCK", block)
    monkeypatch.setattr(z_buffer_grid, "REACH", reach)
    lifted, size = surface(*CPU_VIEWS[view]), CPU_VIEWS[view][1]
    faces = lifted.faces()
    slow = z_buffer(faces, 2, size)
    keys, stretch = z_buffer_grid.surface_keys(lifted, size)
    hit = slow != EMPTY
    assert hit.float().mean() > 0.2
    assert torch.equal(keys != EMPTY, hit)
    torch.testing.assert_close(depth_of(keys), depth_of(slow), rtol=2e-5, atol=0)
    # on an edge between two faces either may win
    expected, got = face_stretch(faces)[slow[hit] & 0xFFFFFFFF], stretch[keys[hit] & 0xFFFFFFFF]
    assert ((got - expected).abs() > 1e-3 * expected + 1e-3).float().mean() < 5e-3


@pytest.mark.parametrize("view", CPU_VIEWS)
def test_keys_of_wanted_pixels_are_those_of_the_whole_picture(view):
    lifted, size = surface(*CPU_VIEWS[view]), CPU_VIEWS[view][1]
    wanted = torch.zeros(2, *size, dtype=torch.bool)
    wanted[0, 5:9, 11:30] = wanted[0, 20, 3] = wanted[1, :, -1] = wanted[1, -1] = True
    whole, stretch = z_buffer_grid.surface_keys(lifted, size)
    part, same = z_buffer_grid.surface_keys(lifted, size, wanted)
    assert torch.equal(part[wanted.flatten()], whole[wanted.flatten()])
    assert torch.equal(stretch, same)
    if view == "beside":  # of small quads, most are left out
        assert (part == EMPTY).sum() > 2 * (whole == EMPTY).sum()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("view", VIEWS)
def test_the_triton_z_buffer_equals_its_twin_in_pytorch(view):
    from recapture.models.geometry.z_buffer_triton import surface_keys

    lifted, size = surface(*VIEWS[view], device="cuda"), VIEWS[view][1]
    fast, again = surface_keys(lifted, size), surface_keys(lifted, size)
    faces = lifted.faces()
    slow = z_buffer(faces, 2, size)
    assert torch.equal(fast, again)
    hit = fast != EMPTY
    assert hit.float().mean() > 0.3
    assert ((slow != EMPTY) != hit).float().mean() < 1e-4
    hit &= slow != EMPTY
    off = (depth_of(fast)[hit] / depth_of(slow)[hit] - 1).abs()
    assert (off > 1e-4).float().mean() < 1e-4
    stretch = surface_stretch(lifted)[fast[hit] & 0xFFFFFFFF]
    expected = face_stretch(faces)[slow[hit] & 0xFFFFFFFF]
    assert ((stretch - expected).abs() > 1e-2 * expected + 1e-3).float().mean() < 2e-3
