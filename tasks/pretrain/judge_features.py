"""Judge the feature network: does every metric made of it put degradations in order, by their dose?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from recapture.models.metrics.feature_net import FeatureNet, Seen
from recapture.models.metrics.frechet import frechet_distance
from recapture.models.training.degradations import OF_MOTION, OF_PICTURES, degrade
from recapture.models.training.seeds import generator

DOSES = (0.0, 0.2, 0.45, 0.7, 1.0)
LENGTH = 8  # frames of a clip whose features are taken
_SEED = 77
Look = Callable[[Tensor], tuple[Tensor, Seen, Tensor]]


def judge_feature_net(net: FeatureNet, clips: Tensor, others: Tensor) -> dict[str, float]:
    """Return the shares of neighbouring doses that each metric puts in order; clips: [B, T, 3, H, W].

    distance/ordered, view/ordered: mean over degradations of pictures and clips, against the clips as they
    were. frechet_image/ordered, frechet_clip/ordered: mean over degradations, of all clips as one set against
    the other clips. view/found: share of clips whose last frame agrees best with their own first frame.
    """
    curves = dose_curves(net, clips, others)
    rising = {"distance": 1, "view": -1, "frechet_image": 1, "frechet_clip": 1}
    scores: dict[str, float] = {}
    for metric, sign in rising.items():
        of_kinds = {kind: values[metric] for kind, values in curves.items() if metric in values}
        ordered = {kind: ordered_share(sign * values) for kind, values in of_kinds.items()}
        scores |= {f"{metric}/{kind}": share for kind, share in ordered.items()}
        scores[f"{metric}/ordered"] = float(np.mean(list(ordered.values())))
    with torch.no_grad():
        first, last = (net(clips[:, frame]).view for frame in (0, -1))
    found = (last @ first.T).argmax(1) == torch.arange(len(clips), device=clips.device)
    return scores | {"view/found": float(found.float().mean())}


def ordered_share(values: np.ndarray) -> float:
    """Return the share of neighbours along the last axis [..., doses] that rise."""
    return float((np.diff(values, axis=-1) > 0).mean())


@torch.no_grad()
def dose_curves(net: FeatureNet, clips: Tensor, others: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Return degradation -> metric -> values: per clip [B, doses] or, of distances of sets, [doses].

    Distances and agreement are means over frames, for degradations of pictures alone. Distances of sets are
    those to the other clips, so that they are not 0 for a dose of 0.
    """
    _, seen, _ = look(net, clips)
    frames, _, whole = look(net, others)
    found: dict[str, dict[str, np.ndarray]] = {}
    for kinds in (OF_PICTURES, OF_MOTION):
        for index, kind in enumerate(kinds):
            rows: dict[str, list[np.ndarray]] = {}
            for dose in DOSES:
                shown = degraded(clips, kinds, index, dose)
                own_frames, own_seen, own_whole = look(net, shown)
                values = {"frechet_clip": np.array(frechet_distance(_array(own_whole), _array(whole)))}
                if kinds is OF_PICTURES:
                    values["frechet_image"] = np.array(frechet_distance(_array(own_frames), _array(frames)))
                    apart, agreed = net.distance(own_seen, seen), (own_seen.view * seen.view).sum(1)
                    values["distance"] = _array(apart.reshape(len(clips), -1).mean(1))
                    values["view"] = _array(agreed.reshape(len(clips), -1).mean(1))
                for metric, value in values.items():
                    rows.setdefault(metric, []).append(value)
            found[kind] = {metric: np.stack(values, axis=-1) for metric, values in rows.items()}
    return found


def degraded(clips: Tensor, kinds: Mapping[str, Callable], index: int, dose: float) -> Tensor:
    """Return all clips degraded alike, by the same chances at every dose."""
    kind, amount = torch.full((len(clips),), index), torch.full((len(clips),), dose, device=clips.device)
    return degrade(clips, kind, amount, generator(_SEED, index, clips.device), dict(kinds))


def degradation_rows(video: Tensor, frame: int) -> list[Tensor]:
    """Return one frame [B, 3, H, W] of clips [B, T, 3, H, W] under every degradation of pictures."""
    return [degraded(video, OF_PICTURES, index, 0.7)[:, frame] for index in range(len(OF_PICTURES))]


def look(net: FeatureNet, clips: Tensor) -> tuple[Tensor, Seen, Tensor]:
    """Return frame features [B * T, d], what is seen in all frames, and features of windows [n, d]."""
    frames = clips.shape[1]
    parts = [net(part) for part in clips.flatten(0, 1).split(64)]
    scales = [torch.cat(of_scale) for of_scale in zip(*(part.scales for part in parts))]
    seen = Seen(scales, torch.cat([p.frame for p in parts]), torch.cat([p.view for p in parts]))
    scale, frame = (x.unflatten(0, (len(clips), frames)) for x in (seen.scales[2], seen.frame))
    starts = range(0, max(1, frames - LENGTH + 1), LENGTH // 2)
    windows = [net.clip_features(scale[:, s : s + LENGTH], frame[:, s : s + LENGTH]) for s in starts]
    return seen.frame, seen, torch.cat(windows)


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.double().cpu().numpy())
