import json

import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
)

from recapture.models.depth.estimator import DepthEstimator


def tiny_model(folder, **settings):
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
        **settings,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("depth"))


def test_any_frame_size_gives_depth_of_that_size_through_patch_multiples(model_dir):
    estimator = DepthEstimator(model_dir)
    assert estimator.kind == "inverse"
    for height, width in ((50, 70), (64, 33)):
        assert all(side % 14 == 0 for side in estimator.input_size(height, width))
        depth = estimator.estimate(torch.rand(2, 3, height, width) * 2 - 1)
        assert depth.shape == (2, height, width) and torch.isfinite(depth).all()


def test_at_the_models_own_size_it_equals_the_model_itself(model_dir):
    video = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1)) * 2 - 1
    model = DepthAnythingForDepthEstimation.from_pretrained(model_dir).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((video + 1) / 2 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=pixels).predicted_depth
    estimator = DepthEstimator(model_dir, batch=1)
    assert estimator.input_size(56, 56) == (56, 56)
    torch.testing.assert_close(estimator.estimate(video), expected, atol=1e-5, rtol=1e-4)


def test_metric_models_say_so_and_the_caller_may_overrule(tmp_path):
    folder = tiny_model(tmp_path, depth_estimation_type="metric", max_depth=20)
    assert DepthEstimator(folder).kind == "metric"
    assert DepthEstimator(folder, kind="inverse").kind == "inverse"


def test_the_preprocessing_of_the_directory_is_used(model_dir, tmp_path):
    folder = tiny_model(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "size": {"height": 28, "width": 28},
                "keep_aspect_ratio": True,
                "ensure_multiple_of": 14,
                "image_mean": [0, 0, 0],
                "image_std": [1, 1, 1],
            }
        )
    )
    assert DepthEstimator(folder).input_size(100, 200) == (28, 56)
    video = torch.rand(1, 3, 28, 28) * 2 - 1
    assert not torch.equal(DepthEstimator(folder).estimate(video), DepthEstimator(model_dir).estimate(video))


def test_other_families_of_depth_models_work_too(tmp_path):
    dpt = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    DPTForDepthEstimation(dpt).save_pretrained(tmp_path / "dpt")
    glpn = GLPNConfig(
        hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=8, depths=[1] * 4, num_attention_heads=[1, 1, 2, 2]
    )
    GLPNForDepthEstimation(glpn).save_pretrained(tmp_path / "glpn")
    for name, kind in (("dpt", "inverse"), ("glpn", "metric")):
        estimator = DepthEstimator(str(tmp_path / name))
        assert estimator.kind == kind
        depth = estimator.estimate(torch.rand(1, 3, 48, 80) * 2 - 1)
        assert depth.shape == (1, 48, 80) and torch.isfinite(depth).all()


def test_a_missing_directory_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json.*depth\.model"):
        DepthEstimator(str(tmp_path / "nothing"))


def test_pickled_weights_are_refused(tmp_path):
    folder = tiny_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match=r"pickle.*safetensors"):
        DepthEstimator(folder)
