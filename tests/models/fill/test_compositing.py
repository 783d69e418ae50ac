"""Known pixels and a generated video made one picture: bit for bit outside holes, no seam beside them."""

from dataclasses import replace

import pytest
import torch

from recapture.models.fill.compositing import GUIDES, Compositing, kept_pixels
from recapture.models.fill.membrane import membrane
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.wan.paste import paste_known

MEMBRANE = Compositing("membrane")


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def picture():
    """A smooth still video [6, 3, 40, 56], and a hole in it that does not move."""
    low = noise(1, 3, 5, 7)
    video = torch.nn.functional.interpolate(low, (40, 56), mode="bicubic").clamp(-1, 1).repeat(6, 1, 1, 1)
    known = torch.ones(6, 40, 56, dtype=torch.bool)
    known[:, 12:30, 20:44] = False
    return 0.6 * video, known


def test_known_pixels_come_back_bit_for_bit_and_holes_are_the_generated_video_and_the_membrane(picture):
    video, known = picture
    generated = noise(*video.shape, seed=3)
    spoilt = torch.where(known[:, None], video, torch.nan)
    found = MEMBRANE(generated, spoilt, known)
    seen = known[:, None].expand_as(video)
    assert torch.equal(found[seen], video[seen])
    expected = (generated + membrane(video - generated, known)).clamp(-1, 1)
    assert torch.equal(found[~seen], expected[~seen]) and found.abs().max() <= 1


def test_a_generated_video_that_is_off_by_a_constant_in_each_frame_is_the_truth_again(picture):
    video, known = picture
    off = 0.2 * noise(6, 3, 1, 1, seed=4)
    found = MEMBRANE(video + off, video, known)
    torch.testing.assert_close(found, video, atol=2e-6, rtol=0)


def test_beside_a_hole_there_is_no_step(picture):
    """A generated video that is off by what changes slowly over the picture meets its surroundings."""
    video, known = picture
    off = 0.3 * torch.linspace(-1, 1, 56) * torch.linspace(0.5, 1, 40)[:, None]
    pasted = torch.where(known[:, None], video, video + off)
    found = MEMBRANE(video + off, video, known)
    across = [(slice(None), slice(None), slice(14, 28), edge) for edge in (20, 43)]

    def step(one):
        return max((one[at] - video[at]).abs().mean() for at in across)

    assert step(found) < 0.2 * step(pasted)
    inside = (~known)[:, None].expand_as(video)
    assert (found - video)[inside].abs().mean() < 0.4 * (pasted - video)[inside].abs().mean()


def test_a_still_scene_does_not_flicker_beside_a_hole(picture):
    """The generated video's exposure changes from frame to frame; the composite's seam does not."""
    video, known = picture
    generated = video + 0.1 * noise(6, 3, 1, 1, seed=5)
    found = MEMBRANE(generated, video, known)
    variance = found.var(0).mean(0)
    assert variance.max() < 1e-10  # that of the render is 0
    assert generated.var(0).mean() > 1e-4


def test_what_flickers_in_a_still_scene_flickers_less_in_the_membrane_than_in_single_frames(picture):
    video, known = picture
    generated = video + 0.1 * noise(*video.shape, seed=6)
    difference = video - generated
    inside = (~known)[0]
    joint = membrane(difference, known)[:, :, inside]
    alone = torch.cat([membrane(d[None], k[None]) for d, k in zip(difference, known)])[:, :, inside]
    assert joint.var(0).mean() < 0.8 * alone.var(0).mean()


def test_feather_and_none_are_what_they_were(picture):
    video, known = picture
    generated = noise(*video.shape, seed=3)
    assert torch.equal(
        Compositing("feather", 3)(generated, video, known), paste_known(generated, video, known, 3)
    )
    assert torch.equal(Compositing("none")(generated, video, known), generated)


@pytest.mark.parametrize("kind", ["membrane", "feather", "none"])
def test_a_clip_of_which_nothing_is_known_is_the_generated_one(picture, kind):
    video, _ = picture
    nothing = torch.zeros(video.shape[0], *video.shape[2:], dtype=torch.bool)
    generated = noise(*video.shape, seed=3)
    assert torch.equal(Compositing(kind, 4)(generated, video, nothing), generated)


def test_what_other_frames_saw_is_kept_unless_it_is_beside_the_render():
    rendered, gathered = noise(2, 24, 24) > 0.9, noise(2, 24, 24, seed=1) > -0.5
    rendered[1] = False
    gathered |= rendered
    video, depth, eye = noise(2, 3, 24, 24), torch.ones(2, 24, 24), torch.eye(4).expand(2, 4, 4)
    view = RenderedView(video, rendered, depth, depth, eye[:, :3, :3], eye)
    source = SourceView(video, depth, gathered, eye[:, :3, :3], eye, torch.arange(2))
    found = kept_pixels(view, replace(view, visible=gathered), source)
    for t, y, x in torch.cartesian_prod(*map(torch.arange, (2, 24, 24))).tolist():
        near = rendered[t, max(0, y - GUIDES) : y + GUIDES + 1, max(0, x - GUIDES) : x + GUIDES + 1].any()
        expected = rendered[t, y, x] or (gathered[t, y, x] and not near)
        assert bool(found[t, y, x]) == bool(expected)
    assert torch.equal(found[1], gathered[1])
