"""What the parts learn from: words, crops of clips, squashed frames; the same for the same step."""

from types import SimpleNamespace

import pytest
import torch

from recapture.datasets.scenes.stream import SceneStream
from recapture.datasets.scenes.words import caption_words
from recapture.models.pretraining.vae import Stage
from recapture.tasks.pretrain.data import TEXT_LENGTH, DepthFrames, InpainterClips, VaeClips, make_tokenizer


class Numbered:
    """A stream whose pixels say where they are: red is y, green is x, blue is frame + 17 x clip."""

    def __init__(self):
        self.seeds = []

    def draw(self, seed, count, frames, height, width):
        self.seeds.append(seed)
        clip, t, y, x = torch.meshgrid(*map(torch.arange, (count, frames, height, width)), indexing="ij")
        video = torch.stack([y, x, t + 17 * clip], dim=2) / 127.5 - 1
        return SimpleNamespace(video=video, depth=(1.0 + x + 1000 * y))


def test_words_are_whole_and_what_is_unknown_is_said_so():
    tokenizer = make_tokenizer(["a", "red", "sphere", ","])
    assert tokenizer("A red Sphere, big").input_ids == [3, 4, 5, 6, 2, 1]
    assert tokenizer("").input_ids == [1]


@pytest.mark.parametrize("variety", ["wide", "classic"])
def test_every_caption_is_known_and_fits(variety):
    tokenizer = make_tokenizer(caption_words())
    for caption in SceneStream(range(40), variety=variety).captions:
        tokens = tokenizer(caption).input_ids
        assert tokenizer.unk_token_id not in tokens and len(tokens) <= TEXT_LENGTH


def test_crops_are_windows_of_the_clips_and_hang_on_the_step_alone():
    clips = VaeClips(Numbered(), seed=4, clips=3, epoch=10)
    stage = Stage(5, 32, 6, 1.0)
    numbers = [((clips(step, stage) + 1) * 127.5).round().int() for step in (3, 12, 3)]
    assert torch.equal(numbers[0], numbers[2]) and not torch.equal(numbers[0], numbers[1])
    assert torch.equal(numbers[0], ((VaeClips(Numbered(), 4, 3, 10)(3, stage) + 1) * 127.5).round().int())
    assert not torch.equal(numbers[0], ((VaeClips(Numbered(), 5, 3, 10)(3, stage) + 1) * 127.5).round().int())
    seen = set()
    for crop in numbers[0]:  # [3, T, S, S]
        y, x, place = (int(crop[channel, 0, 0, 0]) for channel in range(3))
        clip, t = divmod(place, 17)
        seen.add((clip, t, y, x))
        assert torch.equal(crop[0], torch.arange(y, y + 32)[None, :, None].expand(5, 32, 32).int())
        assert torch.equal(crop[1], torch.arange(x, x + 32)[None, None].expand(5, 32, 32).int())
        expected = torch.arange(t, t + 5)[:, None, None].expand(5, 32, 32).int() + 17 * clip
        assert torch.equal(crop[2], expected) and t + 5 <= 17
    assert len(seen) > 3


def test_the_pool_is_rendered_anew_every_epoch_with_seeds_of_its_own():
    stream = Numbered()
    clips = VaeClips(stream, seed=4, clips=2, epoch=10, scale=0.1)
    for step in (0, 9, 10, 19, 20):
        clips(step, Stage(1, 32, 2, 1.0))
    assert len(stream.seeds) == 3 == len(set(stream.seeds))


def test_depth_frames_are_squashed_to_squares_without_mixing_depths():
    frames = DepthFrames(Numbered(), seed=1, frames=12, epoch=2)
    shapes = {0: (128, 128), 1: (128, 170), 2: (128, 227), 3: (227, 128)}
    for step, (height, width) in shapes.items():
        video, depth = frames(step, 2)
        assert video.shape == (2, 3, 128, 128) and depth.shape == (2, 128, 128)
        row, column = (depth - 1) // 1000, (depth - 1) % 1000
        place = torch.arange(128)
        assert torch.equal(column[0, 0], ((2 * place + 1) * width // 256).float())  # the pixel centre's
        assert torch.equal(row[0, :, 0], ((2 * place + 1) * height // 256).float())


def test_captions_belong_to_the_drawn_scenes():
    stream = SceneStream(range(5))
    tokenizer = make_tokenizer(caption_words())
    bucket = SimpleNamespace(frames=1, height=16, width=16)
    clips = InpainterClips(stream, tokenizer)(8, 4, bucket)
    drawn = stream.draw(8, 4, 1, 16, 16)
    assert clips.video.shape == (4, 3, 1, 16, 16)
    for tokens, caption in zip(clips.tokens, drawn.captions):
        assert tokens[tokens > 0].tolist() == tokenizer(caption).input_ids
