"""Pull-push against closed forms."""

import pytest
import torch

from recapture.models.fill.pull_push import pull_push


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (1, 9), (7, 1), (1, 1)])
def test_known_pixels_stay_and_a_constant_is_continued(size):
    random = torch.Generator().manual_seed(0)
    known = torch.rand(4, *size, generator=random) < 0.5
    known[:, 0, 0] = True
    colour = torch.tensor([0.3, -0.8, 0.1]).view(1, 3, 1, 1).expand(4, 3, *size)
    spoilt = torch.where(known[:, None], colour, float("nan"))
    torch.testing.assert_close(pull_push(spoilt, known), colour)
    video = torch.rand(4, 3, *size, generator=random)
    filled = pull_push(video, known)
    seen = known[:, None].expand_as(video)
    assert torch.equal(filled[seen], video[seen])
    for frame, there, clean in zip(filled, known, video):
        low, high = clean[:, there].amin(1), clean[:, there].amax(1)
        assert (frame >= low[:, None, None] - 1e-6).all() and (frame <= high[:, None, None] + 1e-6).all()


def test_a_single_hole_takes_the_mean_of_its_block():
    video = torch.tensor([[7.0, 0.1], [0.2, 0.6]]).expand(1, 3, 2, 2)  # the hole's own value must not matter
    known = torch.tensor([[[False, True], [True, True]]])
    torch.testing.assert_close(pull_push(video, known)[0, :, 0, 0], torch.full((3,), 0.3))


def test_a_frame_without_known_pixels_is_grey_and_frames_do_not_mix():
    video = torch.rand(2, 3, 6, 6)
    known = torch.stack([torch.zeros(6, 6), torch.ones(6, 6)]).bool()
    filled = pull_push(video, known)
    assert torch.equal(filled[0], torch.zeros(3, 6, 6)) and torch.equal(filled[1], video[1])
