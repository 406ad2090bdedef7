"""What is shown beside a decision: published values, exact laws and simulations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from deepad.scoring.conformal import Calibration
from deepad.scoring.display import (
    false_alarm_floor,
    kriegel_scale,
    normal_percentile,
    stability,
    stability_class,
    surprisal,
)

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=200)


# ---- p-values ------------------------------------------------------------------------------------------------------


def test_percentile_and_surprisal_of_small_examples():
    p = [1.0, 0.5, 0.1, 0.001, math.nan]
    np.testing.assert_allclose(normal_percentile(p), [0, 0.5, 0.9, 0.999, math.nan])
    np.testing.assert_allclose(surprisal(p), [0, math.log10(2), 1, 3, math.nan])
    assert str(surprisal([1.0])[0]) == "0.0"  # not -0.0


@pytest.mark.parametrize(
    ("p", "prevalence", "floor"), [(0.01, 0.001, 0.992), (0.001, 0.001, 0.949), (1e-4, 0.001, 0.714)]
)
def test_the_floor_of_false_alarms_has_its_published_values(p, prevalence, floor):
    assert round(float(false_alarm_floor([p], prevalence)[0]), 3) == floor


@exhaustive
@given(st.floats(1e-12, 1), st.floats(1e-6, 0.999), st.floats(0.01, 1))
def test_no_decreasing_density_of_anomalies_leaves_fewer_false_alarms_than_the_floor(p, prevalence, exponent):
    # anomalies with density a p^(a-1), normal samples uniform: the exact share of false alarms at p
    share = (1 - prevalence) / (1 - prevalence + prevalence * exponent * p ** (exponent - 1))
    assert false_alarm_floor([p], prevalence)[0] <= share * (1 + 1e-9)


@pytest.mark.parametrize("p", [1e-6, 0.001, 0.01, 0.1, 0.3])
def test_the_floor_is_reached_by_the_most_telling_of_these_densities(p):
    best = -1 / math.log(p)
    share = 0.98 / (0.98 + 0.02 * best * p ** (best - 1))
    assert false_alarm_floor([p], 0.02)[0] == pytest.approx(share, rel=1e-12)


def test_a_p_value_that_says_nothing_leaves_the_prevalence():
    floor = false_alarm_floor([1.0, 0.5, math.exp(-1), 0.3, 1e-8, math.nan], 0.25)
    np.testing.assert_allclose(floor[:3], 0.75)
    assert 0 < floor[4] < floor[3] < 0.75
    assert np.isnan(floor[5])


@pytest.mark.parametrize("show", [normal_percentile, surprisal, lambda p: false_alarm_floor(p, 0.1)])
@pytest.mark.parametrize("p", [0.0, -0.1, 1.0001, math.inf, -math.inf])
def test_what_is_no_p_value_is_refused(show, p):
    with pytest.raises(ValueError, match=r"p_values must lie in \(0, 1\]"):
        show([0.5, p])


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 5, math.nan])
def test_a_prevalence_outside_0_and_1_is_refused(prevalence):
    with pytest.raises(ValueError, match="prevalence"):
        false_alarm_floor([0.5], prevalence)


# ---- stability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (99, 0.3), (199, 0.05), (50, 0.9), (5000, 0.01), (9999, 0.3)])
def test_stability_is_the_law_of_a_fresh_rank(n, alpha):
    calibration = Calibration.fit(np.arange(float(n)), tie_rtol=0)
    threshold = calibration.threshold(alpha)
    ranks = np.unique(np.concatenate([[1, 2, n, n + 1], np.clip(threshold.k + np.arange(-3, 4), 1, n + 1)]))
    scores = n - ranks + 0.5
    assert calibration.ranks(scores).tolist() == ranks.tolist()
    flags = stats.betabinom.cdf(threshold.k - 1, n, ranks, n + 2 - ranks)
    expected = np.where(ranks <= threshold.k, flags, 1 - flags)
    np.testing.assert_allclose(stability(calibration, scores, threshold), expected, rtol=1e-7, atol=1e-9)


def test_the_law_averages_over_the_unknown_tail_of_the_sample():
    n, k, rank = 60, 6, 4
    calibration = Calibration.fit(np.arange(float(n)), tie_rtol=0)
    threshold = calibration.threshold(0.1)
    assert threshold.k == k
    # tail share u of the sample, uniform before and Beta(rank, n + 2 - rank) after its rank was seen
    exact, _ = integrate.quad(lambda u: stats.beta.pdf(u, rank, n + 2 - rank) * stats.binom.cdf(k - 1, n, u), 0, 1)
    assert stability(calibration, [n - rank + 0.5], threshold)[0] == pytest.approx(exact, rel=1e-7)


def test_stability_is_how_often_fresh_calibration_sets_agree():
    rng = np.random.default_rng(0)
    n, m, replicas, alpha = 199, 200, 1500, 0.05
    told, same, near = (np.empty((replicas, m)) for _ in range(3))
    for i in range(replicas):
        calibration, fresh = (Calibration.fit(rng.normal(size=n), tie_rtol=0) for _ in range(2))
        scores = rng.normal(size=m)
        threshold, other = calibration.threshold(alpha), fresh.threshold(alpha)
        told[i] = stability(calibration, scores, threshold)
        same[i] = threshold.flag(scores) == other.flag(scores)
        near[i] = np.abs(calibration.ranks(scores) - threshold.k) <= 5
    for chosen in (np.ones((replicas, m), bool), near == 1, told < 0.75, (told >= 0.75) & (told < 0.95), told >= 0.95):
        gap = ((told - same) * chosen).sum(axis=1)  # samples of one replica share both sets
        assert abs(gap.mean()) <= SIGMAS * gap.std() / math.sqrt(replicas)
    # a binomial law with a plugged-in tail would not pass: near the threshold it promises too much
    ranks = np.arange(5, 16)
    plugged = np.where(ranks <= 10, 1, -1) * stats.binom.cdf(9, n, ranks / (n + 2)) + (ranks > 10)
    assert plugged.mean() > (same[near == 1]).mean() + 0.03


def test_stability_rises_away_from_the_threshold_and_never_leaves_0_and_1():
    calibration = Calibration.fit(np.arange(999.0), tie_rtol=0)
    threshold = calibration.threshold(0.05)
    scores = np.arange(-1.5, 1000)
    told = stability(calibration, scores, threshold)
    flagged = threshold.flag(scores)
    assert ((told >= 0) & (told <= 1)).all()
    assert (np.diff(told[flagged]) >= -1e-9).all()
    assert (np.diff(told[~flagged]) <= 1e-9).all()
    assert told[[0, -1]].min() > 0.999999
    assert told.min() < 0.6


def test_an_invalid_score_has_no_stability():
    calibration = Calibration.fit(np.arange(99.0))
    told = stability(calibration, [math.nan, math.inf, -math.inf], calibration.threshold(0.05))
    assert np.isnan(told).tolist() == [True, False, False]
    assert stability_class(told).tolist() == ["invalid", "high", "high"]
    assert stability(calibration, [], calibration.threshold(0.05)).shape == (0,)


def test_classes_of_stability_have_their_limits():
    told = [1.0, 0.95, math.nextafter(0.95, 0), 0.75, math.nextafter(0.75, 0), 0.0, math.nan]
    assert stability_class(told).tolist() == ["high", "high", "medium", "medium", "low", "low", "invalid"]
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            stability_class([bad])


def test_a_threshold_of_another_calibration_is_refused():
    rng = np.random.default_rng(1)
    calibration = Calibration.fit(rng.normal(size=200))
    for other in (rng.normal(size=200), rng.normal(size=300), calibration.scores[1:]):
        with pytest.raises(ValueError, match="no rank of this calibration of 200 scores"):
            stability(calibration, [1.0], Calibration.fit(other).threshold(0.05))
    assert stability(calibration, [1.0], calibration.threshold(0.05, kind="pac", delta=0.1)).shape == (1,)


def test_scores_that_depend_on_each_other_have_no_stability():
    calibration = Calibration.fit(np.arange(200.0))
    with pytest.raises(ValueError, match="kind 'none'"):
        stability(calibration, [1.0], calibration.threshold(0.05, kind="none"))


# ---- the Gaussian scale --------------------------------------------------------------------------------------------


def test_the_gaussian_scale_is_the_share_nearer_to_the_mean():
    scores = np.array([-50.0, 9.0, 10.0, 12.0, 14.0, 200.0, math.inf, -math.inf, math.nan])
    z = np.array([0, 0, 0, 1, 2, 95, math.inf, 0, math.nan])
    np.testing.assert_allclose(kriegel_scale(scores, 10.0, 2.0), 1 - 2 * stats.norm.sf(z), atol=1e-15)


@pytest.mark.parametrize(("mean", "std"), [(math.nan, 1), (math.inf, 1), (0, 0), (0, -1), (0, math.inf), (0, math.nan)])
def test_a_scale_without_spread_is_refused(mean, std):
    with pytest.raises(ValueError, match="mean must be finite and std finite and above 0"):
        kriegel_scale([1.0], mean, std)
