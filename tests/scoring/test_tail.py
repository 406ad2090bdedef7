"""Fitted tails, against SciPy's distribution, closed forms, exact rationals and simulated exceedances."""

import math
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from deepad.errors import DeepadError, NonFiniteScoreError, TailFitError
from deepad.scoring.conformal import Calibration
from deepad.scoring.guarantee import GuaranteeKind
from deepad.scoring.tail import TailModel, _distance, _estimate, _excess, _extremal_index

SIGMAS = 4.5  # two-sided 7e-6
METHODS = ("pwm", "mle")


def exponential(n=5000, seed=0):
    return np.random.default_rng(seed).exponential(size=n)


def refusal(scores, **options):
    with pytest.raises(TailFitError, match=r"cannot be extrapolated: .*Use") as caught:
        TailModel.fit(scores, **options)
    assert isinstance(caught.value, DeepadError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.reasons
    assert all(reason in str(caught.value) for reason in caught.value.reasons)
    return caught.value.reasons


def simulate(law, n, replicas, alpha, seed):
    """Exceedances over alpha of point estimates and of upper limits, and what refused the other samples."""
    rng = np.random.default_rng(seed)
    point, upper, reasons = [], [], []
    for _ in range(replicas):
        try:
            tail = TailModel.fit(law.rvs(n, random_state=rng))
        except TailFitError as refused:
            reasons.append(" ".join(refused.reasons))
            continue
        point.append(law.sf(tail.quantile(alpha)) / alpha)
        upper.append(law.sf(tail.upper(alpha, draws=99)) / alpha)
    return np.array(point), np.array(upper), reasons


# ---- the estimates -------------------------------------------------------------------------------------------------


def test_weighted_moments_of_three_peaks_by_hand():
    # a0 = 7/3, a1 = (1 * 2 + 2 * 1)/(3 * 2) = 2/3, a0 - 2 a1 = 1
    np.testing.assert_allclose(_estimate(np.array([1.0, 2.0, 4.0]), "pwm"), [-1 / 3, 28 / 9], rtol=1e-14)


def test_weighted_moments_equal_exact_rationals():
    scores = exponential()
    tail = TailModel.fit(scores)
    start = sorted(scores.tolist())[4899]  # 98 % of 5000 lie at or below it
    peaks = sorted(score - start for score in scores.tolist() if score > start)
    n = len(peaks)
    a0 = sum(map(Fraction, peaks)) / n
    a1 = sum(Fraction(y) * (n - j) for j, y in enumerate(peaks, start=1)) / (n * (n - 1))
    assert (tail.start, tail.n_peaks, tail.n, tail.method) == (start, 100, 5000, "pwm")
    np.testing.assert_allclose(tail.gamma, float(2 - a0 / (a0 - 2 * a1)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(tail.sigma, float(2 * a0 * a1 / (a0 - 2 * a1)), rtol=1e-12)


@pytest.mark.parametrize("gamma", [-0.4, -0.1, 0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("size", [50, 400])
def test_no_parameters_of_scipy_are_more_likely(gamma, size):
    for seed in range(4):
        peaks = np.sort(stats.genpareto(gamma, scale=7).rvs(size, random_state=seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of SciPy's search, outside the support
            shape, _, scale = stats.genpareto.fit(peaks, floc=0)
        gamma_hat, sigma_hat = _estimate(peaks, "mle")
        mine = stats.genpareto.logpdf(peaks, gamma_hat, scale=sigma_hat).sum()
        assert mine >= stats.genpareto.logpdf(peaks, shape, scale=scale).sum() - 1e-6 * size


def test_the_likelihood_has_a_flat_slope_at_its_maximum():
    peaks = np.sort(stats.genpareto(0.2).rvs(300, random_state=0))
    gamma, sigma = _estimate(peaks, "mle")
    best = stats.genpareto.logpdf(peaks, gamma, scale=sigma).sum()
    for step in (1e-3, -1e-3):
        assert stats.genpareto.logpdf(peaks, gamma + step, scale=sigma).sum() < best
        assert stats.genpareto.logpdf(peaks, gamma, scale=sigma * (1 + step)).sum() < best


def test_peaks_whose_likelihood_is_largest_for_an_exponential_tail_get_one():
    # mean 1 and mean square 2: there the slope of the profile vanishes at gamma = 0
    peaks = 1 + np.array([-1, -1, -1, 3]) / math.sqrt(3)
    np.testing.assert_allclose(_estimate(peaks, "mle"), [0, 1], atol=1e-6)


# ---- quantiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_quantiles_are_those_of_scipy(method):
    tail = TailModel.fit(exponential(), method=method)
    for alpha in (0.0199, 1e-3, 1e-4, 4e-6):
        excess = stats.genpareto.isf(alpha * tail.n / tail.n_peaks, tail.gamma, scale=tail.sigma)
        np.testing.assert_allclose(tail.quantile(alpha), tail.start + excess, rtol=1e-12)


def test_an_exponential_tail_is_the_limit_of_its_neighbours():
    depth = np.array([0.1, 1.0, 10.0])
    np.testing.assert_array_equal(_excess(0.0, 2.0, depth), 2 * depth)
    for gamma in (1e-300, 1e-12, -1e-12):
        np.testing.assert_allclose(_excess(gamma, 2.0, depth), 2 * depth, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", [1e-6, 1e6, 1e300])
def test_a_tail_has_the_unit_of_its_scores(unit, method):
    scores = exponential()
    one, other = TailModel.fit(scores, method=method), TailModel.fit(unit * scores, method=method)
    np.testing.assert_allclose(other.gamma, one.gamma, rtol=1e-9)
    np.testing.assert_allclose(other.quantile(1e-5), unit * one.quantile(1e-5), rtol=1e-9)
    np.testing.assert_allclose(other.upper(1e-4), unit * one.upper(1e-4), rtol=1e-9)
    assert other.diagnostics["cramer_von_mises_p"] == one.diagnostics["cramer_von_mises_p"]


def test_a_shift_of_all_scores_shifts_the_quantiles():
    scores = exponential()
    one, other = TailModel.fit(scores), TailModel.fit(scores - 100)
    np.testing.assert_allclose(other.quantile(1e-5) + 100, one.quantile(1e-5), rtol=1e-9)


def test_a_smaller_level_has_a_higher_quantile_and_every_upper_limit_is_higher():
    tail = TailModel.fit(exponential())
    levels = [1e-2, 1e-3, 1e-4, 1e-5]
    points, limits = ([of(alpha) for alpha in levels] for of in (tail.quantile, tail.upper))
    assert points == sorted(points)
    assert all(limit > point for limit, point in zip(limits, points, strict=True))
    assert tail.upper(1e-4, confidence=0.5) < tail.upper(1e-4, confidence=0.9) < tail.upper(1e-4)


def test_the_limit_is_the_order_statistic_of_its_confidence():
    tail = TailModel.fit(exponential())
    shares = [rank / 20 for rank in range(1, 20)]
    assert len({tail.upper(1e-4, confidence=share, draws=19) for share in shares}) == 19
    assert tail.upper(1e-4, confidence=0.95, draws=19) > tail.upper(1e-4, confidence=0.90, draws=19)
    with pytest.raises(ValueError, match=r"needs more draws than 18: use 20"):
        tail.upper(1e-4, confidence=0.95, draws=18)


def test_the_limit_follows_its_seed_and_leaves_the_global_generator_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    tail = TailModel.fit(exponential())
    assert tail.upper(1e-4) == tail.upper(1e-4, seed=0) != tail.upper(1e-4, seed=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


# ---- what it is worth ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exponentials():
    return simulate(stats.expon(), 5000, 180, 1e-4, seed=2)


def test_quantiles_of_a_heavy_tail_are_exceeded_about_as_often_as_asked_for():
    point, upper, _ = simulate(stats.genpareto(0.3), 10_000, 100, 1e-4, seed=3)
    assert len(point) > 50
    assert 0.5 <= np.median(point) <= 2  # the median has a standard error of about 10 %
    rare = 0.14  # of 500 simulated samples
    assert (upper > 1).mean() <= rare + SIGMAS * math.sqrt(rare * (1 - rare) / len(upper))


def test_the_limit_of_an_exponential_tail_fails_about_as_rarely_as_documented(exponentials):
    point, upper, _ = exponentials
    assert len(point) > 110
    assert 0.5 <= np.median(point) <= 2
    rare = 0.08
    assert (upper > 1).mean() <= rare + SIGMAS * math.sqrt(rare * (1 - rare) / len(upper))
    assert np.median(upper) > 0.02  # a limit that is never exceeded would be of no use


def test_the_fit_of_a_true_tail_is_refused_at_the_level_of_its_test(exponentials):
    _, upper, reasons = exponentials
    replicas = len(upper) + len(reasons)
    refused = sum("Cramer" in reason for reason in reasons) / replicas
    assert abs(refused - 0.05) <= SIGMAS * math.sqrt(0.05 * 0.95 / replicas)
    assert len(reasons) / replicas < 0.35


@pytest.mark.parametrize("gamma", [-0.4, 0.0, 0.3])
def test_the_distance_from_a_tail_is_that_of_scipy(gamma):
    peaks = np.sort(3 * stats.genpareto(0.1).rvs(60, random_state=0))  # beyond the end of the bounded one
    expected = stats.cramervonmises(peaks, stats.genpareto(gamma, scale=2).cdf).statistic
    np.testing.assert_allclose(_distance(peaks, gamma, 2.0), expected, rtol=1e-12)


def test_the_extremal_index_of_moving_maxima_is_one_over_their_width():
    rng = np.random.default_rng(4)
    for width in (1, 2, 5):
        noise = rng.exponential(size=100_000 + width)
        series = np.lib.stride_tricks.sliding_window_view(noise, width).max(axis=1)
        times = np.flatnonzero(series > np.sort(series)[-1000])
        assert abs(_extremal_index(times, len(series)) - 1 / width) <= SIGMAS / math.sqrt(1000 * width)


def test_the_extremal_index_of_few_peaks_by_hand():
    # gaps 1, 1, 10, and 8 around: 2 (0 + 0 + 9 + 7)^2 / (4 (0 + 0 + 9 * 8 + 7 * 6)), cut to 1
    assert _extremal_index(np.array([5, 6, 7, 17]), 20) == 1.0
    # gaps 1, 1, 1, and 97 around: 2 * 96^2 / (4 * 96 * 95)
    np.testing.assert_allclose(_extremal_index(np.array([5, 6, 7, 8]), 100), 48 / 95)
    # no gap above 2: 2 (1 + 1 + 2)^2 / (3 (1 + 1 + 4)), cut to 1
    assert _extremal_index(np.array([0, 1, 2]), 4) == 1.0


# ---- refusals ------------------------------------------------------------------------------------------------------


def heavier_at_the_top():
    """Exponential up to the level 0.99, and bounded soon above it."""
    scores = exponential(20_000)
    top = np.sort(scores)[-200]
    return np.where(scores > top, top + 3 * (1 - np.exp(-(scores - top))), scores)


def in_two_heaps():
    scores = exponential()
    start = np.sort(scores)[4899]
    return np.where(scores > start, start + 0.3 * (scores - start) + 2.0 * (scores > start + 0.7), scores)


def autocorrelated():
    return lfilter([1], [1, -0.95], np.random.default_rng(0).normal(size=5000))


SPOILED = {
    "few": (lambda: exponential(1000), r"20 peaks < 50"),
    "ties": (lambda: np.round(exponential(), 1), r"% of the peaks are ties"),
    "integers": (lambda: np.random.default_rng(0).poisson(5, 5000), r"% of the peaks are ties"),
    "saturated": (lambda: np.minimum(exponential(), 7.5), r"bounded or saturate"),
    "uniform": (lambda: np.random.default_rng(0).random(5000), r"shape -.* bounded"),
    "heavy": (lambda: stats.pareto(1.0).rvs(5000, random_state=0), r"shape .* too heavy"),
    "clusters": (autocorrelated, r"extremal index 0\.\d+ < 0.8"),
    "sorted": (lambda: np.sort(exponential()), r"extremal index .* ordered=False"),
    "levels": (heavier_at_the_top, r"depends on the level"),
    "heaps": (in_two_heaps, r"Cramer-von Mises p=0\.0"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("method", METHODS)
def test_what_speaks_against_a_tail_refuses_it(spoiled, method):
    scores, reason = SPOILED[spoiled]
    reasons = refusal(scores(), method=method)
    assert len([found for found in reasons if re.search(reason, found)]) == 1


@pytest.mark.parametrize("spoiled", ["few", "saturated", "sorted", "clusters", "ties"])
def test_some_reasons_come_alone(spoiled):
    """So that none of them hides behind another one."""
    scores, _ = SPOILED[spoiled]
    assert len(refusal(scores())) == 1


def test_all_reasons_are_given_at_once():
    scores = np.sort(np.minimum(np.round(exponential(1000), 1), 6))
    found = " ".join(refusal(scores))
    assert all(word in found for word in ("peaks <", "ties", "saturate", "extremal"))


def test_scores_without_peaks_or_with_equal_peaks_are_refused():
    for scores in (np.ones(5000), np.repeat([0.0, 1.0], [4900, 100]), [1.0], [1.0, 2.0]):
        assert refusal(scores)


def test_scores_whose_differences_overflow_are_refused():
    scores = np.random.default_rng(0).random(5000) * 1.7e308 - 1.7e308 * (np.arange(5000) % 5 > 0)
    assert "too large" in " ".join(refusal(scores, quantile=0.5))


@pytest.mark.parametrize("method", METHODS)
def test_sorted_samples_give_the_same_tail_where_their_order_says_nothing(method):
    scores = exponential()
    kept, lost = TailModel.fit(scores, method=method), TailModel.fit(np.sort(scores), ordered=False, method=method)
    assert kept == lost
    assert kept.diagnostics["extremal_index"] >= 0.8
    assert lost.diagnostics["extremal_index"] is None


def test_a_level_out_of_reach_is_refused_and_the_one_before_is_not():
    tail = TailModel.fit(exponential())
    least = 1 / (50 * 5000)
    assert tail.quantile(least) > tail.quantile(2 * least)
    for ask in (tail.quantile, tail.upper, tail.guarantee):
        with pytest.raises(TailFitError, match=r"below 1/\(50 n\) = 4e-06") as caught:
            ask(least * (1 - 1e-9))
        assert len(caught.value.reasons) == 1


def test_a_level_that_ranks_reach_below_the_tail_is_refused():
    tail = TailModel.fit(exponential())
    with pytest.raises(ValueError, match=r"starts at 0.02: use ranks"):
        tail.quantile(0.02)
    np.testing.assert_allclose(tail.quantile(math.nextafter(0.02, 0)), tail.start, rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(bad):
    scores = exponential()
    scores[7] = bad
    with pytest.raises(NonFiniteScoreError, match="1 of 5000"):
        TailModel.fit(scores)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"quantile": 0.0}, "quantile"), ({"quantile": 1.0}, "quantile"), ({"method": "moments"}, "'pwm' or 'mle'")],
)
def test_arguments_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        TailModel.fit(exponential(), **options)


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="got none"):
        TailModel.fit([])


def test_levels_out_of_range_are_refused():
    tail = TailModel.fit(exponential())
    for alpha in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            tail.upper(alpha)
    with pytest.raises(ValueError, match="confidence"):
        tail.upper(1e-4, confidence=1.0)


# ---- what is promised ----------------------------------------------------------------------------------------------


def test_the_guarantee_is_that_of_a_model_and_says_so():
    guarantee = TailModel.fit(exponential()).guarantee(1e-4, confidence=0.9)
    assert (guarantee.kind, guarantee.k, guarantee.delta, guarantee.n) == (GuaranteeKind.MODEL, 0, None, 5000)
    assert (guarantee.alpha, guarantee.attained) == (1e-4, 1e-4)
    assert "nominal confidence 0.9" in guarantee.assumptions[-1]
    assert str(guarantee).startswith("no guarantee: a tail fitted")
    assert guarantee.future_alarms(100) is None
    unordered = TailModel.fit(np.sort(exponential()), ordered=False).guarantee(1e-4)
    assert len(unordered.assumptions) == len(guarantee.assumptions) + 1


def test_a_calibration_extrapolates_by_the_same_tail():
    scores = exponential()
    threshold = Calibration.fit(scores).threshold(1e-5, on_insufficient="tail")
    tail = TailModel.fit(scores, ordered=False)
    assert threshold.value == tail.upper(1e-5) > scores.max()
    assert threshold.guarantee == tail.guarantee(1e-5)


def test_scores_are_left_as_they_were():
    scores = exponential()
    before = scores.copy()
    TailModel.fit(scores).upper(1e-4)
    assert (scores == before).all()


def test_a_tail_is_a_value():
    one, other = TailModel.fit(exponential()), TailModel.fit(exponential())
    assert one == other
    assert hash(one) == hash(other)
    assert "100 peaks of 5000 scores" in str(one)
    with pytest.raises(AttributeError):
        one.gamma = 0.0
