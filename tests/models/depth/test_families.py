"""Every family is fed and read as transformers' own image processor and post-processing do it: values."""

import enum
import json
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny_depth
from torch.nn.functional import interpolate
from transformers import AutoModelForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.glpn.image_processing_pil_glpn import GLPNImageProcessorPil
from transformers.models.zoedepth import image_processing_pil_zoedepth
from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil

from recapture.models.depth.alignment import align_depth
from recapture.models.depth.estimator import DepthEstimator, stated_kind
from recapture.models.depth.load import open_depth_model

SIZES = ((48, 80), (70, 45), (33, 129), (120, 160))
CASES = {  # name: family, preprocessor, transformers' processor, what it predicts
    "depth_anything": ("depth_anything", None, DPTImageProcessorPil, "inverse"),
    "dpt": ("dpt", None, DPTImageProcessorPil, "inverse"),
    "dpt, old file": ("dpt", "dpt_old", DPTImageProcessorPil, "inverse"),
    "dpt, beit's file": ("dpt_beit", None, DPTImageProcessorPil, "inverse"),
    "dpt_dinov2": ("dpt_dinov2", None, DPTImageProcessorPil, "metric"),
    "glpn": ("glpn", None, GLPNImageProcessorPil, "metric"),
    "zoedepth": ("zoedepth", None, ZoeDepthImageProcessorPil, "metric"),
}


class Mode(enum.Enum):
    """Torchvision's InterpolationMode, by the names of torch."""

    BILINEAR, BICUBIC = "bilinear", "bicubic"


def resize(image, size, interpolation=Mode.BILINEAR, antialias=True):
    """What torchvision's resize does with a float tensor [1,H,W]."""
    how = {"mode": interpolation.value, "antialias": antialias, "align_corners": False}
    return interpolate(image[None], tuple(size), **how)[0]


@pytest.fixture(autouse=True)
def torchvisions_resize(monkeypatch):
    """Stand in for the one function of torchvision that post-processing calls."""
    functional = types.SimpleNamespace(resize=resize, InterpolationMode=Mode)
    monkeypatch.setattr(image_processing_pil_zoedepth, "tvF", functional, raising=False)


@pytest.fixture
def depth_pro_class(monkeypatch):
    """Transformers' processor of Depth Pro, whose file imports torchvision."""
    functional = types.ModuleType("torchvision.transforms.v2.functional")
    functional.resize, functional.InterpolationMode = resize, Mode
    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.v2", functional.__name__]
    for name in names[:3]:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[2]].functional = functional
    monkeypatch.setitem(sys.modules, functional.__name__, functional)
    file = "transformers.models.depth_pro.image_processing_depth_pro"
    monkeypatch.delitem(sys.modules, file, raising=False)
    __import__(file)
    module = sys.modules.pop(file)
    module.pil_torch_interpolation_mapping = {2: Mode.BILINEAR}
    return module.DepthProImageProcessor


