"""A fill's frames come back bit for bit without a second copy of the render."""

import numpy as np
import pytest
import torch

from recapture.datasets.store.store import ArtifactStore
from recapture.models.wan.paste import paste_known
from recapture.tasks.clip.filled_frames import read_filled, seamed
from recapture.tasks.clip.frames_to_video import to_frames, to_video

FRAMES, SIZE = 11, (48, 64)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(str(tmp_path))


def write(store, stage, *parts, **arrays):
    with store.create(stage, "ab" * 16) as output, output.frames(4) as writer:
        for part in parts or (arrays,):
            writer.append(**part)
    return store.open(stage, "ab" * 16)


def smooth(seed, noise):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(FRAMES, 3, 6, 8, generator=generator) * 2 - 1
    video = torch.nn.functional.interpolate(low, SIZE, mode="bicubic").clamp(-1, 1)
    return video + noise * torch.randn(video.shape, generator=generator)


@pytest.fixture
def clip(store):
    """Return a render in the store, and rgb and unpasted of its fill with a feather of 4 pixels."""
    visible = torch.ones(FRAMES, *SIZE, dtype=torch.bool)
    visible[:, 10:30, 20:40] = False
    shown = torch.where(visible[:, None], smooth(0, 0.05), torch.zeros(1))
    render = write(store, "render", rgb=to_frames(shown), visible=visible.numpy())
    unpasted = smooth(0, 0.0)
    pasted = paste_known(unpasted, to_video(render.frames().read(0, FRAMES)["rgb"]), visible, 4)
    return render, {"rgb": to_frames(pasted), "unpasted": to_frames(unpasted)}


def test_pasted_frames_come_back_bit_for_bit(store, clip):
    render, filled = clip
    parts = [
        seamed({name: video[start:stop] for name, video in filled.items()}, render, start)
        for start, stop in ((0, 3), (3, 10), (10, 11))
    ]
    fill = write(store, "fill", *parts)
    for frames in (np.arange(FRAMES), np.array([7, 2, 2, 9]), np.array([10])):
        found = read_filled(fill, render, frames)
        assert found.keys() == {"rgb", "unpasted"}
        assert all((found[name] == filled[name][frames]).all() for name in found)


def test_only_what_fades_beside_a_hole_is_kept_beside_the_unpasted_video(clip):
    render, filled = clip
    seam = seamed(filled, render, 0)["seam"].any(-1)
    assert seam.any() and not seam[:, 10:30, 20:40].any()
    seam[:, 6:34, 16:44] = False
    assert not seam.any()


def test_a_fill_that_is_no_pasted_one_keeps_its_own_pixels_too(store, clip):
    render, filled = clip
    other = {"rgb": filled["rgb"] ^ 170, "unpasted": filled["unpasted"]}  # such as windows that disagree
    fill = write(store, "fill", seamed(other, render, 0))
    assert (read_filled(fill, render, np.arange(FRAMES))["rgb"] == other["rgb"]).all()


def test_a_fill_of_one_video_is_stored_as_it_is(store, clip):
    render, filled = clip
    fill = write(store, "fill", seamed({"rgb": filled["rgb"]}, render, 0))
    found = read_filled(fill, render, np.arange(2, 5))
    assert found.keys() == {"rgb"} and (found["rgb"] == filled["rgb"][2:5]).all()


def test_two_videos_take_hardly_more_than_one(store, clip):
    render, filled = clip
    both = write(store, "fill", seamed(filled, render, 0)).total_bytes
    one = write(store, "mask", unpasted=filled["unpasted"]).total_bytes
    assert both < 1.35 * one < write(store, "depth", **filled).total_bytes
