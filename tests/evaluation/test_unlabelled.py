"""Scores without labels: laws of the indices, and a case in which all are perfect and the ranking is worthless."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from deepad.errors import InputError
from deepad.evaluation.unlabelled import agreement, separation, stability

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=100)
both_methods = pytest.mark.parametrize("method", ["kendall", "spearman"])


@st.composite
def tables(draw):
    """Scores (M, N) with many ties, of models that each rank something."""
    models, n = draw(st.integers(2, 4)), draw(st.integers(2, 12))
    rows = st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(lambda row: len(set(row)) > 1)
    return np.array(draw(st.lists(rows, min_size=models, max_size=models)), float)


def slow_tau(a, b):
    """Tau-b from every pair of rows."""
    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    return (x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum())


# ---- none of this is an estimate of a metric with labels ------------------------------------------------------------


def test_agreement_stability_and_separation_may_all_be_perfect_where_the_ranking_is_worthless():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [950, 50])
    nuisance = rng.exponential(size=1000)  # how bright an image is, say: it has nothing to do with the anomalies
    nuisance[:20] += 30  # and 20 normal images are overexposed
    seeds = nuisance + rng.normal(0, 1e-4, (5, 1000))
    alike, steady, apart = agreement(seeds, k=20), stability(seeds), separation(seeds[0])
    assert alike.correlation > 0.99
    assert alike.overlap == 1.0
    assert steady.concordance > 0.999
    assert apart.above == 20
    assert apart.p_value < 1e-6
    assert roc_auc_score(y, seeds[0]) < 0.55
    assert y[np.argsort(seeds[0])[-20:]].sum() == 0  # not one anomaly among those that stand apart


def test_a_good_ranking_may_have_no_separation():
    rng = np.random.default_rng(1)
    score = np.r_[rng.exponential(size=900), 3 + rng.exponential(size=100)]
    assert roc_auc_score(np.repeat([0, 1], [900, 100]), score) > 0.95
    assert separation(score).p_value > 0.05


# ---- agreement ------------------------------------------------------------------------------------------------------


@exhaustive
@given(tables(), st.data())
def test_agreement_equals_its_slow_twin(scores, data):
    k = data.draw(st.integers(1, scores.shape[1]))
    every = [(a, b) for i, a in enumerate(scores) for b in scores[i + 1 :]]
    found = agreement(scores, k=k)
    assert found.correlation == pytest.approx(np.mean([slow_tau(a, b) for a, b in every]), abs=1e-12)
    rho = agreement(scores, k=k, method="spearman")
    assert rho.correlation == pytest.approx(np.mean([stats.spearmanr(a, b).statistic for a, b in every]), abs=1e-12)
    assert (found.overlap, found.k) == (rho.overlap, k)


@exhaustive
@given(st.integers(2, 4), st.integers(2, 20), st.integers(0, 1000), st.data())
def test_without_ties_overlap_is_that_of_the_sets_of_the_highest_scores(models, n, seed, data):
    scores = np.random.default_rng(seed).normal(size=(models, n))
    k = data.draw(st.integers(1, n))
    tops = [set(np.argsort(row)[-k:].tolist()) for row in scores]
    expected = np.mean([len(a & b) / len(a | b) for i, a in enumerate(tops) for b in tops[i + 1 :]])
    assert agreement(scores, k=k).overlap == pytest.approx(expected)


def test_rows_that_tie_at_the_border_of_the_top_belong_to_it_in_part():
    # a: row 3 and a third of each other row; b: rows 3 and 0
    assert agreement([[1, 1, 1, 2], [3, 1, 2, 4]], k=2).overlap == pytest.approx((1 + 1 / 3) / (2 + 2 / 3))
    assert agreement([[1, 1, 1, 2], [5, 5, 5, 9]], k=2).overlap == pytest.approx(1)


@both_methods
@exhaustive
@given(scores=tables(), random=st.randoms(use_true_random=False))
def test_only_the_order_within_each_model_counts(method, scores, random):
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    expected = agreement(scores, k=2, method=method)
    for same in (scores[:, order], scores[::-1], 3 * scores - 7, np.where(scores == 4, np.inf, scores), np.exp(scores)):
        found = agreement(same, k=2, method=method)
        assert (found.correlation, found.overlap) == pytest.approx((expected.correlation, expected.overlap), abs=1e-12)
        assert stability(same).concordance == pytest.approx(stability(scores).concordance)


@both_methods
def test_models_that_rank_alike_agree_and_models_that_rank_in_reverse_do_not(method):
    a = np.array([1.0, 1, 2, 3, 3, 3, 4, 5, 6, 6])
    for b, correlation, overlap in ((np.exp(a), 1, 1), (-a, -1, 0)):
        found = agreement([a, b], k=2, method=method)
        assert (found.correlation, found.overlap) == pytest.approx((correlation, overlap))
    assert agreement([a, -a], k=10, method=method).overlap == 1  # all rows are the top


@both_methods
def test_models_that_know_nothing_of_each_other_agree_as_by_chance(method):
    scores = np.random.default_rng(2).normal(size=(12, 2000))
    found = agreement(scores, k=200, method=method)
    assert abs(found.correlation) < SIGMAS * math.sqrt(1 / 2000 / 66)
    assert found.overlap == pytest.approx(200 / (2 * 2000 - 200), abs=0.01)


def test_the_top_is_a_tenth_of_the_rows_unless_said_otherwise():
    scores = np.random.default_rng(3).normal(size=(2, 57))
    assert agreement(scores).k == 5
    assert agreement(scores[:, :7]).k == 1


# ---- stability ------------------------------------------------------------------------------------------------------


@exhaustive
@given(st.integers(2, 6), st.integers(2, 15), st.integers(0, 1000))
def test_concordance_without_ties_is_that_of_the_mean_rank_correlation(seeds, n, seed):
    scores = np.random.default_rng(seed).normal(size=(seeds, n))
    rho = agreement(scores, method="spearman").correlation
    assert (seeds * stability(scores).concordance - 1) / (seeds - 1) == pytest.approx(rho, abs=1e-9)


@exhaustive
@given(tables().filter(lambda scores: scores.shape[1] > 2))
def test_concordance_with_ties_is_friedman_s_statistic_of_rows_over_its_maximum(scores):
    seeds, n = scores.shape
    chi2 = stats.friedmanchisquare(*scores.T).statistic
    assert stability(scores).concordance == pytest.approx(chi2 / (seeds * (n - 1)), abs=1e-9)


def test_the_spread_names_the_rows_whose_place_depends_on_the_seed():
    scores = np.tile(np.arange(10.0), (4, 1))
    assert stability(scores).concordance == 1.0
    assert not stability(scores).spread.any()
    scores[:2, 3] = 20  # first for two seeds, fourth for two
    spread = stability(scores).spread
    assert spread.argmax() == 3
    assert spread[3] == pytest.approx(np.std([10, 10, 4, 4]) / 10)
    assert not spread[:3].any()
    turned = stability([np.arange(10.0), -np.arange(10.0)])
    assert turned.concordance == pytest.approx(0)
    assert turned.spread.max() == 0.45


# ---- separation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "share"), [(5, 0.68377), (10, 0.44495), (15, 0.33462), (20, 0.27040), (30, 0.19784), (50, 0.13135)]
)
def test_the_law_of_the_largest_share_has_its_published_points(k, share):
    # scores whose first spacing has this share of all, the others alike
    spacings = np.r_[share, np.full(k - 1, (1 - share) / (k - 1))] / np.arange(1, k + 1)
    tail = np.r_[0, np.cumsum(spacings[::-1])]
    found = separation(tail, k=k)
    assert found.share == pytest.approx(share)
    assert found.above == 1
    assert found.p_value == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("k", [2, 10, 50])
def test_an_exponential_tail_gives_uniform_p_values(k):
    rng = np.random.default_rng(k)
    p_values = [separation(rng.exponential(size=200), k=k).p_value for _ in range(2000)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4


def rejected(draw, replicas=1000):
    return np.mean([separation(draw(np.random.default_rng(seed))).p_value <= 0.05 for seed in range(replicas)])


def test_gaussian_tails_rarely_show_a_gap_and_heavy_or_bounded_ones_show_it_without_any_anomaly():
    noise = SIGMAS * math.sqrt(0.05 * 0.95 / 1000)
    assert rejected(lambda rng: rng.normal(size=300)) <= 0.05 + noise
    assert rejected(lambda rng: rng.standard_cauchy(size=300)) > 0.5
    assert rejected(lambda rng: rng.pareto(2, size=300) + 1) > 0.3
    assert rejected(lambda rng: rng.uniform(size=300)) > 0.1
    assert rejected(lambda rng: np.log(rng.pareto(2, size=300) + 1)) <= 0.05 + noise  # exponential


@pytest.mark.parametrize("group", [1, 5, 30])
def test_a_group_that_stands_apart_is_found_with_its_gap(group):
    rng = np.random.default_rng(4)
    score = rng.permutation(np.r_[rng.exponential(size=500), 30 + rng.exponential(size=group)])
    found = separation(score, k=50)
    ordered = np.sort(score)[::-1]
    assert (found.above, found.low, found.high) == (group, ordered[group], ordered[group - 1])
    assert found.p_value < 1e-3


def test_a_group_larger_than_the_tail_is_not_seen():
    rng = np.random.default_rng(5)
    score = np.r_[rng.exponential(size=500), 300 + rng.exponential(size=60)]
    assert separation(score, k=50).p_value > 0.01


@exhaustive
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-10, 10), st.integers(3, 40))
def test_unit_and_origin_of_the_scores_change_nothing(seed, unit, origin, n):
    rng = np.random.default_rng(seed)
    score = rng.exponential(size=n)
    found, same = separation(score), separation(rng.permutation(unit * (score + origin)))
    assert (same.share, same.p_value) == pytest.approx((found.share, found.p_value), rel=1e-6, abs=1e-9)
    assert same.above == found.above
    assert 0 <= found.p_value <= 1
    assert 0 < found.share <= 1


@pytest.mark.parametrize("unit", [1e308, 5e-324])
def test_huge_and_tiny_scores_are_read(unit):
    found = separation(unit * np.array([-1.0, 0, 0, 1, 1]), k=4)
    assert (found.above, found.low, found.high) == (4, -unit, 0)
    assert found.share == pytest.approx(4 / 6)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [agreement, stability])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 2.0]], "at least 2 models"),
        ([[1.0], [2.0]], "at least 2 models"),
        ([1.0, 2.0], r"shape \(2,\)"),
        ([["a", "b"], ["c", "d"]], "real numbers"),
        ([[1.0, math.nan, 3.0], [1.0, math.nan, math.nan]], "2 of 3 rows have a NaN"),
        ([[1.0, 2.0], [3.0, 3.0]], "model 1 scores all rows alike"),
    ],
)
def test_scores_that_rank_nothing_are_refused(function, scores, message):
    with pytest.raises(InputError, match=message):
        function(scores)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_top_of_another_size_is_refused(k):
    with pytest.raises(ValueError, match=r"k must lie in \[1, 3\]"):
        agreement([[1, 2, 3], [3, 2, 1]], k=k)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be 'kendall' or 'spearman', got 'pearson'"):
        agreement([[1, 2, 3], [3, 2, 1]], method="pearson")


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ([1.0, 2.0], "at least 3"),
        (np.ones((3, 3)), r"shape \(3, 3\)"),
        ([1.0, math.inf, math.nan], "2 of 3 scores are NaN or infinite"),
        ([0.0, 1.0, 1.0, 1.0], "3 highest scores all equal 1"),
    ],
)
def test_scores_without_a_tail_are_refused(score, message):
    with pytest.raises(InputError, match=message):
        separation(score)


@pytest.mark.parametrize(("n", "k"), [(10, 1), (10, 10), (100, 51), (10, 0)])
def test_a_tail_of_another_size_is_refused(n, k):
    with pytest.raises(ValueError, match=rf"k must lie in \[2, {min(50, n - 1)}\]"):
        separation(np.arange(float(n)), k=k)