def pictures(height, width, count=2):
    """Smooth random pictures, uint8 [T,3,H,W]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(height * width))
    return (interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 255).round().byte()


def as_video(frames):
    return frames.float() / 127.5 - 1


def published(folder, processor_class, frames):
    """Pixel values and depth by the published way: transformers' processor, model and post-processing."""
    with open(f"{folder}/preprocessor_config.json") as file:
        processor = processor_class.from_dict(json.load(file))
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    height, width = frames.shape[2:]
    pixels = processor(list(frames.numpy()), return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        output = model(**pixels)
    sizes = {"target_sizes": [(height, width)] * len(frames)}
    if processor_class is ZoeDepthImageProcessorPil:
        sizes["source_sizes"] = sizes["target_sizes"]
    read = processor.post_process_depth_estimation(output, **sizes)
    return pixels["pixel_values"], torch.stack([one["predicted_depth"] for one in read]), output


@pytest.mark.parametrize("case", CASES)
def test_a_family_is_fed_and_read_as_its_published_processor_does(tmp_path, case):
    family, preprocessor, processor_class, kind = CASES[case]
    folder = tiny_depth.save(tmp_path / "model", family, preprocessor)
    estimator = DepthEstimator(folder)
    assert estimator.kind == kind
    for height, width in SIZES:
        frames = pictures(height, width)
        pixels, depth, output = published(folder, processor_class, frames)
        assert estimator.input_size(height, width) == tuple(pixels.shape[2:])
        fed = estimator._processor.feed(frames.float())
        # Pillow rounds between its two passes: a grey level at most, a fifth of one on average
        level = 1.01 / 255 / 0.22 if pixels.abs().max() < 50 else 1.01 / 57
        assert (fed - pixels).abs().max() <= level and (fed - pixels).abs().mean() < level / 4
        if family == "dpt_dinov2":
            depth = zeros_cut_off(output.predicted_depth, pixels.shape[2:], height, width)
        exact = estimator._processor.read(output, height, width, None)
        torch.testing.assert_close(exact, depth, atol=1e-5 * float(depth.std()), rtol=1e-5)
        found = estimator.estimate(as_video(frames))
        assert (found - depth).abs().mean() < 0.05 * depth.std()


def zeros_cut_off(depth, padded, height, width):
    """The prediction at the padded size, of which the frame's own part is kept."""
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
    full = interpolate(depth[:, None], tuple(padded), mode="bicubic", align_corners=False)
    return full[:, 0, top : top + height, left : left + width]


def test_frames_smaller_than_the_models_side_take_the_factor_nearer_to_one(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "depth_anything")
    # 56 / 28 = 2 and 56 / 84 = 2/3: the width is fitted, where fitting the short side would give 56 x 168
    assert DepthEstimator(folder).input_size(28, 84) == (14, 56)


def assert_same_metres(found, expected):
    """Compare 1/depth, which the model predicts: far away, rounding moves depth itself by much."""
    torch.testing.assert_close(1 / found, 1 / expected, rtol=1e-4, atol=1e-3 * float((1 / expected).median()))


@pytest.mark.parametrize("use_fov_model", [True, False])
def test_depth_pro_gives_metres_as_its_post_processing_does(tmp_path, depth_pro_class, use_fov_model):
    folder = tiny_depth.save(tmp_path / "model", "depth_pro", use_fov_model=use_fov_model)
    estimator = DepthEstimator(folder)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    assert estimator.kind == "metric"
    for height, width in SIZES:
        frames = pictures(height, width)
        assert estimator.input_size(height, width) == (96, 96)
        pixels = interpolate(as_video(frames), (96, 96), mode="bilinear", align_corners=False)
        with torch.no_grad():
            output = model(pixel_values=pixels)
        read = depth_pro_class.post_process_depth_estimation(
            types.SimpleNamespace(resample=2), output, target_sizes=[(height, width)] * len(frames)
        )
        expected = torch.stack([one["predicted_depth"] for one in read])
        found = estimator.estimate(as_video(frames))
        assert_same_metres(found, expected)
        assert expected.std() > 0.01 * expected.mean()


def test_depth_pro_takes_the_clips_own_focal_length_where_it_is_known(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "depth_pro", use_fov_model=True)
    estimator, frames = DepthEstimator(folder, batch=2), pictures(48, 80, 3)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    focal = torch.tensor([60.0, 90.0, 40.0])
    with torch.no_grad():
        inverse = model(
            pixel_values=interpolate(as_video(frames), (96, 96), mode="bilinear", align_corners=False)
        ).predicted_depth
    scaled = inverse * (80 / focal)[:, None, None]
    full = interpolate(scaled[:, None], (48, 80), mode="bilinear", align_corners=False)[:, 0]
    found = torch.cat(list(estimator.predict(as_video(frames).split(1), focal / 80)))
    assert_same_metres(found, 1 / full.clamp(1e-4, 1e4))


def test_depth_pros_near_and_far_do_not_change_places(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "depth_pro", use_fov_model=False)
    output = types.SimpleNamespace(field_of_view=None)
    output.predicted_depth = torch.tensor([0.5, 0.25]).repeat_interleave(48).expand(1, 96, 96)
    estimator = DepthEstimator(folder)
    depth, _ = align_depth(estimator._processor.read(output, 40, 80, None), estimator.kind)
    torch.testing.assert_close(depth[:, :, -10:], 2 * depth[:, :, :10])


def test_a_user_who_calls_depth_pro_inverse_gets_inverse_depth(tmp_path):
    folder, video = tiny_depth.save(tmp_path / "model", "depth_pro"), as_video(pictures(48, 80))
    as_inverse = DepthEstimator(folder, kind="inverse").estimate(video)
    torch.testing.assert_close(as_inverse, 1 / DepthEstimator(folder).estimate(video))


@pytest.mark.parametrize("max_depth", [20, 80])
def test_metric_depth_anything_gives_metres_up_to_its_largest_depth(tmp_path, max_depth):
    given = {"depth_estimation_type": "metric", "max_depth": max_depth}
    folder = tiny_depth.save(tmp_path / "model", "depth_anything", **given)
    frames = pictures(48, 80)
    _, metres, _ = published(folder, DPTImageProcessorPil, frames)
    estimator = DepthEstimator(folder)
    assert estimator.kind == "metric" and 0.5 * max_depth < metres.max() < 1.2 * max_depth
    found = estimator.estimate(as_video(frames))
    assert (found - metres).abs().mean() < 0.01 * max_depth
    first, _ = align_depth(found[:1], "metric")  # its own scale: nothing is set to a median
    torch.testing.assert_close(first[first < 25 * first.median()], found[:1][first < 25 * first.median()])


@pytest.mark.parametrize("family", [name for name in tiny_depth.PREPROCESSORS if name in tiny_depth._MODELS])
def test_frames_of_one_pixel_and_of_extreme_aspect_have_depth(tmp_path, family):
    estimator = DepthEstimator(tiny_depth.save(tmp_path / "model", family))
    for height, width in ((1, 1), (2, 300), (90, 4)):
        depth = estimator.estimate(torch.zeros(1, 3, height, width))
        assert depth.shape == (1, height, width) and torch.isfinite(depth).all()


def test_without_a_preprocessor_file_depth_anything_is_fed_as_its_authors_do(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "depth_anything")
    with_file = DepthEstimator(folder)._processor
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    without = DepthEstimator(folder)._processor
    for field in ("size", "resample", "keep_aspect_ratio", "ensure_multiple_of"):
        assert getattr(with_file, field) == getattr(without, field)
    np.testing.assert_allclose(with_file.image_mean, without.image_mean)


def test_weights_that_are_used_must_be_there_and_unused_ones_may_be_missing(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "dpt")
    file = tmp_path / "model" / "model.safetensors"
    whole = load_file(file)
    unused = {name: value for name, value in whole.items() if "layers.0.residual_layer1" not in name}
    assert len(unused) < len(whole)
    video, expected = as_video(pictures(48, 80)), DepthEstimator(folder).estimate(as_video(pictures(48, 80)))
    save_file(unused, file, metadata={"format": "pt"})
    torch.testing.assert_close(DepthEstimator(folder).estimate(video), expected)
    save_file(
        {name: value for name, value in whole.items() if "head" not in name}, file, metadata={"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"lack \d+ tensors, 'head"):
        DepthEstimator(folder)


def test_a_model_type_that_is_not_known_is_refused_unless_its_prediction_is_stated(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "depth_anything")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "depth_novelty"}))
    with pytest.raises(ValueError, match=r"'depth_novelty'.*depth\.prediction.*'inverse' or 'metric'.*GLPN"):
        stated_kind(folder)
    with pytest.raises(ValueError, match=r"cannot be loaded.*Depth Anything V1 and V2"):
        DepthEstimator(folder, kind="inverse")


