"""Every long loop beats: a worker whose frames, windows, steps or files go on is never taken for hung."""

import threading
import time
from contextvars import copy_context
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from support import tiny_base, tiny_video_depth
from support.filler import wan_filler
from support.surface import SURFACE

from recapture.conf import heartbeat
from recapture.conf.heartbeat import beat, beating, call, seconds_since_beat, waiting
from recapture.datasets.media.pictures import iterate_pictures
from recapture.datasets.media.video import iterate_frames, write_video
from recapture.datasets.store.keys import file_hash
from recapture.datasets.store.store import ArtifactStore
from recapture.models.depth.load import open_depth_model
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry import rasterize
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.rasterize import render
from recapture.models.metrics.suite import measure
from recapture.models.wan.load import load_base
from recapture.models.wan.vae import decode_latents, encode_video

FRAMES, SIDE = 9, 32


@pytest.fixture
def beats(monkeypatch):
    """Count the beats of this process."""

    class Clock:
        count = 0

        def monotonic(self):
            self.count += 1
            return time.monotonic()

    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


@pytest.fixture(scope="module")
def views():
    """A slanted wall seen by a still camera and from the side, where a strip of it is unknown."""
    random = torch.Generator().manual_seed(0)
    video = torch.rand(FRAMES, 3, SIDE, SIDE, generator=random) * 2 - 1
    depth = torch.linspace(4, 5, SIDE).expand(FRAMES, SIDE, SIDE).clone()
    known = torch.ones(FRAMES, SIDE, SIDE, dtype=torch.bool)
    intrinsics = default_intrinsics(SIDE, SIDE).expand(FRAMES, 3, 3)
    still = torch.eye(4).expand(FRAMES, 4, 4)
    source = SourceView(video, depth, known, intrinsics, still, torch.arange(FRAMES))
    visible = known.clone()
    visible[:, :, :9] = False
    holes = torch.where(visible[:, None], video, 0.0)
    stretch = torch.ones_like(depth)
    return source, RenderedView(
        holes, visible, torch.where(visible, depth, torch.inf), stretch, intrinsics, still
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_base.write_tiny_base(tmp_path_factory.mktemp("base") / "inpaint")


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


def test_the_time_since_the_last_beat_is_that_of_any_thread():
    time.sleep(0.05)
    assert seconds_since_beat() >= 0.05
    beater = threading.Thread(target=beat)
    beater.start()
    beater.join()
    assert seconds_since_beat() < 0.05
    assert list(beating(range(3))) == [0, 1, 2]


def test_each_call_has_beats_of_its_own(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    beat()

    def in_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with call("a"):
        of_a = copy_context()
        with call("b"):
            clock.now += 5
            in_thread(partial(of_a.run, beat))  # a thread in the context of a call beats for it
            clock.now += 2
            assert seconds_since_beat("a") == 2
            assert seconds_since_beat("b") == 7
            assert seconds_since_beat() == 2
            in_thread(beat)  # a thread of no call: nobody knows whose it is
            assert seconds_since_beat("b") == 0
            clock.now += 3
            beat()
            assert seconds_since_beat("a") == 3
            assert seconds_since_beat("b") == 0
            clock.now += 4
            with waiting():  # for what another call holds
                assert seconds_since_beat("b") == 0
            clock.now += 1
            assert seconds_since_beat("b") == 1  # not 5: it can only work since it waits no longer
            assert seconds_since_beat("a") == 8
    assert seconds_since_beat("a") == 0  # it has ended


def test_every_frame_that_is_encoded_or_decoded_beats(tmp_path, beats):
    path = str(tmp_path / "a.mp4")
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    write_video(path, [frame] * FRAMES, fps=Fraction(24))
    assert beats.count >= FRAMES
    beats.count = 0
    assert len(list(iterate_frames(path))) == FRAMES
    assert beats.count >= FRAMES


def test_every_picture_that_is_read_beats(tmp_path, beats):
    for number in range(FRAMES):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    assert len(list(iterate_pictures(str(tmp_path)))) == FRAMES
    assert beats.count >= FRAMES


def test_every_block_that_is_hashed_beats(tmp_path, beats):
    (tmp_path / "model.safetensors").write_bytes(bytes(5 << 20))
    file_hash(str(tmp_path / "model.safetensors"))
    assert beats.count >= 5


@pytest.mark.parametrize("root", ["local", "memory"])
def test_every_file_of_an_artifact_beats_when_it_is_written_and_read(tmp_path, beats, root):
    store = ArtifactStore(str(tmp_path) if root == "local" else "memory://beats")
    with store.create("ingest", "a" * 32) as output, output.frames(chunk=2) as writer:
        writer.append(rgb=np.zeros((FRAMES, 4, 4, 3), np.uint8))
    assert beats.count >= 5
    beats.count = 0
    reader = store.open("ingest", "a" * 32).frames()
    assert len(reader.read(0, FRAMES)["rgb"]) == FRAMES
    assert beats.count >= 5


def test_every_rendered_frame_beats(views, beats, monkeypatch):
    monkeypatch.setattr(rasterize, "CPU_CHUNK_QUADS", 1)  # small frames are drawn several at once
    source, view = views
    cameras = (source.intrinsics, source.world_to_camera, view.intrinsics, view.world_to_camera)
    render(source.video, source.depth, *cameras, surface=SURFACE)
    assert beats.count >= FRAMES


def test_every_frame_of_the_classical_fill_beats(views, beats):
    source, view = views
    fill_classical(view, source, surface=SURFACE, propagate=False)
    assert beats.count >= FRAMES


def test_every_frame_of_every_metric_beats(views, beats):
    source, view = views
    measure(source.video, source, view, surface=SURFACE, truth=source.video)
    assert beats.count >= 10 * FRAMES


def test_every_part_of_a_checkpoint_beats_as_it_is_loaded(folder, beats):
    base = load_base(folder)
    assert beats.count >= len(base.transformer.state_dict()) + len(base.vae.state_dict())


def test_every_sampling_step_beats(views, base, beats):
    _, view = views
    wan_filler(base, steps=3, guidance_scale=2.0).fill_both(view, caption="a red box", seed=0)
    assert beats.count >= 3 * 2


def test_every_chunk_of_the_vae_beats(views, base, beats):
    latents = encode_video(base.vae, views[0].video)
    assert beats.count >= latents.shape[1]  # one per latent frame
    beats.count = 0
    decode_latents(base.vae, latents)
    assert beats.count >= latents.shape[1]


def test_every_step_and_window_of_a_video_depth_model_beats(tmp_path, views, beats):
    tiny_video_depth.save_tiny_video_depth(tmp_path)
    model = open_depth_model(str(tmp_path))
    beats.count = 0
    depth = model.estimate(views[0].video)
    assert len(depth) == FRAMES
    assert beats.count >= 5
