"""The files of a result: at the clip's own size, frame by frame, with depth and with what was invented."""

import av
import cv2
import numpy as np
import pytest
import torch
from support.bare_job import configure, run_bare

from recapture.conf.errors import UserError
from recapture.datasets.media import encoding
from recapture.datasets.media.picture_files import to_linear
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.store.store import ArtifactStore
from recapture.models.depth.enlarge import enlarge_depth
from recapture.models.geometry.cameras import scale_intrinsics
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import to_frames, to_video

LARGE = "scenes://?count=1&seed=3&frames=9&height=66&width=90"
SOURCE = ("--dataset.uri", LARGE, "--ingest.short_side", "32", "--deliver.size", "source")
ALL = ("--deliver.codec", "prores", "--deliver.alpha", "true", "--deliver.frames", "exr")


def made(root, *words):
    """Run a job of one clip; return stage -> its artifact, and the clip."""
    config = configure(root, *words, count=1)
    outcomes = run_bare(config)
    wrong = [one.error for stage in outcomes.values() for one in stage if one.status != "ok"]
    assert not wrong, wrong
    store = ArtifactStore(config.store)
    return (
        {stage: store.open(stage, found[0].key) for stage, found in outcomes.items()},
        scan(config.dataset.uri)[0][0],
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return made(tmp_path_factory.mktemp("large"), *SOURCE, *ALL, "--deliver.depth", "true")


def exr(artifact, name):
    decoder = av.CodecContext.create("exr", "r")
    frame = (decoder.decode(av.Packet(artifact.read_bytes(name))) + decoder.decode(None))[0]
    kind = np.float16 if "f16" in frame.format.name else np.float32
    planes = [np.frombuffer(one, kind).reshape(one.height, -1)[:, : one.width] for one in frame.planes]
    return planes[0] if len(planes) == 1 else np.stack([planes[place] for place in (2, 0, 1, 3)], -1)


def test_known_pixels_are_those_of_the_full_size_render(large):
    """Against the renderer itself, given the clip's frames and the enlarged depth."""
    artifacts, clip = large
    ingest, path = artifacts["ingest"], artifacts["render"].read_npz("cameras.npz")
    enlarged = artifacts["enlarge"].frames().read(0, 9)
    height, width = ingest.meta["content"]
    factors = clip.width / width, clip.height / height
    source = to_video(np.stack(list(open_clip(clip).frames())))
    small = to_video(ingest.frames().read(0, 9, ["rgb"])["rgb"][:, :height, :width])
    depth = artifacts["depth"].frames().read(0, 9, ["depth"])["depth"][:, :height, :width]
    lens = torch.from_numpy(ingest.read_npz("cameras.npz")["intrinsics"])
    pose = torch.from_numpy(ingest.read_npz("cameras.npz")["world_to_camera"])
    expected = render(
        source,
        enlarge_depth(torch.from_numpy(depth), small, source, 0.05),
        scale_intrinsics(lens, *factors).float(),
        pose,
        scale_intrinsics(torch.from_numpy(path["intrinsics"]), *factors).float(),
        torch.from_numpy(path["world_to_camera"]),
        surface=SurfaceSettings(0.05, 0.3, 16.0),
    )
    known = enlarged["known"]
    assert enlarged["rgb"].shape == (9, 66, 90, 3) and 0.5 < known.mean() < 1
    assert np.array_equal(enlarged["rgb"][known], to_frames(expected.video)[known])
    assert not known[~expected.visible.numpy()].any()
    assert np.isinf(enlarged["depth"][~expected.visible.numpy()]).all()


def test_holes_are_the_enlarged_fill(large):
    artifacts, _ = large
    enlarged = artifacts["enlarge"].frames().read(0, 9)
    filled = read_filled(artifacts["fill"], artifacts["render"], np.arange(9))["rgb"]
    height, width = artifacts["ingest"].meta["content"]
    expected = np.stack(
        [cv2.resize(one[:height, :width], (90, 66), interpolation=cv2.INTER_CUBIC) for one in filled]
    )
    away = np.abs(enlarged["rgb"].astype(int) - expected)[~enlarged["known"]]
    assert np.median(away) <= 8  # the membrane shifts it to what is beside the hole


def test_files_are_of_the_clips_size_and_say_what_was_invented(large):
    artifacts, _ = large
    delivered, enlarged = artifacts["deliver"], artifacts["enlarge"].frames().read(0, 9)
    names = delivered.names()
    assert [one for one in names if one.startswith("frame.")] == [f"frame.{n:05}.exr" for n in range(9)]
    assert [one for one in names if one.startswith("depth.")] == [f"depth.{n:05}.exr" for n in range(9)]
    assert "recapture.mov" in names and "recapture.mp4" not in names
    for t in (0, 7, 8):
        rgba = exr(delivered, f"frame.{t:05}.exr")
        assert rgba.dtype == np.float16
        assert np.array_equal(rgba[..., 3], enlarged["known"][t])
        assert np.array_equal(rgba[..., :3], to_linear(enlarged["rgb"][t]).astype(np.float16))
        assert np.array_equal(exr(delivered, f"depth.{t:05}.exr"), enlarged["depth"][t])
    with delivered.local_path("recapture.mov") as path, av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (90, 66)
        alpha = frame.to_ndarray(format="rgba")[..., 3]
        assert np.array_equal(alpha > 127, enlarged["known"][0])


def test_a_camera_that_stays_gives_the_clip_itself(tmp_path):
    two = ("--dataset.uri", LARGE.replace("frames=9", "frames=2"))
    artifacts, clip = made(tmp_path, *SOURCE, *two, "--trajectories", "[{preset: static}]")
    enlarged = artifacts["enlarge"].frames().read(0, 2)
    source = np.stack(list(open_clip(clip).frames()))
    assert enlarged["known"].mean() > 0.99
    assert np.abs(enlarged["rgb"].astype(int) - source)[enlarged["known"]].max() <= 1


def test_at_the_working_size_alpha_is_where_the_result_is_the_render(tmp_path):
    words = ("--deliver.frames", "png", "--deliver.alpha", "true", "--deliver.depth", "true")
    artifacts, _ = made(tmp_path, *words)
    render_ = artifacts["render"].frames().read(0, 5)
    filled = read_filled(artifacts["fill"], artifacts["render"], np.arange(5))["rgb"]
    for t in range(5):
        content = np.frombuffer(artifacts["deliver"].read_bytes(f"frame.{t:05}.png"), np.uint8)
        rgba = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        assert np.array_equal(rgba[..., :3], filled[t])
        known = render_["visible"][t] & (filled[t] == render_["rgb"][t]).all(-1)
        assert np.array_equal(rgba[..., 3], known * 255)
        assert known.mean() < 1 or t == 0
        assert np.array_equal(exr(artifacts["deliver"], f"depth.{t:05}.exr"), render_["depth"][t])


def test_a_mask_has_no_source_size(tmp_path):
    config = configure(tmp_path, *SOURCE, "--mask.outpaint.left", "0.2")
    with pytest.raises(UserError, match=r"deliver\.size source: .*set deliver\.size working"):
        run_bare(config)


def test_a_job_whose_encoder_is_missing_ends_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(encoding.ENCODERS, "prores", "prores_kx")
    config = configure(tmp_path, "--deliver.codec", "prores")
    with pytest.raises(UserError, match=r"deliver: .*no encoder prores_kx; .*set deliver\.codec h264"):
        run_bare(config)
    assert not (tmp_path / "artifacts/objects").exists()