def test_an_image_processor_that_is_not_known_is_named(tmp_path):
    folder = tiny_depth.save(tmp_path / "model", "dpt")
    (tmp_path / "model" / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor"})
    )
    with pytest.raises(ValueError, match=r"ViTImageProcessor, known are DPTImageProcessor.*depth\.model"):
        DepthEstimator(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"depth_anything_v2_vitl.pth": b""}, r"original Depth Anything V2.*-hf"),
        ({"depth_anything_vitl14.pth": b""}, r"original Depth Anything V1.*-hf"),
        ({"video_depth_anything_vits.pth": b""}, r"Video Depth Anything.*DepthCrafter.*NAME\.depth\.npz"),
        ({"depth_pro.pt": b""}, r"original Depth Pro.*DepthPro-hf"),
        (
            {"config.json": b'{"model_name": "da3-large", "config": {}}', "model.safetensors": b""},
            r"Depth Anything 3.*NAME\.depth\.npz",
        ),
        ({"config.json": b'{"embed_dim": 1024, "img_size": 518, "patch_size": 14}'}, r"VGGT.*depth\.npz"),
        ({"config.json": b'{"model": {"name": "UniDepthV2"}}'}, r"UniDepth.*NAME\.depth\.npz"),
        ({"moge_vitl.pt": b""}, r"MoGe.*NAME\.depth\.npz"),
        (
            {"config.json": b'{"model_type": "prompt_depth_anything"}'},
            r"depth of a sensor.*Depth Anything V2",
        ),
        ({"config.json": b'{"model_type": "dpt"}', "pytorch_model.bin": b""}, r"pickle.*safetensors"),
        ({"config.json": b"{"}, r"is no JSON"),
        ({"notes.txt": b""}, r"neither a transformers.*nor a diffusers.*Depth Anything V1 and V2"),
        ({}, r"neither a transformers"),
    ],
)
def test_what_is_no_transformers_depth_model_is_refused_in_a_sentence_that_names_the_way_out(
    tmp_path, files, message
):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for path in [tmp_path, *(tmp_path / name for name in files if name.endswith((".pt", ".pth")))]:
        with pytest.raises(ValueError, match=message) as caught:
            open_depth_model(str(path))
        assert "\n" not in str(caught.value)
