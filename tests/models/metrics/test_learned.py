import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
)

from recapture.models.metrics.learned import (
    LEARNED_METRICS,
    LearnedMetrics,
    vbench_consistency,
)
from recapture.models.metrics.perceptual import Lpips

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny random checkpoints in the layouts that users bring."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("learned")
    text = {
        k: VISION[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    }
    text |= {"vocab_size": 40, "max_position_embeddings": 16, "bos_token_id": 38, "eos_token_id": 39}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    clip.save_pretrained(root / "clip")
    letters = "abcdefghijklmnopqr"
    vocabulary = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocabulary[:40])}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt")).save_pretrained(root / "clip")
    Dinov2Model(
        Dinov2Config(**{k: v for k, v in VISION.items() if k != "intermediate_size"})
    ).save_pretrained(root / "dino")
    return root


def alex(width=4):
    sizes = [(3, width, 11, 4, 2), (width, width, 5, 1, 2), *[(width, width, 3, 1, 1)] * 3]
    layers = [nn.Conv2d(i, o, k, s, p).requires_grad_(False) for i, o, k, s, p in sizes]
    pool = nn.MaxPool2d(3, 2)
    relu = nn.ReLU()
    return nn.Sequential(
        layers[0], relu, pool, layers[1], relu, pool, layers[2], relu, layers[3], relu, layers[4], relu
    )


def write_lpips(folder, features, widths):
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"features.{name}": value.contiguous() for name, value in features.state_dict().items()}
    save_file(weights, folder / "backbone.safetensors")
    heads = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    save_file(heads, folder / "heads.safetensors")
    return heads


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 64, 80, generator=generator) * 2 - 1, torch.rand(
        3, 3, 64, 80, generator=generator
    ) * 2 - 1


def test_each_metric_refuses_without_its_directory_and_says_what_to_set(clips):
    settings = {"lpips": "lpips", "dino_consistency": "dino"}
    settings |= {"feature_distance": "features", "view_agreement": "features"}
    for name in LEARNED_METRICS:
        with pytest.raises(
            ValueError, match=rf"metric {name} needs .*measure\.learned\.{settings.get(name, 'clip')}="
        ):
            LearnedMetrics().measure([name], *clips)
    with pytest.raises(ValueError, match=r"no config\.json"):
        LearnedMetrics(clip="/nowhere").measure(["clip_v"], *clips)
    with pytest.raises(ValueError, match="unknown learned metric 'clip_x'"):
        LearnedMetrics().measure(["clip_x"], *clips)


def test_clip_and_dino_scores_follow_their_definitions(folders, clips):
    result, source = clips
    metrics = LearnedMetrics(clip=str(folders / "clip"), dino=str(folders / "dino"))
    names = metrics.available()
    assert set(names) == {"clip_t", "clip_f", "clip_v", "clip_consistency", "dino_consistency"}
    scores = metrics.measure(names, result, source, caption="a dog")
    assert set(scores) == set(names)
    assert all(-1 <= value <= 1 for value in scores.values())
    copied = metrics.measure(["clip_v"], source, source)
    assert copied["clip_v"] == pytest.approx(1, abs=1e-5)
    still = metrics.measure(
        ["clip_f", "clip_consistency", "dino_consistency"], result[:1].expand(3, -1, -1, -1), source
    )
    assert all(value == pytest.approx(1, abs=1e-5) for value in still.values())


def test_clip_image_features_equal_the_models_own_at_its_own_size(folders):
    video = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    model = CLIPModel.from_pretrained(folders / "clip").eval()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=((video + 1) / 2 - mean) / std).pooler_output
        a, b = model.visual_projection(pooled)
    expected = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    score = LearnedMetrics(clip=str(folders / "clip")).measure(["clip_f"], video, video)["clip_f"]
    assert score == pytest.approx(expected, abs=1e-5)


def test_what_a_clip_does_not_allow_is_absent(folders, clips):
    metrics = LearnedMetrics(clip=str(folders / "clip"))
    assert metrics.measure(["clip_t", "clip_f"], clips[0][:1], clips[1][:1]) == {}


def test_lpips_equals_the_slow_sum_over_layers(tmp_path, clips):
    torch.manual_seed(3)
    features = alex()
    heads = write_lpips(tmp_path, features, [4] * 5)
    network = Lpips(str(tmp_path))
    assert network.network == "alex"
    expected = []
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    for pair in zip(*clips):
        taps = []
        for image in pair:
            x = ((image - shift.view(3, 1, 1)) / scale.view(3, 1, 1))[None]
            kept = []
            for n, layer in enumerate(features):
                x = layer(x)
                if n in (1, 4, 7, 9, 11):
                    kept.append((x / (x.norm(dim=1, keepdim=True) + 1e-10))[0])
            taps.append(kept)
        expected.append(
            sum(
                float(((a - b) ** 2 * heads[f"lin{n}.model.1.weight"][0]).sum(0).mean())
                for n, (a, b) in enumerate(zip(*taps))
            )
        )
    assert network(*clips).tolist() == pytest.approx(expected, rel=1e-4)
    assert network(clips[0], clips[0]).tolist() == [0, 0, 0]
    metrics = LearnedMetrics(lpips=str(tmp_path))
    assert metrics.available() == ["lpips"]
    assert metrics.measure(["lpips"], clips[0], clips[1], truth=clips[1])["lpips"] == pytest.approx(
        np.mean(expected), rel=1e-4
    )
    assert metrics.measure(["lpips"], *clips) == {}


def test_lpips_takes_a_vgg_stack_too_and_names_what_is_missing(tmp_path, clips):
    layers = []
    for n, block in enumerate(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))):
        for layer in block:
            layers += [(layer, nn.Conv2d(3 if layer == 0 else 2, 2, 3, 1, 1))]
        assert len(block) == (2 if n < 2 else 3)
    features = nn.ModuleDict({str(n): layer for n, layer in layers})
    write_lpips(tmp_path, features, [2] * 5)
    network = Lpips(str(tmp_path))
    assert network.network == "vgg"
    assert (network(*clips) > 0).all()
    save_file({"lin0.model.1.weight": torch.rand(1, 2, 1, 1)}, tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match=r"lacks lin1\.model\.1\.weight"):
        Lpips(str(tmp_path))
    with pytest.raises(ValueError, match=r"backbone\.safetensors"):
        Lpips(str(tmp_path / "nothing"))


def test_vbench_consistency_equals_the_loop():
    features = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    unit = features / features.norm(dim=1, keepdim=True)
    values = [
        (max(0, float(unit[t] @ unit[t - 1])) + max(0, float(unit[t] @ unit[0]))) / 2 for t in range(1, 5)
    ]
    assert vbench_consistency(features) == pytest.approx(np.mean(values), abs=1e-6)
