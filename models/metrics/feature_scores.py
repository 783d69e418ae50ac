"""Metrics in the features of the project's own network, of results that are given part by part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recapture.models.metrics.feature_net import FeatureNet, Seen, judged

WINDOW, STRIDE = 8, 4  # frames of a clip's windows, as the network was trained, and from one to the next
REFERENCE = "reference"  # what Fréchet distances compare with: the truth, else the source
_AT_ONCE = 16  # frames


class FeatureScores:
    """Features of one clip's results: distances to the truth, agreement with the source, sets of features.

    No value depends on the parts.
    """

    def __init__(self, net: FeatureNet) -> None:
        self._net = net
        self._values: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self._windows: dict[str, _Windows] = {}
        self._true = False

    @torch.inference_mode()
    def add(
        self,
        results: Mapping[str, Tensor],  # name -> [t, 3, H, W] in [-1, 1], the next frames
        source: Tensor,  # [t, 3, h, w] the source frame shown at each of them
        truth: Tensor | None = None,  # [t, 3, H, W]
    ) -> None:
        """Look at the next frames of every result."""
        self._true = truth is not None
        for start in range(0, len(source), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            shown = self._look(source[part])
            true = None if truth is None else self._look(truth[part])
            self._keep(REFERENCE, shown if true is None else true)
            for name, result in results.items():
                seen = shown if result is source else self._look(result[part])
                self._keep(name, seen)
                values = self._values[name]
                values["view_agreement"].append((seen.view * shown.view).sum(1))
                if true is not None:
                    values["feature_distance"].append(self._net.distance(seen, true))

    def _look(self, pictures: Tensor) -> Seen:
        laid = judged(pictures.float()).contiguous(memory_format=torch.channels_last)
        seen: Seen = self._net(laid)
        return seen

    def _keep(self, name: str, seen: Seen) -> None:
        self._windows.setdefault(name, _Windows(self._net)).add(seen)

    def scores(self) -> dict[str, dict[str, float]]:
        """Return each result's means over frames."""
        return {
            name: {metric: float(torch.cat(parts).mean()) for metric, parts in values.items()}
            for name, values in self._values.items()
        }

    def sets(self) -> dict[str, np.ndarray]:
        """Return NAME.frames [T, d] and NAME.windows [n, d], float16, of all results and the reference.

        reference.true is whether the reference is the truth.
        """
        found = {f"{REFERENCE}.true": np.array(self._true)}
        with torch.inference_mode():
            for name, windows in self._windows.items():
                found[f"{name}.frames"] = torch.cat(windows.frames).half().cpu().numpy()
                found[f"{name}.windows"] = windows.all().half().cpu().numpy()
        return found


class _Windows:
    """Features of the frames of one video, and of windows over them."""

    def __init__(self, net: FeatureNet) -> None:
        self._net = net
        self.frames: list[Tensor] = []
        self._features: list[Tensor] = []
        self._scale: Tensor | None = None  # of the last frames, from the start of the next window on
        self._last: Tensor | None = None
        self._begun = 0  # the number of the first frame in _scale

    def add(self, seen: Seen) -> None:
        """Take the next frames."""
        self.frames.append(seen.frame)
        before = self._scale
        self._scale = seen.scales[2] if before is None else torch.cat([before, seen.scales[2]])
        frame = torch.cat(self.frames)[self._begun :]
        while len(self._scale) >= WINDOW:
            self._features.append(self._net.clip_features(self._scale[None, :WINDOW], frame[None, :WINDOW]))
            self._last = self._scale[:WINDOW]
            self._scale, frame, self._begun = self._scale[STRIDE:], frame[STRIDE:], self._begun + STRIDE

    def all(self) -> Tensor:
        """Return the features [n, d] of all windows; the last ends with the video, if need be closer by."""
        assert self._scale is not None
        frame = torch.cat(self.frames)
        if self._last is None:  # shorter than a window
            return self._net.clip_features(self._scale[None], frame[None])
        rest = len(self._scale) - (WINDOW - STRIDE)
        if not rest:
            return torch.cat(self._features)
        scale = torch.cat([self._last[:STRIDE], self._scale])[-WINDOW:]
        last = self._net.clip_features(scale[None], frame[None, -WINDOW:])
        return torch.cat([*self._features, last])
