"""Distances of sets over a job: the features of all its results against those of the truth or the sources."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from recapture.conf.heartbeat import beating
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore

FEATURES = "features.npz"  # of an artifact of measure and baselines
REFERENCE, TRUE = "reference", "reference.true"
MOST = 1000  # videos looked at; of more, every n-th
MOST_PAIRED = 2000  # features of a set in kernel distances, which compare each with each
FEW = 128  # windows below which a warning stands beside the numbers
_SETS = {"image": "frames", "clip": "windows"}
_THREADS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetDistances:
    """Fréchet and kernel distances of each method's results to the reference."""

    methods: Mapping[str, Mapping[str, float]]  # method -> metric -> value
    videos: int  # looked at
    of: int  # measured
    frames: int
    windows: int
    reference: str  # the truth, the source, or both

    @property
    def metrics(self) -> dict[str, float]:
        """Return METHOD/METRIC -> value."""
        return {
            f"{method}/{name}": value for method, row in self.methods.items() for name, value in row.items()
        }

    def lines(self) -> list[str]:
        """Return a table as lines of Markdown."""
        columns = list(dict.fromkeys(name for row in self.methods.values() for name in row))
        sets = f"{self.frames} frames, {self.windows} windows of {self.videos} of {self.of} videos"
        lines = ["", f"| {sets}, to {self.reference} | " + " | ".join(self.methods) + " |"]
        lines.append("|---" + "|---:" * len(self.methods) + "|")
        for column in columns:
            values = [f"{row[column]:.3g}" if column in row else "–" for row in self.methods.values()]
            lines.append(f"| {column} | " + " | ".join(values) + " |")
        few = " So few windows say little: compare methods on more videos." if self.windows < FEW else ""
        return [*lines, "", f"In the features of measure.learned.features; not FID, FVD or KID.{few}"]


def set_distances(store: ArtifactStore, measured: Mapping[str, str]) -> SetDistances | None:
    """Return the distances of what was measured; None where no features were kept.

    measured: item -> key of its artifact of the stage measure. Of more than MOST videos, MOST are looked at.
    """
    keys = list(measured.values())
    chosen = (
        [keys[index] for index in np.unique(np.linspace(0, len(keys) - 1, MOST).round().astype(int))]
        if keys
        else []
    )
    sets: dict[str, list[np.ndarray]] = defaultdict(list)
    true = []
    for found in _read(store, chosen):
        true.append(bool(found.pop(TRUE)))
        for name, features in found.items():
            sets[name].append(features)
    if not true:
        return None
    joined = {name: np.concatenate(parts).astype(np.float64) for name, parts in sets.items()}
    methods: dict[str, dict[str, float]] = defaultdict(dict)
    for name, features in joined.items():
        method, _, kind = name.rpartition(".")
        if method == REFERENCE:
            continue
        metric = next(metric for metric, suffix in _SETS.items() if suffix == kind)
        methods[method] |= _distances(metric, features, joined[f"{REFERENCE}.{kind}"])
    references = {True: "the truth", False: "the source"}
    reference = " or ".join(references[one] for one in sorted(set(true), reverse=True))
    frames, windows = (len(joined[f"{REFERENCE}.{kind}"]) for kind in _SETS.values())
    return SetDistances(dict(methods), len(true), len(keys), frames, windows, reference)


def _distances(metric: str, features: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    from recapture.models.metrics.frechet import FEWEST, frechet_distance, kernel_distance  # loads sklearn

    if min(len(features), len(reference)) < FEWEST:
        return {}
    kernel = kernel_distance(_some(features), _some(reference))
    return {f"frechet_{metric}": frechet_distance(features, reference), f"kernel_{metric}": kernel}


def _some(features: np.ndarray) -> np.ndarray:
    return features[:: -(-len(features) // MOST_PAIRED)]


def _read(store: ArtifactStore, keys: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the features of each artifact that holds them, in order."""

    def read(key: str) -> dict[str, np.ndarray]:
        try:
            artifact = store.open("measure", key)
            return artifact.read_npz(FEATURES) if FEATURES in artifact.names() else {}
        except (ArtifactError, OSError) as error:
            logger.warning("features of %s are left out of the job's distances: %s", key, error)
            return {}

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from (found for found in beating(pool.map(read, keys)) if found)
