"""Metrics that need weights: each runs on a model directory that the user names, and refuses without.

Nothing is downloaded. Models are transformers classes loaded from local directories (safetensors only);
LPIPS takes the two small files described in `perceptual.py`. Frame features compare what a network sees,
not geometry: CLIP-F, CLIP-V and the VBench consistencies reward a result that does not move the camera;
print the copied source beside it.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from recapture.conf.heartbeat import beating
from recapture.models.metrics.feature_net import FeatureNet, load_feature_net
from recapture.models.metrics.feature_scores import FeatureScores
from recapture.models.metrics.perceptual import Lpips
from recapture.models.metrics.suite import Metric

LEARNED_METRICS: dict[str, Metric] = {
    "lpips": Metric("", False, "LPIPS against the truth, mean over frames"),
    "clip_t": Metric("", True, "CLIP: mean cosine of frames and caption"),
    "clip_f": Metric("", None, "CLIP: mean cosine of neighbouring frames; rewards stillness"),
    "clip_v": Metric(
        "", None, "CLIP: mean cosine of result and source frame of one instant; rewards copying"
    ),
    "clip_consistency": Metric(
        "", None, "VBench background consistency with CLIP features; rewards stillness"
    ),
    "feature_distance": Metric(
        "", False, "as LPIPS, in weights/features: distance to the truth, mean over frames"
    ),
    "view_agreement": Metric(
        "", None, "as CLIP-V, in weights/features: mean cosine with the source frame; rewards copying"
    ),
    "dino_consistency": Metric("", None, "VBench subject consistency with DINO features; rewards stillness"),
}
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NEEDS = {
    "lpips": "lpips",
    "dino_consistency": "dino",
    "feature_distance": "features",
    "view_agreement": "features",
}
_WHAT = {
    "clip": "a CLIP model directory",
    "dino": "a DINO or DINOv2 model directory",
    "lpips": "a directory of LPIPS weights",
    "features": "a directory as weights/features",
}


class LearnedMetrics:
    """The metrics whose model directory is given; asking for another raises ValueError saying what to set."""

    def __init__(
        self,
        *,
        clip: str | None = None,
        dino: str | None = None,
        lpips: str | None = None,
        features: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._folders = {"clip": clip, "dino": dino, "lpips": lpips, "features": features}
        self._device = device
        self._loaded: dict[str, Any] = {}

    def available(self) -> list[str]:
        """Return the names of LEARNED_METRICS that can be computed with the directories given."""
        return [name for name in LEARNED_METRICS if self._folders[_NEEDS.get(name, "clip")] is not None]

    def measure(
        self,
        names: Iterable[str],
        result: Tensor,  # [T, 3, H, W] in [-1, 1]
        source: Tensor,  # [T, 3, h, w] the source frame shown at each result frame
        *,
        truth: Tensor | None = None,  # [T, 3, H, W]
        caption: str = "",
    ) -> dict[str, float]:
        """Return the named metrics of one clip; without truth, caption or a second frame some are absent.

        Raises ValueError for an unknown name, and for a name whose model directory is not set.
        """
        scores = LearnedScores(self, names, caption)
        scores.add({"result": result}, source, truth=truth)
        return scores.scores()["result"]

    def check(self, names: Iterable[str]) -> None:
        """Raise ValueError for an unknown name, and for a name whose model directory is not set."""
        for name in beating(names):
            if name not in LEARNED_METRICS:
                raise ValueError(f"unknown learned metric {name!r}; there are {', '.join(LEARNED_METRICS)}")
            self._folder(name)

    def _folder(self, metric: str) -> str:
        which = _NEEDS.get(metric, "clip")
        folder = self._folders[which]
        if folder is None:
            raise ValueError(f"metric {metric} needs {_WHAT[which]}: set measure.learned.{which}=...")
        return folder

    def lpips(self) -> Lpips:
        """Return the network of LPIPS."""
        if "lpips" not in self._loaded:
            self._loaded["lpips"] = Lpips(self._folder("lpips"), self._device)
        network: Lpips = self._loaded["lpips"]
        return network

    def features(self) -> FeatureNet:
        """Return the project's own network."""
        if "features" not in self._loaded:
            folder = Path(self._folder("feature_distance"))
            self._loaded["features"] = load_feature_net(folder, self._device)
        network: FeatureNet = self._loaded["features"]
        return network

    def _model(self, metric: str) -> tuple[Any, Tensor, Tensor]:
        which = _NEEDS.get(metric, "clip")
        if which not in self._loaded:
            self._loaded[which] = _load(which, self._folder(metric), metric, self._device)
        model, mean, std = self._loaded[which]
        return model, mean, std

    def clip_images(self, video: Tensor) -> Tensor:
        """Return CLIP's features [T, d] of the frames of a video [T, 3, H, W]."""
        model, mean, std = self._model("clip_v")
        pixels = _cropped(video.to(self._device), model.config.vision_config.image_size)
        return _batched(lambda x: _tensor(model.get_image_features(pixel_values=(x - mean) / std)), pixels)

    def clip_text(self, caption: str) -> Tensor:
        """Return CLIP's features [1, d] of a caption."""
        from transformers import AutoTokenizer

        model, *_ = self._model("clip_t")
        tokenizer = AutoTokenizer.from_pretrained(
            self._folder("clip_t"), local_files_only=True, trust_remote_code=False
        )
        tokens = tokenizer(
            [caption],
            return_tensors="pt",
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
        ).to(self._device)
        with torch.inference_mode():
            return _tensor(model.get_text_features(**tokens))

    def dino_images(self, video: Tensor) -> Tensor:
        """Return DINO's features [T, d] of the frames of a video [T, 3, H, W]."""
        model, mean, std = self._model("dino_consistency")
        pixels = _cropped(video.to(self._device), model.config.image_size)
        return _batched(lambda x: model(pixel_values=(x - mean) / std).last_hidden_state[:, 0], pixels)


