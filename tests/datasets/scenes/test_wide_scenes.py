import importlib.util

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recapture.datasets.scenes import photographs as scene_photographs
from recapture.datasets.scenes.assemble import make_scene
from recapture.datasets.scenes.layout import Lighting, Room, Texture
from recapture.datasets.scenes.photographs import photograph_colour, photographs
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene, sample_scenes
from recapture.datasets.scenes.words import caption_words, split_words
from recapture.datasets.scenes.world_scenes import world_scene

FRONT, NOW = torch.eye(4)[None], torch.zeros(1)


def lens(size: int, focal: float) -> torch.Tensor:
    return torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]])


def wall_of(texture: Texture, size: int, focal: float, lighting: Lighting | None = None) -> torch.Tensor:
    scene = make_scene([], Room(textures=(texture,) * 6), lighting=lighting)
    return render_scene(scene, lens(size, focal), FRONT, NOW, size, size).video[0]


def test_captions_of_every_variety_only_use_the_listed_words() -> None:
    words = caption_words()
    assert words == sorted(set(words)) and {",", ";", "photographed", "pole"} <= set(words)
    used: set[str] = set()
    for seed in range(300):
        used |= set(split_words(sample_scene(seed, variety="wide").captions[0]))
        used |= set(split_words(sample_scene(seed).captions[0]))
        used |= set(split_words(world_scene(seed).caption))
    assert used <= set(words)
    assert set(words) - used <= {"plain"}  # nothing is listed in vain


def test_wide_scenes_vary_as_promised() -> None:
    batch = sample_scenes(range(300), variety="wide")
    bodies = batch.active.sum(1)
    assert (int(bodies.amin()), int(bodies.amax())) == (2, 7)
    assert batch.lens[:, 0].amin() > 39.9 and batch.lens[:, 0].amax() < 75.1
    captions = " ".join(batch.captions)
    assert captions.count("camera moves") in range(120, 180)
    assert all(word in captions for word in ("pole", "slab", "waved", "speckled", "a red sphere"))
    objects, faces = batch.pattern[:, 6:][batch.active], batch.pattern[:, :6]
    assert 0.25 < (objects == 5).float().mean() < 0.35
    assert 0.30 < (torch.cat([objects, faces.flatten()]) == 6).float().mean() < 0.42
    gain = batch.lighting[:, 3]
    assert gain.amin() > 0.5 and gain.amax() < 1.3


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_wide_scenes_are_seen_from_inside_the_room_and_outside_the_bodies(seed: int) -> None:
    scene = sample_scene(seed, camera_motion=True, variety="wide")
    intrinsics, pose = source_cameras(scene, 90, 12, 16)
    centre = -(pose[:, :3, :3].mT @ pose[:, :3, 3:])[..., 0]
    assert ((centre > scene.room_low + 0.35) & (centre < scene.room_high - 0.35)).all()
    frames = render_scene(scene, intrinsics, pose, torch.arange(90.0), 12, 16, antialias=1)
    assert (frames.object_id >= 0).all() and (frames.depth > 0.1).all()
    assert frames.video.std() > 0.02 and frames.video.mean() > -0.93


def test_an_unknown_variety_is_refused() -> None:
    with pytest.raises(ValueError, match="'odd'"):
        sample_scene(0, variety="odd")  # type: ignore[arg-type]


def test_a_plain_wall_has_its_first_colour_alone() -> None:
    plain = Texture("plain", ((0.5, 0.4, 0.3), (0.0, 0.0, 1.0)), grain=0.0)
    middle = (wall_of(plain, 8, 16.0)[:, 3:5, 3:5] + 1) / 2
    ratio = middle.mean((1, 2)) / middle.mean((1, 2))[0]
    torch.testing.assert_close(ratio, torch.tensor([1.0, 0.8, 0.6]))


def test_light_has_a_strength_and_a_colour() -> None:
    plain = Texture("plain", ((0.3, 0.3, 0.3), (0.3, 0.3, 0.3)), grain=0.0)
    usual = (wall_of(plain, 8, 16.0) + 1) / 2
    torch.testing.assert_close(usual, (wall_of(plain, 8, 16.0, Lighting()) + 1) / 2, rtol=0, atol=0)
    warm = (wall_of(plain, 8, 16.0, Lighting(colour=(1.2, 1.0, 0.5))) + 1) / 2
    torch.testing.assert_close(warm, usual * torch.tensor([1.2, 1.0, 0.5])[:, None, None])


@pytest.mark.parametrize("pattern", ["photographed", "waved", "speckled"])
def test_far_away_patterns_fade_to_the_mean_of_a_fine_render(pattern: str) -> None:
    texture = Texture(pattern, ((0.9, 0.9, 0.9), (0.2, 0.2, 0.2)), cells=2.0, grain=0.0, phase=(1, 2, 1.3))
    coarse = wall_of(texture, 16, 16.0)[:, 4:12, 4:12]
    fine = torch.nn.functional.avg_pool2d(wall_of(texture, 256, 256.0)[None], 16)[0][:, 4:12, 4:12]
    assert (coarse - fine).abs().mean() < 0.1
    assert (coarse.mean() - fine.mean()).abs() < 0.06


def test_photographs_are_real_pictures_and_the_same_each_time() -> None:
    pictures = photographs(64)
    assert pictures.dtype == torch.uint8 and pictures.shape[1:] == (3, 64, 64) and len(pictures) >= 12
    assert torch.equal(pictures, photographs.__wrapped__(64))
    assert (pictures.float().std((1, 2, 3)) > 10).all()


def test_a_photograph_is_shown_upright_once_a_cell_and_then_mirrored() -> None:
    picture, side = photographs()[0].float() / 255, 256
    v, u = torch.meshgrid((torch.arange(side) + 0.5) / side, (torch.arange(side) + 0.5) / side, indexing="ij")
    choice, sharp = torch.zeros_like(u), torch.full_like(u, 1 / side)
    seen = photograph_colour(u, v, sharp, choice).permute(2, 0, 1)
    torch.testing.assert_close(seen, picture, rtol=0, atol=2e-3)
    mirrored = photograph_colour(u + 1, v, sharp, choice).permute(2, 0, 1)
    torch.testing.assert_close(mirrored, picture.flip(2), rtol=0, atol=2e-3)
    far = photograph_colour(u, v, torch.full_like(u, 4.0), choice)
    torch.testing.assert_close(far, picture.mean((1, 2)).expand_as(far), rtol=0, atol=2e-3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="scikit-learn is not installed"):
        scene_photographs.photographs.__wrapped__(32)
