"""SAM 2 and SAM 3 for video, on tiny random twins: fed as the published processors feed them."""

import importlib
import json

import numpy as np
import pytest
import torch
from support import tiny_sam
from transformers.models.sam2_video.processing_sam2_video import Sam2VideoProcessor

from recapture.models.selection.prompt import NotFound, Prompt
from recapture.models.selection.recognise import check_prompt, read_config
from recapture.models.selection.sam import SamSelector, _Feed, _points

HEIGHT, WIDTH = 48, 80
BOX = (10.0, 12.0, 30.0, 20.0)


class Film:
    """Noise; counts how many frames are read."""

    def __init__(self, frames=4):
        self.frames = np.random.default_rng(0).integers(0, 255, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
        self.read = []

    def __len__(self):
        return len(self.frames)

    def rgb(self, number):
        self.read.append(number)
        return self.frames[number]

    def depth(self, number):
        return None


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sam")
    return {family: tiny_sam.save(root / family, family) for family in tiny_sam.FAMILIES}


@pytest.mark.parametrize("family", tiny_sam.FAMILIES)
@pytest.mark.parametrize(
    "prompt", [Prompt(0, box=BOX), Prompt(2, points=((20.0, 20.0),), others=((70.0, 40.0),))]
)
def test_boxes_and_points_give_a_mask_of_every_frame_at_the_clips_size(family, prompt, folders):
    found = list(SamSelector(folders[family]).select(Film(), prompt))
    assert sorted(number for number, _ in found) == [0, 1, 2, 3]
    assert found[0][0] == prompt.frame
    assert all(mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool for _, mask in found)


def test_the_masks_are_those_of_the_model_driven_by_transformers_own_processor(folders):
    """Coordinates and session by Sam2VideoProcessor, whose image part alone needs torchvision."""
    selector, film = SamSelector(folders["sam2_video"]), Film()
    model = selector._model("Sam2VideoModel")
    processor = object.__new__(Sam2VideoProcessor)
    processor.target_size, processor.point_pad_value = tiny_sam.SIDE, -10
    module = importlib.import_module(type(model).__module__)
    pixels = torch.stack([selector._feed(frame) for frame in film.frames])
    size = {"video_height": HEIGHT, "video_width": WIDTH}
    session = module.Sam2VideoInferenceSession(video=pixels, dtype=torch.float32, **size)
    x, y, width, height = BOX
    processor.process_new_points_or_boxes_for_video_frame(
        session,
        0,
        [1],
        input_points=[[[[20.0, 20.0]]]],
        input_labels=[[[1]]],
        input_boxes=[[[x, y, x + width, y + height]]],
    )
    wanted = {}
    for out in model.propagate_in_video_iterator(session, start_frame_idx=0):
        logits = torch.nn.functional.interpolate(
            out.pred_masks, (HEIGHT, WIDTH), mode="bilinear", align_corners=False
        )
        wanted[out.frame_idx] = (logits[0, 0] > 0).numpy()
    found = dict(selector.select(film, Prompt(0, box=BOX, points=((20.0, 20.0),))))
    assert found.keys() == wanted.keys()
    assert wanted[0].any()
    assert all((found[number] == wanted[number]).all() for number in wanted)


def test_points_are_labelled_and_scaled_to_what_the_model_sees():
    given = _points(Prompt(0, box=(1, 2, 3, 4), points=((5, 6),), others=((7, 8),)), torch.tensor([2.0, 3.0]))
    assert given["point_coords"].tolist() == [[[[2, 6], [8, 18], [10, 18], [14, 24]]]]
    assert given["point_labels"].tolist() == [[[2, 3, 1, 0]]]


def test_a_frame_is_resized_to_a_square_and_normalised(folders):
    feed = _Feed(folders["sam2_video"])
    grey = feed(np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8))
    assert grey.shape == (3, tiny_sam.SIDE, tiny_sam.SIDE)
    stated = tiny_sam.PREPROCESSOR
    wanted = [(200 / 255 - m) / s for m, s in zip(stated["image_mean"], stated["image_std"])]
    assert grey.mean((1, 2)).tolist() == pytest.approx(wanted, abs=1e-5)


def test_words_find_something_in_a_clip_and_nothing_of_a_hub_is_asked(folders, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    found = dict(SamSelector(folders["sam3_video"]).select(Film(), Prompt(words="a red ball")))
    assert sorted(found) == [0, 1, 2, 3]
    assert any(mask.any() for mask in found.values())


def test_words_that_mean_nothing_in_the_clip_are_not_found(folders):
    selector = SamSelector(folders["sam3_video"])
    selector._model("Sam3VideoModel").score_threshold_detection = 1.0
    with pytest.raises(NotFound, match="'a zebra' is found in no frame"):
        list(selector.select(Film(), Prompt(words="a zebra")))


def test_frames_are_read_when_they_are_needed(folders):
    film = Film(6)
    found = SamSelector(folders["sam2_video"]).select(film, Prompt(0, box=BOX))
    next(found)
    assert set(film.read) == {0}
    list(found)
    assert set(film.read) == set(range(6))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"has no config.json; set mask.select.model to a directory of SAM 2"),
        ({"model_type": "sam"}, r"the model type 'sam', which does not follow masks"),
        ({"model_type": "sam2_video"}, r"holds no safetensors; pickles"),
    ],
)
def test_what_is_no_model_of_masks_is_one_error_that_names_the_way_out(config, message, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_config(str(tmp_path))


def test_words_are_for_sam_3(folders):
    check_prompt(folders["sam3_video"], words=True)
    check_prompt(None, words=False)
    for model in (None, folders["sam2_video"]):
        with pytest.raises(ValueError, match=r"no words; set mask.select.model to a directory of SAM 3"):
            check_prompt(model, words=True)
