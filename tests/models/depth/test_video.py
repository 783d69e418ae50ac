import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import tiny_video_depth

from recapture.models.depth.estimator import DepthEstimator
from recapture.models.depth.load import open_depth_model
from recapture.models.depth.video import VideoDepthEstimator, VideoSettings
from recapture.models.depth.video_load import load_video_depth
from recapture.models.depth.video_sampling import (
    FrameCondition,
    cut_windows,
    decode_depth,
    denoise_clip,
    denoise_window,
    encode_frames,
    in_batches,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video_depth")
    return str(folder), tiny_video_depth.save_tiny_video_depth(folder)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved[0], tmp_path / "model")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(frames, height=16, width=24, seed=3):
    return random(frames, 3, height, width, seed=seed).clamp(-1, 1)


def unet_by_hand(unet, sample, timestep, embeddings, time_ids):
    """The UNet on one clip [T,8,h,w], each frame attending to its own embedding [T,d]."""
    count = len(sample)
    emb = unet.time_embedding(unet.time_proj(timestep[None])) + unet.add_embedding(
        unet.add_time_proj(time_ids.flatten()).reshape(1, -1)
    )
    shared = {"temb": emb.repeat(count, 1), "image_only_indicator": torch.zeros(1, count)}
    attended = shared | {"encoder_hidden_states": embeddings[:, None]}
    sample = unet.conv_in(sample)
    skips = [sample]
    for block in unet.down_blocks:
        given = attended if getattr(block, "has_cross_attention", False) else shared
        sample, made = block(hidden_states=sample, **given)
        skips += made
    sample = unet.mid_block(hidden_states=sample, **attended)
    for block in unet.up_blocks:
        count = len(block.resnets)
        skips, used = skips[:-count], tuple(skips[-count:])
        given = attended if getattr(block, "has_cross_attention", False) else shared
        sample = block(hidden_states=sample, res_hidden_states_tuple=used, **given)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))


def denoise_by_hand(pipeline, condition, embeddings, noise, window, overlap, steps):
    """A whole clip: every window its own Euler loop, the noise rotated by the stride after each."""
    scheduler, total = pipeline.scheduler, len(condition)
    window, overlap = (total, 0) if total <= window else (window, overlap)
    noise, stride = noise[:window], window - overlap
    done, start = None, 0
    while start < total - overlap:
        stop = min(start + window, total)
        scheduler.set_timesteps(steps)
        latents = noise[: stop - start] * scheduler.init_noise_sigma
        if done is not None and overlap:
            latents[:overlap] = done[-overlap:] + noise[:overlap] * scheduler.sigmas[0]
        for t in scheduler.timesteps:
            given = torch.cat([scheduler.scale_model_input(latents, t), condition[start:stop]], dim=1)
            time_ids = torch.tensor([[7.0, 127.0, 0.02]])
            velocity = unet_by_hand(pipeline.unet, given, t, embeddings[start:stop], time_ids)
            latents = scheduler.step(velocity, t, latents).prev_sample
        if done is None:
            done = latents
        else:
            for k in range(overlap):
                later = k / (overlap - 1) if overlap > 1 else 0
                index = len(done) - overlap + k
                done[index] = later * latents[k] + (1 - later) * done[index]
            done = torch.cat([done, latents[overlap:]])
        noise, start = torch.cat([noise[stride:], noise[:stride]]), start + stride
    return done


