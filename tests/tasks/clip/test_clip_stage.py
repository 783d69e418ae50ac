"""What the engine asks of a clip's items."""

from recapture.datasets.clips.clip import Clip
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.ray_pool import Entry, Hosted
from recapture.tasks.engine.stage import Item, Resources


class Anything:
    """A stage of which only name and resources are asked."""

    name, resources, slots = "render", Resources(), 1


def test_of_items_that_wait_the_one_with_the_most_pixels_is_first():
    sizes = {"short": (5, 64, 48), "wide": (5, 640, 48), "long": (500, 64, 48)}
    hosted = Hosted(Anything(), b"", None)
    for name, (frames, width, height) in sizes.items():
        one = ClipParams(
            Clip(name, "/a.mp4", "video", "24", frames, width, height, 0.2, False, "", content_hash="1")
        )
        hosted.add(Entry(Item(name, name, name, params=one), 1, None))
    order = [hosted.next(alone=False).item.name for _ in sizes]
    assert order == ["long", "wide", "short"]
