"""Answers become one printable line; the embedded captioner speaks words that the embedded base knows."""

import colorsys

import pytest

from recapture.datasets.scenes.words import ACTIONS, COLOURS, caption_words, split_words
from recapture.models.captions.regions import Region, Seen
from recapture.tasks.clip.captions import clean
from recapture.tasks.clip.spoken_regions import chosen_pairs, colour_name, doing, noun, spoken

BODY = Region(0.1, (2.0, 0.85, 0.85), 0.78, 1.0, 0.02, 0.0, 0.0)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("  a cat\n\n on\ta mat ", "a cat on a mat"),
        ("a\x00b\x1b[31mred\x7f", "a b [31mred"),
        ("evil\u202egnp.exe\u200b\u2066", "evil gnp.exe"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("\ufffd\ufffd", ""),
        ("", ""),
        ("../../etc/passwd <script>", "../../etc/passwd <script>"),  # text: never a path, escaped where shown
    ],
)
def test_an_answer_is_one_printable_line(said, kept):
    assert clean(said) == (kept, 0)
    assert clean(said)[0].isprintable()


def test_what_is_cut_is_counted_and_ends_with_a_word():
    assert clean("one two three", 8) == ("one two", 6)
    assert clean("abcdefgh", 3) == ("abc", 5)


def test_a_colour_of_the_vocabulary_is_called_by_its_name():
    for name, colour in COLOURS.items():
        assert colour_name(colour) == name
    red = colorsys.rgb_to_hsv(0.9, 0.1, 0.1)
    assert colour_name((360 * red[0], red[1], red[2])) == "red"


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"across": 0.02}, "gliding to the right"),
        ({"across": -0.02}, "gliding to the left"),
        ({"across": 0.0, "down": 0.03}, "hopping"),
        ({"across": 0.0, "growth": 0.2}, "coming closer"),
        ({"across": 0.0, "growth": -0.2}, "moving away"),
    ],
)
def test_motion_in_the_picture_becomes_an_action(change, action):
    assert action in ACTIONS
    assert doing(Region(**{**BODY.__dict__, **change})) == action


def test_every_word_is_known_to_the_embedded_base():
    known, bodies = set(caption_words()), []
    for colour in COLOURS.values():
        for aspect, fill in ((1.0, 0.78), (1.0, 0.95), (2.0, 0.8), (3.0, 0.8)):
            bodies.append(Region(0.1, colour, fill, aspect, 0.02, 0.0, 0.0))
    assert {noun(body) for body in bodies} == {"sphere", "box", "cylinder", "pole"}
    for body in bodies:
        for moves in (False, True):
            text = spoken(Seen((body, BODY), moves, (0.2, 0.0)))
            assert set(split_words(text)) <= known
    assert spoken(Seen((BODY,), True, (0.2, 0.0))) == (
        "a red sphere gliding to the right, in a room with a photographed back wall and a plain floor; "
        "the camera moves"
    )


def test_nothing_that_moves_is_nothing_said():
    assert spoken(Seen((), False, (0.1, 0.1))) == ""


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 81])
def test_pairs_are_spread_over_the_clip(frames):
    pairs = chosen_pairs(frames)
    assert all(second == first + 1 < frames for first, second in pairs)
    assert len(pairs) == len(set(pairs)) <= 6
    if frames > 1:
        assert pairs[0][0] == 0 and pairs[-1][1] == frames - 1
