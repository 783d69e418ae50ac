"""Depth, known masks and object ids that a clip brings are resampled about pixel centres."""

import cv2
import numpy as np
import pytest
import torch
from support.plans import planned

from recapture.conf.load import load_config
from recapture.conf.schema import RenderConfig
from recapture.datasets.clips.edit_masks import shrink
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.datasets.store.store import ArtifactStore
from recapture.models.geometry.cameras import scale_intrinsics
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import preview_stages
from recapture.tasks.jobs.render import surface_settings
from recapture.tasks.tune.source import read_objects

HEIGHT, WIDTH, SHORT = 768, 1024, 96


@pytest.fixture
def ingested(tmp_path):
    """Return a function: a folder of PNG frames with sidecars -> clip, artifacts of ingest and depth."""

    def run(video, short_side=SHORT, **sidecars):
        folder = tmp_path / "clips" / "clip"
        folder.mkdir(parents=True)
        for number, frame in enumerate(video):
            cv2.imwrite(str(folder / f"{number:03d}.png"), frame[..., ::-1])
        for name, array in sidecars.items():
            np.savez(tmp_path / "clips" / f"clip.{name}.npz", **{name: array})
        config = load_config(
            arguments=[
                *("--dataset.uri", str(tmp_path / "clips"), "--store", f"{tmp_path}/artifacts"),
                *("--ingest.short_side", str(short_side), "--depth.max_unknown_share", "1"),
            ]
        )
        store, made = ArtifactStore(config.store), {}
        job = planned(config, preview_stages)
        for name in ("ingest", "depth"):
            item = job.items(name)[0]
            stage = job.stage(name)
            stage.setup()
            outcome = work(stage, item, store, 1)
            assert outcome.status == "ok", outcome.traceback
            made[name] = store.open(name, item.key)
        return job.clips[0], made

    return run


def assert_hold_the_centres(picked, count, size):
    """The picked source rows or columns of `count` each contain the centre of their pixel of `size`."""
    centres = (np.arange(size) + 0.5) * count / size
    assert len(picked) == size and np.abs(picked + 0.5 - centres).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1080, 1920), (333, 517)])
def test_depth_known_and_object_ids_are_those_at_the_centre_of_each_pixel(ingested, height, width):
    place = 1.0 + np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    known = (np.arange(width) % 3 > 0)[None, None] & np.ones((1, height, 1), dtype=bool)
    clip, made = ingested(
        np.zeros((1, height, width, 3), np.uint8),
        128,
        depth=place,
        known=known,
        objects=place.astype(np.int64),
    )
    h, w = made["ingest"].meta["content"]
    found = made["depth"].frames().read(0, 1)
    picked = found["depth"][0, :h, :w].astype(int) - 1
    rows, columns = picked[:, 0] // width, picked[0] % width
    np.testing.assert_array_equal(picked, rows[:, None] * width + columns)
    assert_hold_the_centres(rows, height, h)
    assert_hold_the_centres(columns, width, w)
    np.testing.assert_array_equal(found["known"][0, :h, :w], known[0][np.ix_(rows, columns)])
    ids = read_objects(clip, made["ingest"], 0, 1)
    np.testing.assert_array_equal(ids[0, :h, :w].numpy(), picked + 1)


def test_a_mask_that_is_enlarged_stays_about_pixel_centres():
    for column in range(50):
        small = np.zeros((33, 50), dtype=bool)
        small[column % 33, column] = True
        rows, columns = np.nonzero(shrink(small, 80, 121))
        assert np.abs((rows + 0.5) * 33 / 80 - (column % 33 + 0.5)).max() <= 0.5 + 1e-9
        assert np.abs((columns + 0.5) * 50 / 121 - (column + 0.5)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("preset", "amount"), [("orbit_right", {"angle_degrees": 20}), ("right", {"distance": 0.3})]
)
def test_given_depth_renders_as_well_as_a_ray_cast_at_the_working_size(ingested, preset, amount):
    scene, time = sample_scene(0, False), torch.zeros(1)
    lens, pose = source_cameras(scene, 1, HEIGHT, WIDTH)
    seen = render_scene(scene, lens, pose, time, HEIGHT, WIDTH)
    path = preset_path(preset, lens, pose, 4.0, mode="direct", **amount)
    truth = render_scene(
        scene, path.intrinsics.float(), path.world_to_camera.float(), time, HEIGHT, WIDTH
    ).video[0]
    video = ((seen.video.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    _, made = ingested(video, depth=seen.depth.numpy())
    h, w = made["ingest"].meta["content"]
    picture = torch.from_numpy(made["ingest"].frames().read(0, 1)["rgb"]).permute(0, 3, 1, 2) / 127.5 - 1
    factors = (w / WIDTH, h / HEIGHT)
    small, target = scale_intrinsics(lens, *factors), scale_intrinsics(path.intrinsics, *factors)
    cast = render_scene(scene, small.float(), pose, time, h, w).depth
    given = torch.from_numpy(made["depth"].frames().read(0, 1)["depth"])
    small_truth = torch.from_numpy(
        cv2.resize(truth.permute(1, 2, 0).numpy(), (w, h), interpolation=cv2.INTER_AREA)
    ).permute(2, 0, 1)
    reached = []
    corners = torch.from_numpy(cv2.resize(seen.depth[0].numpy(), (w, h), interpolation=cv2.INTER_NEAREST))[
        None
    ]
    for depth in (given, cast, corners):
        view = render(
            picture,
            depth,
            small,
            pose,
            target,
            path.world_to_camera,
            surface=surface_settings(RenderConfig()),
        )
        error = ((view.video[0] - small_truth) / 2)[:, view.visible[0]]
        reached.append(-10 * float(error.square().mean().log10()))
    assert reached[0] > reached[1] - 0.2 and reached[0] > reached[2] + 1, reached
