import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.motionbench import target_prompts
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.readers.scenes import to_uint8
from recapture.datasets.scenes.motion_scenes import motion_scene


def test_references_targets_and_truths_are_clips_whose_uris_say_all_about_them() -> None:
    references, rejected = scan("motionscenes://?category=single&frames=9&side=32")
    assert not rejected and [clip.id for clip in references][:2] == [
        "references/single-00",
        "references/single-01",
    ]
    assert len(references) == 12 and {clip.frames for clip in references} == {9}
    targets, _ = scan("motionscenes://?show=targets&category=single&reference=4&frames=9&side=32")
    assert [clip.id for clip in targets] == [f"targets/single-04-{target}" for target in range(4)]
    assert {clip.frames for clip in targets} == {1}
    truths, _ = scan("motionscenes://?show=truths&category=single&reference=4&frames=9&side=32")
    assert len(truths) == 8 and truths[0].id == "truths/single-04-0-picture"
    every = [*references, *targets, *truths]
    assert len({clip.content_hash for clip in every}) == len(every)
    for clip in (references[3], targets[1], truths[5]):
        assert scan(clip.uri) == ([clip], [])


def test_a_target_is_the_first_frame_of_its_truths() -> None:
    keys = "category=figure&reference=0&target=2&frames=5&side=32"
    ((target,), _), (truths, _) = (
        scan(f"motionscenes://?show={show}&{keys}") for show in ("targets", "truths")
    )
    (still,) = open_clip(target).frames()
    for truth in truths:
        assert np.array_equal(next(open_clip(truth).frames()), still)
    scene = motion_scene("figure", 0, 2, frames=5, side=32)
    source = open_clip(truths[0])
    assert np.array_equal(np.stack(list(source.frames())), to_uint8(scene.render()))
    objects, cameras = source.objects(), source.cameras()
    assert objects is not None and set(np.unique(objects)) == {0, 1}
    assert cameras is not None
    torch.testing.assert_close(torch.from_numpy(cameras[1]), scene.cameras()[1].double())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("category=walk", "category='walk'"),
        ("reference=12", "reference='12'"),
        ("target=1", "a reference has no target"),
        ("show=targets&reading=world", "only truths have a reading"),
        ("colour=red", "unknown key 'colour'"),
        ("side=32&side=64", "given twice"),
    ],
)
def test_a_wrong_uri_is_one_clear_error(query: str, said: str) -> None:
    with pytest.raises(ClipError, match=said):
        scan(f"motionscenes://?{query}")


def test_a_folder_of_references_with_prompts_gives_captions_and_target_prompts(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for name in ("references/single/camel.mp4", "references/dog.mp4", "references/cat.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(str(tmp_path / name), iter(frames), Fraction(8))
    prompts = {
        "single/camel": {"reference": "a camel walks", "targets": ["a horse", "a toy"]},
        "dog": "a dog",
    }
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(prompts))
    clips, rejected = scan(str(tmp_path))
    assert not rejected
    assert {(clip.id, clip.kind, clip.caption) for clip in clips} == {
        ("single/camel", "motionbench", "a camel walks"),
        ("dog", "motionbench", "a dog"),
        ("cat", "motionbench", ""),
    }
    assert target_prompts(str(tmp_path), "single/camel") == ("a horse", "a toy")
    assert target_prompts(str(tmp_path), "dog") == ()
    assert len(list(open_clip(clips[0]).frames())) == 3
    before = {clip.id: clip.content_hash for clip in clips}
    file.write_text(json.dumps(prompts | {"dog": "another dog"}))
    assert {clip.id: clip.caption for clip in scan(str(tmp_path))[0]}["dog"] == "another dog"
    assert before != {clip.id: clip.content_hash for clip in scan(str(tmp_path))[0]}
    file.write_text('{"dog": {"goals": []}}')
    clips, rejected = scan(str(tmp_path))
    assert not clips and len(rejected) == 3 and "prompts.json" in rejected[0].error
