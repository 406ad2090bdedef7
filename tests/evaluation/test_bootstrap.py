"""Bootstrap intervals, against scikit-learn on resampled rows, and by simulation where the truth is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from deepad.errors import InputError
from deepad.evaluation import bootstrap
from deepad.evaluation.bootstrap import Interval, interval, intervals, paired_difference, paired_means

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=100)
SLOW = {"auroc": roc_auc_score, "average_precision": average_precision_score}
both_metrics = pytest.mark.parametrize("metric", SLOW)


def gaussian(seed, normals=100, anomalies=40, shift=1.2):
    rng = np.random.default_rng(seed)
    score = np.r_[rng.normal(size=normals), rng.normal(shift, 1, anomalies)]
    return np.repeat([0, 1], [normals, anomalies]), score


def slow_values(y, scores, metric, draws, seed):
    """The metric of each of the same draws, or the difference of two, by scikit-learn on the rows as drawn."""
    order = np.lexsort(scores[::-1])
    y, scores = y[order], [score[order] for score in scores]
    normals, anomalies = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    for drawn in bootstrap._resamples((len(normals), len(anomalies)), draws, seed):
        for times in zip(*drawn, strict=True):
            rows = np.r_[np.repeat(normals, times[0]), np.repeat(anomalies, times[1])]
            values = [SLOW[metric](y[rows], score[rows]) for score in scores]
            yield values[0] - values[1] if len(values) == 2 else values[0]


# ---- slow twins -----------------------------------------------------------------------------------------------------


@both_metrics
@exhaustive
@given(st.data())
def test_a_metric_of_counted_rows_is_that_of_the_repeated_rows(metric, data):
    ranks = st.lists(st.integers(0, 6), min_size=1, max_size=12)
    normal, anomaly = np.array(data.draw(ranks)), np.array(data.draw(ranks))
    seed = data.draw(st.integers(0, 100))
    ((normals, anomalies),) = bootstrap._resamples((len(normal), len(anomaly)), 5, seed)
    values = bootstrap._Places(normal, anomaly).metric(metric, normals, anomalies)
    for value, times_n, times_a in zip(values, normals, anomalies, strict=True):
        score = np.r_[np.repeat(normal, times_n), np.repeat(anomaly, times_a)]
        y = np.repeat([0, 1], [len(normal), len(anomaly)])
        assert value == pytest.approx(SLOW[metric](y, score), abs=1e-12)


@both_metrics
@pytest.mark.parametrize("digits", [12, 0])
def test_intervals_equal_their_slow_twins(metric, digits):
    y, a = gaussian(1)
    b = np.round(a + np.random.default_rng(2).normal(size=len(y)), digits)
    a = np.round(a, digits)
    assert digits or len(set(a)) < 10  # many ties
    single = interval(y, a, metric, level=0.9, draws=100, seed=3)
    pair = paired_difference(y, a, b, metric, level=0.9, draws=100, seed=3)
    for found, scores in ((single, [a]), (pair, [a, b])):
        values = list(slow_values(y, scores, metric, 100, 3))
        assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.05, 0.95]), abs=1e-12)
    assert single.value == pytest.approx(SLOW[metric](y, a))
    assert pair.value == pytest.approx(SLOW[metric](y, a) - SLOW[metric](y, b))


def test_counts_are_multinomial_and_of_each_class_apart():
    normals, anomalies = map(np.concatenate, zip(*bootstrap._resamples((7, 3), 20_000, 0), strict=True))
    for counts in (normals, anomalies):
        n = counts.shape[1]
        assert (counts.sum(axis=1) == n).all()
        noise = SIGMAS / math.sqrt(len(counts))
        assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=noise)
        covariance = np.eye(n) - 1 / n
        assert np.cov(counts.T) == pytest.approx(covariance, abs=3 * noise)  # the variance of a squared count is < 9
    assert abs(np.corrcoef(normals[:, 0], anomalies[:, 0])[0, 1]) < SIGMAS / math.sqrt(20_000)


@both_metrics
def test_how_many_draws_are_held_at_a_time_changes_nothing(metric, monkeypatch):
    y, score = gaussian(4)
    whole, pair = interval(y, score, metric, draws=101), paired_difference(y, score, -score, metric, draws=101)
    means = paired_means(score, -score, draws=101)
    for cells in (1, 700):
        monkeypatch.setattr(bootstrap, "CELLS", cells)
        assert interval(y, score, metric, draws=101) == whole
        assert paired_difference(y, score, -score, metric, draws=101) == pair
        again = paired_means(score, -score, draws=101)
        assert (again.low, again.high) == pytest.approx((means.low, means.high))


# ---- laws -----------------------------------------------------------------------------------------------------------


@both_metrics
def test_the_order_of_rows_and_increasing_transforms_change_nothing(metric):
    y, a = gaussian(5)
    a = np.round(a, 1)
    b = np.round(a + np.random.default_rng(6).normal(size=len(y)), 1)
    order = np.random.default_rng(7).permutation(len(y))
    top = np.where(a == a.max(), np.inf, a)
    single, pair = interval(y, a, metric, draws=50), paired_difference(y, a, b, metric, draws=50)
    assert interval(y[order], a[order], metric, draws=50) == single
    assert interval(y, np.exp(a), metric, draws=50) == interval(y, top, metric, draws=50) == single
    assert paired_difference(y[order], a[order], b[order], metric, draws=50) == pair
    assert paired_difference(y, top, np.exp(b), metric, draws=50) == pair


@both_metrics
def test_the_seed_decides_the_draws(metric):
    y, score = gaussian(8)
    assert interval(y, score, metric, seed=1) == interval(y, score, metric, seed=1)
    assert interval(y, score, metric, seed=1) != interval(y, score, metric, seed=2)


@both_metrics
def test_a_higher_level_widens_and_more_samples_narrow_the_interval(metric):
    widths = [interval(*gaussian(9), metric, level=level) for level in (0.5, 0.9, 0.95, 0.99)]
    assert all(a.low > b.low and a.high < b.high for a, b in pairwise(widths))
    few, many = (interval(*gaussian(10, 100 * n, 40 * n), metric) for n in (1, 16))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.35)  # 1/sqrt(n)


def test_a_perfect_ranking_has_an_interval_that_says_nothing():
    assert interval([0, 0, 1, 1], [1, 2, 3, 4]) == Interval(1.0, 1.0, 1.0, 0.95)


@both_metrics
def test_a_model_does_not_differ_from_itself(metric):
    y, score = gaussian(11)
    assert paired_difference(y, score, 2 * score, metric) == Interval(0.0, 0.0, 0.0, 0.95)


@both_metrics
def test_the_paired_interval_is_narrower_than_that_of_independent_draws(metric):
    y, a = gaussian(12, 400, 100)
    b = a + 0.3 * np.random.default_rng(13).normal(size=len(y))
    pair = paired_difference(y, a, b, metric)
    apart = [
        first - second
        for first, second in zip(slow_values(y, [a], metric, 300, 1), slow_values(y, [b], metric, 300, 2), strict=True)
    ]
    low, high = np.quantile(apart, [0.025, 0.975])
    assert pair.high - pair.low < (high - low) / 2


@both_metrics
def test_models_whose_intervals_overlap_may_be_told_apart(metric):
    y, a = gaussian(12, 2000, 500)
    b = a + 0.5 * np.random.default_rng(13).normal(size=len(y))
    assert interval(y, b, metric).high > interval(y, a, metric).low
    assert paired_difference(y, a, b, metric).low > 0


def covered(held, replicas, level=0.95):
    """Whether so many of the replicas can have been held at this level."""
    return abs(held / replicas - level) <= SIGMAS * math.sqrt(level * (1 - level) / replicas)


def test_intervals_hold_the_truth_as_often_as_they_say():
    replicas, shift = 400, 1.2
    truth = stats.norm.cdf(shift / math.sqrt(2))
    worse = stats.norm.cdf(shift / math.sqrt(2 * 1.5))  # b has half the variance more
    single = pair = 0
    for seed in range(replicas):
        y, a = gaussian(seed, 300, 150, shift)
        b = a + np.random.default_rng([seed, 1]).normal(0, math.sqrt(0.5), len(y))
        found = interval(y, a, draws=400, seed=seed)
        single += found.low <= truth <= found.high
        found = paired_difference(y, a, b, draws=400, seed=seed)
        pair += found.low <= truth - worse <= found.high
    assert covered(single, replicas)
    assert covered(pair, replicas)


def test_of_few_anomalies_the_interval_is_too_narrow_as_its_docstring_says():
    replicas, shift = 500, 1.2
    truth = stats.norm.cdf(shift / math.sqrt(2))
    for anomalies, documented in ((5, 0.79), (10, 0.87), (20, 0.92), (50, 0.94)):
        held = 0
        for seed in range(replicas):
            found = interval(*gaussian([seed, anomalies], 300, anomalies, shift), draws=400, seed=seed)
            held += found.low <= truth <= found.high
        assert covered(held, replicas, documented)
        assert anomalies > 10 or not covered(held, replicas)


def test_of_few_anomalies_average_precision_lies_too_high_as_its_docstring_says():
    replicas, shift, prevalence = 500, 1.2, 20 / 320
    score = np.linspace(-8, 8, 4001)
    found, false = prevalence * stats.norm.sf(score - shift), (1 - prevalence) * stats.norm.sf(score)
    truth = integrate.trapezoid(found / (found + false) * stats.norm.pdf(score - shift), score)
    intervals = [interval(*gaussian([s, 20], 300, 20, shift), "average_precision", draws=400) for s in range(replicas)]
    too_high, too_low = sum(i.low > truth for i in intervals), sum(i.high < truth for i in intervals)
    assert covered(replicas - too_high - too_low, replicas, 0.91)
    assert too_high > 2 * too_low


# ---- means over data sets -------------------------------------------------------------------------------------------


def test_the_interval_of_means_equals_its_slow_twin():
    rng = np.random.default_rng(14)
    a, b = rng.uniform(size=(2, 12))
    gaps = np.sort(a - b)
    found = paired_means(a, b, draws=200, seed=5)
    ((counts,),) = bootstrap._resamples((12,), 200, 5)
    means = [np.repeat(gaps, times).mean() for times in counts]
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert found.value == pytest.approx(a.mean() - b.mean())
    order = rng.permutation(12)
    assert paired_means(a[order], b[order], draws=200, seed=5) == found


def test_means_over_many_data_sets_are_held_as_often_as_they_say():
    replicas, held = 1000, 0
    for seed in range(replicas):
        rng = np.random.default_rng(seed)
        common = rng.uniform(0.5, 1, 100)  # hard and easy data sets: what pairing removes
        found = paired_means(common + rng.normal(0.02, 0.05, 100), common, draws=400, seed=seed)
        held += found.low <= 0.02 <= found.high
    assert covered(held, replicas)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [[0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
def test_fewer_than_two_of_a_class_are_refused(y):
    for run in (lambda: interval(y, range(4)), lambda: paired_difference(y, range(4), range(4))):
        with pytest.raises(InputError, match="at least 2 of each"):
            run()


def test_scores_that_do_not_belong_to_the_labels_are_refused():
    y = [0, 0, 1, 1]
    with pytest.raises(InputError, match="shape"):
        paired_difference(y, range(4), range(5))
    with pytest.raises(InputError, match="1 of 4 scores are NaN"):
        paired_difference(y, range(4), [1, 2, 3, math.nan])


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_a_level_outside_0_and_1_is_refused(level):
    for run in (
        lambda: interval([0, 0, 1, 1], range(4), level=level),
        lambda: paired_means([1, 2], [3, 4], level=level),
    ):
        with pytest.raises(ValueError, match=r"level must lie in \(0, 1\)"):
            run()


@pytest.mark.parametrize(("level", "fewest"), [(0.95, 40), (0.9, 20), (0.99, 200), (0.5, 4)])
def test_too_few_draws_for_a_level_are_refused(level, fewest):
    paired_means([1, 2], [3, 4], level=level, draws=fewest)
    for draws in (fewest - 1, 0, -1):
        with pytest.raises(ValueError, match=f"draws={draws} is too few for level={level}: use at least {fewest}"):
            paired_means([1, 2], [3, 4], level=level, draws=draws)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="metric must be one of auroc, average_precision, got 'f1'"):
        interval([0, 0, 1, 1], range(4), "f1")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0], "of 2 or more"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"shapes \(2,\) and \(3,\)"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "shapes"),
        ([1.0, math.nan, math.inf], [1.0, 2.0, 3.0], "2 of 3 data sets"),
    ],
)
def test_values_that_cannot_be_paired_are_refused(a, b, message):
    with pytest.raises(InputError, match=message):
        paired_means(a, b)


def test_an_interval_is_written_with_its_value():
    assert str(Interval(0.76, 0.70005, 0.81, 0.95)) == "0.7600 [0.7000, 0.8100]"


def test_both_intervals_leave_out_what_has_no_score_and_need_two_of_a_class():
    y, score = gaussian(3)
    gaps = np.insert(score, [0, 50], np.nan), np.insert(y, [0, 50], [0, 1])
    found = intervals(gaps[1], gaps[0], draws=100)
    assert found == {metric: interval(y, score, metric, draws=100) for metric in ("auroc", "average_precision")}
    assert intervals([0, 0, 1, 1], [0.1, 0.2, 0.3, np.nan]) == {}