@torch.no_grad()
def test_a_still_clip_in_one_window_equals_the_stock_pipeline(saved):
    folder, pipeline = saved
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    noise = random(5, 4, 8, 12)
    settings = {"height": 16, "width": 24, "num_frames": 5, "num_inference_steps": 3, "decode_chunk_size": 5}
    settings |= {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "fps": 8, "noise_aug_strength": 0.0}
    given = {"image": Image.fromarray(picture), "latents": noise[None], **settings}
    expected = pipeline(**given, output_type="latent").frames[0]
    colours = pipeline(**given, output_type="pt").frames[0]

    model = load_video_depth(folder)
    frames = (torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1).expand(5, 3, 16, 24)
    condition = encode_frames(model, frames, torch.zeros_like(frames))
    latents = denoise_window(model, condition, noise, steps=3, noise_augmentation=0.0)
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decode_depth(model, latents), colours.mean(1), atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1 and colours.mean(1).std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize(
    ("total", "window", "overlap"),
    [(1, 7, 3), (2, 7, 3), (7, 7, 3), (8, 7, 3), (17, 7, 3), (11, 4, 3), (9, 4, 0), (9, 5, 1)],
)
def test_a_clip_in_windows_equals_windows_written_out_by_hand(saved, total, window, overlap):
    folder, pipeline = saved
    condition, embeddings = random(total, 4, 8, 12, seed=1), random(total, 12, seed=2)
    noise = random(window, 4, 8, 12)
    expected = denoise_by_hand(pipeline, condition, embeddings, noise, window, overlap, steps=2)
    model = load_video_depth(folder)
    parts = [FrameCondition(*part) for part in zip(condition.split(3), embeddings.split(3), strict=True)]
    made = list(denoise_clip(model, parts, noise, overlap=overlap, steps=2, noise_augmentation=0.02))
    assert all(len(part) <= window for part in made)
    torch.testing.assert_close(torch.cat(made), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("window", "overlap"), [(7, 3), (4, 3), (5, 0), (1, 0), (110, 25)])
def test_windows_cover_every_frame_and_advance_by_the_stride(window, overlap):
    for total in range(1, 3 * window):
        numbers = torch.arange(total)
        given = [FrameCondition(part, part) for part in numbers.split(4)]
        cut = [(start, c.latents.tolist()) for start, c in cut_windows(given, window, overlap)]
        stride = window - overlap
        starts = [0] if total <= window else list(range(0, total - overlap, stride))
        assert cut == [(start, list(range(start, min(start + window, total)))) for start in starts]


@torch.no_grad()
def test_the_estimator_is_encoding_denoising_and_decoding_by_the_models_own_parts(saved):
    folder, pipeline = saved
    video, settings = clip(9), VideoSettings(window=5, overlap=2, steps=2, noise_augmentation=0.0)
    found = VideoDepthEstimator(folder, batch=4, settings=settings).estimate(video)
    condition = pipeline.vae.encode(video).latent_dist.mode()
    embeddings = torch.cat(
        [pipeline._encode_image(picture, "cpu", 1, False)[:, 0] for picture in pictures(video)]
    )
    generator = torch.Generator().manual_seed(0)
    torch.randint(2**31, (), generator=generator)
    noise = torch.stack([torch.randn(4, 8, 12, generator=generator) for _ in range(5)])
    model = load_video_depth(folder)
    latents = torch.cat(
        list(
            denoise_clip(
                model,
                [FrameCondition(condition, embeddings)],
                noise,
                overlap=2,
                steps=2,
                noise_augmentation=0.0,
            )
        )
    )
    scaled = latents / pipeline.vae.config.scaling_factor
    colours = [pipeline.vae.decode(part, num_frames=len(part)).sample for part in scaled.split(4)]
    expected = ((torch.cat(colours) + 1) / 2).clamp(0, 1).mean(1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert expected.std() > 0.01 and expected.min() >= 0 and expected.max() <= 1


def pictures(video):
    """The frames as the stock pipeline takes tensors: at the size of the image encoder, in [0,1]."""
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
        _resize_with_antialiasing,
    )

    return (_resize_with_antialiasing(video, (224, 224)) + 1)[:, None] / 2


def test_how_a_clip_is_cut_into_chunks_changes_nothing(saved):
    estimator = VideoDepthEstimator(saved[0], batch=4, settings=VideoSettings(window=6, overlap=2, steps=1))
    video = clip(14)
    whole = estimator.estimate(video)
    for size in (1, 3, 5):
        chunks = list(estimator.predict(video.split(size)))
        assert torch.equal(torch.cat(chunks), whole) and max(len(chunk) for chunk in chunks) <= 4
    assert list(estimator.predict([])) == []


def test_where_one_window_holds_the_clip_windows_change_nothing(saved):
    video = clip(6)
    made = [
        VideoDepthEstimator(saved[0], settings=VideoSettings(window=w, overlap=o, steps=1)).estimate(video)
        for w, o in ((6, 0), (6, 4), (50, 25))
    ]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    another = VideoDepthEstimator(saved[0], settings=VideoSettings(window=6, overlap=0, steps=1, seed=1))
    assert not torch.equal(another.estimate(video), made[0])


