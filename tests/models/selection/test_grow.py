"""The embedded selector on pictures whose bodies are known."""

import cv2
import numpy as np
import pytest

from recapture.models.selection.grow import GrowingSelector
from recapture.models.selection.prompt import NotFound, Prompt

HEIGHT, WIDTH, FRAMES = 80, 112, 6
RANDOM = np.random.default_rng(0)
GROUND = cv2.GaussianBlur(RANDOM.integers(0, 120, (HEIGHT, WIDTH), dtype=np.uint8), (7, 7), 2)
COAT = cv2.GaussianBlur(RANDOM.integers(0, 255, (40, 40), dtype=np.uint8), (5, 5), 1.5).astype(int) // 4


class Film:
    """A red disc of radius 14 that moves by `step` pixels a frame over a grey ground."""

    def __init__(self, step, frames=FRAMES, depth=False):
        self._step, self._frames, self._deep = step, frames, depth

    def __len__(self):
        return self._frames

    def place(self, number):
        return 36 + self._step * number, 40

    def disc(self, number):
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        x, y = self.place(number)
        return (rows - y) ** 2 + (columns - x) ** 2 <= 14**2

    def rgb(self, number):
        frame = np.repeat(GROUND[..., None], 3, axis=2)
        x, y = self.place(number)
        coat = np.zeros((HEIGHT, WIDTH), dtype=int)
        coat[y - 20 : y + 20, x - 20 : x + 20] = COAT
        disc = self.disc(number)
        frame[disc] = np.stack([140 + coat, 20 + coat, 30 + coat], axis=-1)[disc].clip(0, 255)
        return frame

    def depth(self, number):
        return np.where(self.disc(number), 2.0, 5.0).astype(np.float32) if self._deep else None


def overlaps(film, prompt):
    found = dict(GrowingSelector().select(film, prompt))
    assert sorted(found) == list(range(len(film)))
    return [(found[n] & film.disc(n)).sum() / (found[n] | film.disc(n)).sum() for n in range(len(film))]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("step", [0, 4])
@pytest.mark.parametrize("kind", ["box", "point"])
def test_a_box_or_a_point_on_a_body_finds_it_in_every_frame(deep, step, kind):
    film = Film(step, depth=deep)
    x, y = film.place(0)
    prompts = {"box": Prompt(0, box=(x - 16, y - 16, 33, 33)), "point": Prompt(0, points=((x, y),))}
    assert min(overlaps(film, prompts[kind])) > 0.85


def test_frames_before_the_prompt_are_found_too():
    film = Film(4)
    x, y = film.place(3)
    assert min(overlaps(film, Prompt(3, box=(x - 16, y - 16, 33, 33)))) > 0.85


def test_one_frame_is_enough():
    film = Film(0, frames=1)
    x, y = film.place(0)
    assert overlaps(film, Prompt(0, points=((x, y),)))[0] > 0.85


def test_a_point_on_what_stays_takes_it_out():
    film = Film(0, frames=1)
    x, y = film.place(0)
    both = dict(GrowingSelector().select(film, Prompt(0, box=(x - 16, y - 16, 33, 33))))[0]
    without = dict(
        GrowingSelector().select(film, Prompt(0, box=(x - 16, y - 16, 33, 33), others=((x + 9, y),)))
    )[0]
    assert both[y, x + 9] and not without[y, x + 9]


def test_the_same_clip_gives_the_same_masks_whatever_was_cut_before():
    film = Film(4)
    x, y = film.place(0)
    first = list(GrowingSelector().select(film, Prompt(0, points=((x, y),))))
    cv2.setRNGSeed(1234)
    again = list(GrowingSelector().select(film, Prompt(0, points=((x, y),))))
    assert all((one[1] == other[1]).all() for one, other in zip(first, again))


def test_a_box_around_nothing_that_stands_out_is_not_found():
    class Flat(Film):
        def rgb(self, number):
            return np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)

    film = Flat(0)
    try:
        masks = [mask for _, mask in GrowingSelector().select(film, Prompt(0, box=(30, 30, 20, 20)))]
    except NotFound as error:
        assert "stands out" in str(error)
    else:
        box = np.zeros((HEIGHT, WIDTH), dtype=bool)
        box[30:50, 30:50] = True
        assert not any((mask & ~box).any() for mask in masks)


def test_a_large_clip_is_cut_small_and_comes_back_at_its_size():
    class Large(Film):
        def rgb(self, number):
            return cv2.resize(super().rgb(number), (6 * WIDTH, 6 * HEIGHT), interpolation=cv2.INTER_NEAREST)

    film = Large(2, frames=2)
    x, y = (6 * value for value in film.place(0))
    for number, mask in GrowingSelector().select(film, Prompt(0, box=(x - 96, y - 96, 198, 198))):
        true = cv2.resize(film.disc(number).astype(np.uint8), (6 * WIDTH, 6 * HEIGHT)) > 0
        assert mask.shape == true.shape and (mask & true).sum() / (mask | true).sum() > 0.85
