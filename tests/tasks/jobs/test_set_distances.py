"""Distances over a job: the features of all its measurements as one set."""

import numpy as np
import pytest

from recapture.datasets.store.store import ArtifactStore
from recapture.models.metrics.frechet import frechet_distance, kernel_distance
from recapture.tasks.jobs import set_distances as module
from recapture.tasks.jobs.set_distances import set_distances

RANDOM = np.random.default_rng(0)
SETS = [
    {
        f"{name}.{kind}": RANDOM.normal(size=(count, 3)).astype(np.float16)
        for name in ("base", "reference")
        for kind, count in (("frames", 9), ("windows", 2))
    }
    for _ in range(4)
]


@pytest.fixture
def store(tmp_path):
    store = ArtifactStore(str(tmp_path))
    for index, sets in enumerate(SETS):
        with store.create("measure", f"k{index}") as output:
            output.write_npz("features.npz", **sets, **{"reference.true": np.array(index < 2)})
    with store.create("measure", "bare") as output:
        output.write_json("metrics.json", {})
    return store


def joined(name, indices):
    return np.concatenate([SETS[index][name] for index in indices]).astype(np.float64)


def test_all_videos_are_one_set_and_those_without_features_are_left_out_and_counted(store):
    found = set_distances(store, {"a": "k0", "b": "bare", "c": "k1", "d": "gone"})
    frames = joined("base.frames", (0, 1)), joined("reference.frames", (0, 1))
    windows = joined("base.windows", (0, 1)), joined("reference.windows", (0, 1))
    assert found.metrics == pytest.approx(
        {
            "base/frechet_image": frechet_distance(*frames),
            "base/kernel_image": kernel_distance(*frames),
            "base/frechet_clip": frechet_distance(*windows),
            "base/kernel_clip": kernel_distance(*windows),
        }
    )
    assert (found.videos, found.of, found.frames, found.windows) == (2, 4, 18, 4)
    text = "\n".join(found.lines())
    assert "18 frames, 4 windows of 2 of 4 videos, to the truth" in text
    assert "| frechet_image |" in text and "So few windows say little" in text


def test_the_reference_is_named(store):
    assert set_distances(store, {"c": "k2"}).reference == "the source"
    assert set_distances(store, {"a": "k0", "c": "k2"}).reference == "the truth or the source"


def test_of_many_videos_some_are_looked_at_from_the_first_to_the_last(store, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    found = set_distances(store, {name: f"k{name}" for name in "0123"})
    assert (found.videos, found.of) == (2, 4)
    expected = frechet_distance(joined("base.frames", (0, 3)), joined("reference.frames", (0, 3)))
    assert found.metrics["base/frechet_image"] == pytest.approx(expected)


def test_nothing_measured_has_no_distances(store):
    assert set_distances(store, {}) is None
    assert set_distances(store, {"b": "bare"}) is None


def test_one_window_has_no_distance_of_clips(store):
    with store.create("measure", "one") as output:
        short = {name: features[:1] if "windows" in name else features for name, features in SETS[0].items()}
        output.write_npz("features.npz", **short, **{"reference.true": np.array(True)})
    assert set_distances(store, {"a": "one"}).metrics.keys() == {"base/frechet_image", "base/kernel_image"}
