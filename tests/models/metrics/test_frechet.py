"""Distances of sets of features, against scipy's matrix root, sums over pairs, and closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.covariance import ledoit_wolf

from recapture.models.metrics.frechet import frechet_distance, kernel_distance

RANDOM = np.random.default_rng(3)
ONE = RANDOM.normal(size=(60, 5)) @ RANDOM.normal(size=(5, 5))
OTHER = RANDOM.normal(size=(40, 5)) @ RANDOM.normal(size=(5, 5)) + 0.5


def by_sqrtm(one, other, covariance):
    a, b = covariance(one), covariance(other)
    apart = one.mean(0) - other.mean(0)
    return apart @ apart + np.trace(a + b - 2 * sqrtm(a @ b).real)


def test_many_features_give_the_textbook_formula():
    expected = by_sqrtm(ONE, OTHER, lambda x: np.cov(x, rowvar=False))
    assert frechet_distance(ONE, OTHER) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(OTHER, ONE) == pytest.approx(expected, rel=1e-9)


def test_few_features_have_shrunk_covariances_in_both_sets():
    few = OTHER[:9]
    expected = by_sqrtm(ONE, few, lambda x: ledoit_wolf(x)[0])
    assert frechet_distance(ONE, few) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(ONE, few) != pytest.approx(by_sqrtm(ONE, few, lambda x: np.cov(x.T)), rel=1e-3)


def test_the_same_set_is_at_no_distance_and_a_shifted_one_at_the_square_of_the_shift():
    assert frechet_distance(ONE, ONE) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(ONE, ONE + 3) == pytest.approx(5 * 9)
    assert frechet_distance(ONE[:2], ONE[:2]) == pytest.approx(0, abs=1e-9)


def test_singular_covariances_give_a_finite_distance():
    flat = np.concatenate([ONE[:, :4], np.zeros((60, 1))], 1)
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(frechet_distance(flat, ONE))


def test_the_kernel_distance_is_the_sum_over_pairs():
    def kernel(x, y):
        return (float(x @ y) / 5 + 1) ** 3

    one, other = ONE[:7], OTHER[:6]
    within_one = np.mean([kernel(a, b) for i, a in enumerate(one) for j, b in enumerate(one) if i != j])
    within_other = np.mean([kernel(a, b) for i, a in enumerate(other) for j, b in enumerate(other) if i != j])
    between = np.mean([kernel(a, b) for a in one for b in other])
    assert kernel_distance(one, other) == pytest.approx(within_one + within_other - 2 * between)


def test_the_kernel_distance_has_no_bias_and_the_frechet_distance_has():
    pairs = [RANDOM.normal(size=(2, 16, 4)) for _ in range(300)]
    kernel = np.array([kernel_distance(*pair) for pair in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / np.sqrt(len(kernel))
    assert min(frechet_distance(*pair) for pair in pairs) > 0.01


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance])
def test_sets_that_do_not_fit_are_refused(function):
    with pytest.raises(ValueError, match=r"\(60, 5\) and \(40, 4\) do not fit"):
        function(ONE, OTHER[:, :4])
    with pytest.raises(ValueError, match="1 and 40 features; each set needs at least 2"):
        function(ONE[:1], OTHER)
