"""SIFT features of pictures, and which features of two pictures are the same."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from recapture.models.metrics.memo import Memo
from recapture.models.metrics.threads import over_threads

MATCH_RATIO = 0.8  # Lowe's ratio test
WORKING_SIDE = 384  # smaller frames are enlarged to about this first: SIFT finds too little in 128 pixels
_KEPT = 64  # pictures whose features are kept, about 0.5 MB each: the source frames of two clips


class Features(NamedTuple):
    """The features of one picture."""

    positions: np.ndarray  # [n, 2] float64, in pixels with centres at +0.5
    descriptors: np.ndarray  # [n, 128] uint8: SIFT's are whole numbers up to 255


_kept: Memo[Features] = Memo(_KEPT)


def features_of(own: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[Features]:
    """Return the features of luma frames [H, W] uint8: of `own`, then of `others`.

    Those of the same picture are found once. Those of `own` (the source's) are kept, for results along other
    trajectories and of other stages are compared with the same frames.
    """
    pictures = [*own, *others]
    keys = [_digest(picture) for picture in pictures]
    found = {key: kept for key in dict.fromkeys(keys) if (kept := _kept.get(key)) is not None}
    missing = {key: picture for key, picture in zip(keys, pictures) if key not in found}
    found.update(zip(missing, over_threads(find_features, list(missing.values()))))
    for key in keys[: len(own)]:
        _kept.put(key, found[key])
    return [found[key] for key in keys]


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()


def find_features(grey: np.ndarray) -> Features:
    """Return the SIFT features (Lowe 2004, by OpenCV) of a luma frame [H, W] uint8."""
    factor = max(1, round(WORKING_SIDE / max(grey.shape)))
    if factor > 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    points, features = cv2.SIFT.create(nfeatures=4000, contrastThreshold=0.02).detectAndCompute(grey, None)
    if features is None:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), dtype=np.uint8))
    # OpenCV counts from the centre of the first pixel
    positions = (np.array([p.pt for p in points], dtype=np.float64) + 0.5) / factor
    return Features(positions, features.astype(np.uint8))


def mutual_matches(here: Features, there: Features, device: torch.device) -> np.ndarray:
    """Return index pairs [n, 2] of features that are mutually best and pass the ratio test.

    Squared distances of whole numbers up to 255 are exact in float32, hence the same on every device.
    """
    if not len(here.positions) or not len(there.positions):
        return np.zeros((0, 2), dtype=np.int64)
    a, b = (torch.from_numpy(of.descriptors).to(device).float() for of in (here, there))
    distance = torch.addmm((b * b).sum(1), a, b.T, alpha=-2).add_((a * a).sum(1, keepdim=True))
    best = distance.topk(min(2, distance.shape[1]), dim=1, largest=False)
    rows = torch.arange(len(distance), device=device)
    if best.values.shape[1] > 1:
        rows = rows[best.values[:, 0] < MATCH_RATIO**2 * best.values[:, 1]]
    columns = best.indices[rows, 0]
    mutual = distance.amin(0)[columns] == best.values[rows, 0]
    return np.asarray(torch.stack([rows[mutual], columns[mutual]], 1).cpu().numpy())
