"""Background that is mixed with what hid it, found on scenes of which every pixel's mixture is known."""

import pytest
import torch
from support.surface import SURFACE

from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.rim import CONTRAST, HIDES, INWARD, MIXED, mixed_rim
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import render

FRONT, BACK = torch.tensor([0.9, -0.7, -0.6]), torch.tensor([-0.6, 0.1, 0.7])
SIDE = 64
STEP = 4 / 15  # of the camera: moves the wall by 4 pixels and the square by 8


def scene(share, shift):
    """A square before a wall, filmed, and seen by a camera `shift` to the right.

    share: of the front in the colour of the wall's pixels beside the square. Returns the view, its source,
    and that share in each pixel of the view [2, H, W], as the renderer carries it.
    """
    near = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    near[:, 20:44, 24:40] = True
    beside = torch.nn.functional.max_pool2d(near[:, None].float(), 3, 1, 1)[:, 0].bool() & ~near
    depth = torch.where(near, 2.0, 4.0)
    mixture = torch.where(near, 0.0, torch.where(beside, share, 0.0))
    colour = torch.where(near[..., None], FRONT, BACK + mixture[..., None] * (FRONT - BACK))
    video = colour.permute(0, 3, 1, 2)
    lens = torch.tensor([[60.0, 0, SIDE / 2], [0, 60.0, SIDE / 2], [0, 0, 1]]).expand(2, 3, 3)
    here = torch.eye(4).expand(2, 4, 4)
    moved = here.clone()
    moved[:, 0, 3] = -shift
    marked = torch.cat([video, mixture[:, None]], dim=1)
    seen = render(marked, depth, lens, here, lens, moved, surface=SURFACE)
    view = RenderedView(seen.video[:, :3], seen.visible, seen.depth, seen.stretch, lens, moved)
    known = torch.ones_like(near)
    source = SourceView(video, depth, known, lens, here, torch.arange(2))
    return view, source, torch.where(seen.visible, seen.video[:, 3], 0.0)


@pytest.mark.parametrize("shift", [STEP, -STEP])
def test_the_wall_beside_the_hole_that_a_move_opens_is_found(shift):
    view, _, mixture = scene(0.45, shift)
    found = mixed_rim(view.video, view.depth, view.visible)
    assert found.sum() >= 2 * 20  # the hole's height in both frames
    assert (mixture[found] > 0.2).all() and (view.depth[found] > 3).all()
    hole = ~view.visible
    beside = torch.nn.functional.max_pool2d(hole[:, None].float(), 3, 1, 1)[:, 0].bool()
    assert beside[found].all()
    rows = slice(24, 40)  # where the hole has the square on its other side
    left_or_right = torch.zeros_like(hole)
    left_or_right[:, :, 1:] |= hole[:, :, :-1]
    left_or_right[:, :, :-1] |= hole[:, :, 1:]
    at_hole = left_or_right & view.visible & (view.depth > 3)
    at_hole[:, :, :5] = at_hole[:, :, -5:] = False  # the frame's border has no other side
    wanted = (at_hole & (mixture > 0.3) & (mixture < 0.55))[:, rows]
    assert wanted.any() and found[:, rows][wanted].all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_wall_that_is_not_mixed_or_has_an_edge_of_its_own_there_is_kept(share):
    view, _, mixture = scene(share, STEP)
    found = mixed_rim(view.video, view.depth, view.visible)
    assert not found[(mixture < 0.2) | (mixture > 0.65)].any()


def test_a_composite_keeps_all_of_a_view_but_its_mixed_rim_and_drops_nothing_of_a_still_camera():
    view, source, _ = scene(0.45, STEP)
    mixed = mixed_rim(view.video, view.depth, view.visible)
    assert torch.equal(kept_pixels(view, view, source), view.visible & ~mixed)
    still, source, _ = scene(0.45, 0.0)
    cut = torch.ones_like(still.visible)
    cut[:, 20:44, 40:44] = False  # as a mask for inpainting may lie
    holed = RenderedView(
        still.video, still.visible & cut, still.depth, still.stretch, still.intrinsics, still.world_to_camera
    )
    assert torch.equal(kept_pixels(holed, holed, source), holed.visible)


def slow(video, depth, known):
    """Return the mixed pixels, each looked at by itself in four directions."""
    _, height, width = known.shape
    found = torch.zeros_like(known)
    for t, y, x in torch.nonzero(known).tolist():
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):

            def at(steps, y=y, x=x, down=down, right=right):
                row, column = y + steps * down, x + steps * right
                return (row, column) if 0 <= row < height and 0 <= column < width else None

            steps = 1
            while (place := at(steps)) and not known[t][place]:
                steps += 1
            if steps == 1 or place is None:
                continue
            beyond, inner = at(steps + 1), at(-INWARD)
            if beyond is None or inner is None or not (known[t][beyond] and known[t][inner]):
                continue
            own, other, within = depth[t, y, x], depth[t][place], depth[t][inner]
            if other * HIDES >= own or not own / HIDES < within < own * HIDES:
                continue
            background, front = video[t][:, inner[0], inner[1]], video[t][:, beyond[0], beyond[1]]
            towards = front - background
            share = ((video[t, :, y, x] - background) * towards).sum() / max(
                float(towards.square().sum()), CONTRAST
            )
            if MIXED[0] <= share < MIXED[1]:
                found[t, y, x] = True
    return found


def test_it_is_what_looking_from_each_pixel_finds():
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, 3, 20, 26, generator=generator) * 2 - 1
    depth = torch.where(torch.rand(3, 20, 26, generator=generator) < 0.5, 2.0, 4.0)
    known = torch.rand(3, 20, 26, generator=generator) < 0.6
    found = mixed_rim(video, depth, known)
    assert found.any() and torch.equal(found, slow(video, depth, known))
    for nothing in (torch.zeros_like(known), torch.ones_like(known)):
        assert not mixed_rim(video, depth, nothing).any()
