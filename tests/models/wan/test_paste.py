import pytest
import torch

from recapture.models.wan.paste import paste_known, paste_weights


@pytest.fixture()
def pictures():
    generator = torch.Generator().manual_seed(1)
    generated, video = (torch.rand(2, 3, 24, 24, generator=generator) for _ in range(2))
    visible = torch.ones(2, 24, 24, dtype=torch.bool)
    visible[0, 10:12, 9:13] = False
    visible[0, 20, 20] = False
    return generated, video, visible


def test_holes_stay_generated_and_far_pixels_come_back_bit_for_bit(pictures):
    generated, video, visible = pictures
    video[~visible[:, None].expand_as(video)] = float("nan")
    pasted = paste_known(generated, video, visible, feather=4)
    hole = (~visible)[:, None].expand_as(video)
    assert torch.equal(pasted[hole], generated[hole])
    assert torch.equal(pasted[1], video[1])
    assert torch.equal(pasted[0, :, :6], video[0, :, :6])
    assert pasted.isfinite().all()


def test_the_share_rises_linearly_with_chessboard_distance_to_the_nearest_hole(pictures):
    _, _, visible = pictures
    share = paste_weights(visible, 4)
    holes = (~visible[0]).nonzero()
    for y in range(24):
        for x in range(24):
            distance = (holes - torch.tensor([y, x])).abs().amax(1).min()
            assert share[0, y, x] == min(int(distance), 4) / 4
    assert (share[1] == 1).all()


def test_feather_one_pastes_every_known_pixel(pictures):
    generated, video, visible = pictures
    assert torch.equal(
        paste_known(generated, video, visible, 1), torch.where(visible[:, None], video, generated)
    )
    with pytest.raises(ValueError, match="feather of 0"):
        paste_known(generated, video, visible, 0)