class LearnedScores:
    """Learned metrics of one clip's results, which are given part by part; the source is looked at once."""

    def __init__(self, metrics: LearnedMetrics, names: Iterable[str], caption: str) -> None:
        self._metrics, self._names, self._caption = metrics, list(names), caption
        metrics.check(self._names)
        self._clip = any(name.startswith("clip") for name in self._names)
        self._found: dict[str, dict[str, list[Tensor]]] = {}
        own = any(_NEEDS.get(name) == "features" for name in self._names)
        self._own = FeatureScores(metrics.features()) if own else None

    def add(
        self,
        results: Mapping[str, Tensor],  # name -> [t, 3, H, W] in [-1, 1], the next frames
        source: Tensor,  # [t, 3, h, w] the source frame shown at each of them
        *,
        truth: Tensor | None = None,  # [t, 3, H, W]
        beside: Collection[str] = (),
    ) -> None:
        """Look at the next frames of every result; the project's network, of all but those named `beside`."""
        metrics = self._metrics
        if self._own is not None:
            own = {name: result for name, result in results.items() if name not in beside}
            self._own.add(own, source, truth)
        shown = metrics.clip_images(source) if "clip_v" in self._names else None
        for name, result in results.items():
            kept = self._found.setdefault(name, {})
            if "lpips" in self._names and truth is not None:
                kept.setdefault("lpips", []).append(metrics.lpips()(result, truth))
            if self._clip:
                seen = metrics.clip_images(result)
                kept.setdefault("clip", []).append(seen)
                if shown is not None:
                    kept.setdefault("clip_v", []).append(cosine_similarity(seen, shown))
            if "dino_consistency" in self._names:
                kept.setdefault("dino", []).append(metrics.dino_images(result))

    def scores(self) -> dict[str, dict[str, float]]:
        """Return each result's metrics."""
        found = {name: self._scores_of(kept) for name, kept in self._found.items()}
        for name, scores in ({} if self._own is None else self._own.scores()).items():
            asked = {metric: value for metric, value in scores.items() if metric in self._names}
            found[name] = found.get(name, {}) | asked
        return found

    def sets(self) -> dict[str, np.ndarray]:
        """Return the sets of features that Fréchet distances compare; nothing without the network."""
        return {} if self._own is None else self._own.sets()

    def _scores_of(self, kept: Mapping[str, list[Tensor]]) -> dict[str, float]:
        joined = {what: torch.cat(parts) for what, parts in kept.items()}
        scores: dict[str, float] = {
            what: float(joined[what].mean()) for what in ("lpips", "clip_v") if what in joined
        }
        seen, dino = joined.get("clip"), joined.get("dino")
        if seen is not None:
            if "clip_t" in self._names and self._caption:
                text = self._metrics.clip_text(self._caption)
                scores["clip_t"] = float(cosine_similarity(seen, text).mean())
            if len(seen) > 1 and "clip_f" in self._names:
                scores["clip_f"] = float(cosine_similarity(seen[1:], seen[:-1]).mean())
            if len(seen) > 1 and "clip_consistency" in self._names:
                scores["clip_consistency"] = vbench_consistency(seen)
        if dino is not None and len(dino) > 1:
            scores["dino_consistency"] = vbench_consistency(dino)
        return scores


def vbench_consistency(features: Tensor) -> float:
    """Return VBench's mean over t >= 1 of (max(0, cos(f_t, f_{t-1})) + max(0, cos(f_t, f_0))) / 2."""
    before = cosine_similarity(features[1:], features[:-1]).clamp_min(0)
    first = cosine_similarity(features[1:], features[:1]).clamp_min(0)
    return float((before + first).mean() / 2)


def _load(which: str, folder: str, metric: str, device: str) -> tuple[Any, Tensor, Tensor]:
    from transformers import AutoModel, CLIPModel

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"metric {metric} needs {_WHAT[which]}, but {folder!r} has no config.json")
    cls = CLIPModel if which == "clip" else AutoModel
    model = cls.from_pretrained(folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    file = Path(folder) / "preprocessor_config.json"
    stated = json.loads(file.read_text()) if file.is_file() else {}
    default = (_CLIP_MEAN, _CLIP_STD) if which == "clip" else (_IMAGENET_MEAN, _IMAGENET_STD)
    mean = torch.tensor(stated.get("image_mean", default[0]), device=device).view(1, 3, 1, 1)
    std = torch.tensor(stated.get("image_std", default[1]), device=device).view(1, 3, 1, 1)
    return model.to(device).eval(), mean, std


def _cropped(video: Tensor, side: int) -> Tensor:
    """Resize to short side `side` (bicubic, antialiased), crop the centre: [T, 3, side, side] in [0, 1]."""
    height, width = video.shape[2:]
    factor = side / min(height, width)
    size = max(side, round(height * factor)), max(side, round(width * factor))
    resized = interpolate((video.float() + 1) / 2, size, mode="bicubic", antialias=True, align_corners=False)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return resized.clamp(0, 1)[:, :, top : top + side, left : left + side]


def _batched(function: Any, pixels: Tensor, batch: int = 16) -> Tensor:
    with torch.inference_mode():
        return torch.cat([function(part) for part in pixels.split(batch)])


def _tensor(features: Any) -> Tensor:
    """Unwrap CLIP's projected features, which newer transformers put into an output object."""
    return features if isinstance(features, Tensor) else features.pooler_output
