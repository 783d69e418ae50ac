"""Distances between sets of features: Fréchet, and an unbiased kernel distance for small sets.

With the features of Inception or I3D the first is called FID or FVD, the second KID or KVD. In other features
the numbers are others: name the network beside them.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf

FEWEST = 2  # features of a set
_SAMPLES_PER_DIMENSION = 2  # below it, covariances are shrunk


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the squared Fréchet distance of two Gaussians fitted to features [n, d] and [m, d].

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) for covariances A and B (Dowson and Landau 1982), in
    float64; the trace of the root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is
    symmetric. With fewer than 2 d features in either set, both covariances are estimated by Ledoit and Wolf
    (2004), which shrinks them towards a multiple of the identity. Raises ValueError for sets that do not fit.
    """
    one, other = _checked(one, other)
    shrunk = min(len(one), len(other)) < _SAMPLES_PER_DIMENSION * one.shape[1]
    a, b = (_covariance(features, shrunk) for features in (one, other))
    values, vectors = eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ b @ root
    cross = np.sqrt(eigh((product + product.T) / 2, eigvals_only=True).clip(0)).sum()
    apart = one.mean(0) - other.mean(0)
    return float(max(0.0, apart @ apart + np.trace(a) + np.trace(b) - 2 * cross))


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of features [n, d] and [m, d], without bias.

    The kernel is (x y / d + 1)^3 (Binkowski et al. 2018). Its expectation is 0 for sets of one distribution
    at any size, so it may be negative. Raises ValueError for sets that do not fit.
    """
    one, other = _checked(one, other)
    n, m, width = len(one), len(other), one.shape[1]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / width + 1) ** 3)

    within_one, within_other = kernel(one, one), kernel(other, other)
    within = (within_one.sum() - np.trace(within_one)) / (n * (n - 1))
    within += (within_other.sum() - np.trace(within_other)) / (m * (m - 1))
    return float(within - 2 * kernel(one, other).mean())


def _checked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"distance of sets of features: {one.shape} and {other.shape} do not fit")
    if min(len(one), len(other)) < FEWEST:
        raise ValueError(
            f"distance of sets of features: {len(one)} and {len(other)} features; "
            f"each set needs at least {FEWEST}"
        )
    return one.astype(np.float64), other.astype(np.float64)


def _covariance(features: np.ndarray, shrunk: bool) -> np.ndarray:
    if shrunk:
        return np.asarray(ledoit_wolf(features)[0])
    return np.atleast_2d(np.cov(features, rowvar=False))