def test_frames_are_read_no_further_than_a_window_ahead(saved):
    estimator = VideoDepthEstimator(saved[0], batch=2, settings=VideoSettings(window=6, overlap=2, steps=1))
    taken = given = ahead = 0

    def chunks():
        nonlocal taken
        for frame in clip(40).split(1):
            taken += 1
            yield frame

    for depth in estimator.predict(chunks()):
        ahead = max(ahead, taken - given)
        given += len(depth)
    assert given == 40 and ahead <= 6 + 2 + 2


def test_any_size_comes_back_through_multiples_of_the_model_and_not_beyond_the_largest(saved):
    estimator = VideoDepthEstimator(saved[0], settings=VideoSettings(steps=1, max_side=33))
    assert estimator.input_size(3, 17) == (4, 16)
    assert estimator.input_size(66, 40) == (32, 20)
    for height, width in ((18, 27), (40, 30)):
        depth = estimator.estimate(clip(2, height, width))
        assert depth.shape == (2, height, width) and torch.isfinite(depth).all()


def test_the_kind_of_model_is_told_by_its_directory(saved, tmp_path):
    model = open_depth_model(saved[0])
    assert isinstance(model, VideoDepthEstimator) and model.kind == "inverse" and model.consistent
    with pytest.raises(ValueError, match=r"no config\.json.*no model_index\.json.*depth\.model"):
        open_depth_model(str(tmp_path))
    assert not DepthEstimator.consistent


def test_rows_come_in_batches_however_they_were_cut():
    rows = torch.arange(11)
    for size in (1, 4, 20):
        assert [b.tolist() for b in in_batches(rows.split(size), 4)] == [
            [0, 1, 2, 3],
            [4, 5, 6, 7],
            [8, 9, 10],
        ]


def test_values_that_are_not_finite_name_their_frames_and_the_way_out(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"][0] = torch.nan
    save_file(tensors, weights)
    estimator = VideoDepthEstimator(str(folder), settings=VideoSettings(window=6, overlap=2, steps=1))
    with pytest.raises(ValueError, match=r"frames 0\.\.\.5.*depth\.video\.precision"):
        estimator.estimate(clip(8))


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "feature_extractor", "scheduler"])
def test_a_directory_that_lacks_a_part_is_refused_by_its_name(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=rf"has no {part}; set depth\.model"):
        load_video_depth(str(folder))


def test_another_pipeline_is_refused_by_its_class(folder):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "WanPipeline"}))
    with pytest.raises(ValueError, match=r"holds a WanPipeline, which predicts no depth"):
        load_video_depth(str(folder))
    index.write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json cannot be read as JSON"):
        load_video_depth(str(folder))


@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_out.bias"),
        ("image_encoder/model.safetensors", "visual_projection.weight"),
    ],
)
def test_a_tensor_that_is_missing_is_named(folder, file, tensor):
    tensors = load_file(folder / file)
    del tensors[tensor]
    save_file(tensors, folder / file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 tensors, '{tensor}' first"):
        load_video_depth(str(folder))


def test_weights_cut_short_and_pickles_are_refused(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"vae cannot be loaded"):
        load_video_depth(str(folder))
    weights.write_bytes(whole)
    torch.save(load_file(weights), folder / "vae" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match=r"vae cannot be loaded"):
        load_video_depth(str(folder))


def test_parts_that_do_not_fit_each_other_are_refused(folder):
    config = folder / "unet" / "config.json"
    settings = json.loads(config.read_text()) | {"in_channels": 4}
    config.write_text(json.dumps(settings))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :4].clone()
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"do not fit: the UNet takes 4 channels"):
        load_video_depth(str(folder))


def test_half_precision_files_alone_are_enough(folder, saved):
    video, settings = clip(3), VideoSettings(steps=1)
    expected = VideoDepthEstimator(saved[0], settings=settings).estimate(video)
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("image_encoder", "model"),
    ):
        weights = folder / part / f"{name}.safetensors"
        halved = {key: tensor.half() for key, tensor in load_file(weights).items()}
        save_file(halved, folder / part / f"{name}.fp16.safetensors", metadata={"format": "pt"})
        weights.unlink()
    found = VideoDepthEstimator(str(folder), settings=settings).estimate(video)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(("window", "overlap"), [(5, 5), (5, 6), (5, -1)])
def test_windows_that_do_not_advance_are_refused(window, overlap):
    with pytest.raises(ValueError, match=r"depth\.video\.overlap below depth\.video\.window"):
        VideoSettings(window=window, overlap=overlap)
