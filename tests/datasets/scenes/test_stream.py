import pytest
import torch

from recapture.datasets.scenes.sampling import sample_scene
from recapture.datasets.scenes.stream import SceneStream
from recapture.datasets.scenes.wide_scenes import CAMERA_LIMIT


@pytest.fixture(scope="module")
def stream() -> SceneStream:
    return SceneStream(range(12))


def test_the_same_seed_gives_the_same_clips_and_another_seed_others(stream: SceneStream) -> None:
    first, again, other = (stream.draw(seed, 3, 2, 20, 28) for seed in (4, 4, 5))
    assert torch.equal(first.video, again.video)
    assert first.captions == again.captions
    assert not torch.equal(first.video, other.video)


def test_clips_have_the_promised_shapes(stream: SceneStream) -> None:
    clips = stream.draw(1, 4, 3, 18, 26, crop=(10, 12))
    assert clips.video.shape == (4, 3, 3, 10, 12)
    assert clips.depth.shape == clips.object_id.shape == (4, 3, 10, 12)
    assert clips.intrinsics.shape == (4, 3, 3, 3) and clips.world_to_camera.shape == (4, 3, 4, 4)
    assert clips.times.shape == (4, 3)
    assert clips.video.abs().max() <= 1
    assert torch.isfinite(clips.depth).all() and (clips.depth > 0).all()
    assert clips.captions == [stream.captions[index] for index in clips.scene_index.tolist()]
    with pytest.raises(ValueError, match="does not fit"):
        stream.draw(1, 1, 2, 8, 8, crop=(9, 8))
    with pytest.raises(ValueError, match="one seed"):
        SceneStream([])


def test_a_crop_is_that_window_of_the_whole_view(stream: SceneStream) -> None:
    height, width, (h, w) = 30, 40, (14, 18)
    whole = stream.draw(9, 4, 2, height, width)
    part = stream.draw(9, 4, 2, height, width, crop=(h, w))
    corner = (whole.intrinsics - part.intrinsics)[:, 0, :2, 2].round().long()
    assert len(corner.unique(dim=0)) > 1
    for clip, (left, top) in enumerate(corner.tolist()):
        window = (clip, ..., slice(top, top + h), slice(left, left + w))
        agree = whole.object_id[window] == part.object_id[clip]
        assert agree.float().mean() > 0.995  # float32 at silhouettes
        torch.testing.assert_close(whole.depth[window][agree], part.depth[clip][agree], rtol=1e-3, atol=1e-3)
        inner = (..., slice(1, -1), slice(1, -1))  # edges of surfaces are found among a pixel's neighbours
        error = (whole.video[window] - part.video[clip])[inner].abs()
        assert error.mean() < 1e-3


def test_object_ids_follow_the_order_of_the_caption(stream: SceneStream) -> None:
    kinds = {"pole": "cylinder", "slab": "box"}
    for index, caption in enumerate(stream.captions):
        bodies = caption.split(", in a room")[0].replace(", ", ";").split(";")
        nouns = [
            kinds.get(word, word)
            for body in bodies
            for word in body.split()
            if word in ("sphere", "box", "cylinder", "pole", "slab")
        ]
        active, label = stream.scenes.active[index], stream.scenes.label[index]
        by_label = {int(label[n]): kind for n, kind in enumerate(stream.scenes.kinds) if bool(active[n])}
        assert [by_label[n] for n in sorted(by_label)] == nouns
        assert sorted(by_label) == list(range(1, len(nouns) + 1))


def test_a_pooled_scene_is_the_scene_of_its_seed(stream: SceneStream) -> None:
    for index in (0, 7):
        scene = sample_scene(index, variety="wide")
        assert scene.captions[0] == stream.captions[index]
        slots = {
            int(stream.scenes.label[index, n]): n for n in range(8) if bool(stream.scenes.active[index, n])
        }
        order = [slots[label] for label in scene.label.tolist()]
        for name in ("size", "position", "velocity", "low", "high", "hop", "axis", "spin"):
            assert torch.equal(getattr(stream.scenes, name)[index, order], getattr(scene, name)), name
        for name in ("pattern", "colours", "laying"):
            pooled = getattr(stream.scenes, name)[index]
            assert torch.equal(pooled[[*range(6), *(6 + n for n in order)]], getattr(scene, name)), name
        for name in ("room_low", "room_high", "light", "lighting", "camera", "lens"):
            assert torch.equal(getattr(stream.scenes, name)[index], getattr(scene, name)), name


def test_cameras_stay_in_the_room_before_the_bodies_and_most_but_not_all_move(stream: SceneStream) -> None:
    clips = stream.draw(2, 64, 9, 4, 4, antialias=1)
    pose = clips.world_to_camera
    centre = -(pose[..., :3, :3].mT @ pose[..., :3, 3:])[..., 0]
    low, high = (
        side[clips.scene_index][:, None] for side in (stream.scenes.room_low, stream.scenes.room_high)
    )
    assert ((centre > low + 0.39) & (centre < high - 0.39)).all()
    assert (centre[..., 2] < CAMERA_LIMIT + 1e-3).all()
    moved = (centre[:, -1] - centre[:, 0]).norm(dim=-1)
    assert 0.5 < (moved > 1e-4).float().mean() < 0.98
    assert set(clips.times.diff(dim=1).round().unique().tolist()) == {1.0, 2.0}
    assert clips.times[:, 0].max() <= 60


def test_a_pool_of_classic_scenes_needs_no_photographs() -> None:
    clips = SceneStream(range(3), variety="classic").draw(0, 2, 2, 8, 8)
    assert clips.video.shape == (2, 2, 3, 8, 8)
