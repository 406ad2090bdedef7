"""Threshold-free metrics, against slow twins, exact laws and themselves under transforms that must change nothing."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, f1_score, roc_curve

from deepad.errors import InputError
from deepad.evaluation import ranking as module
from deepad.evaluation.ranking import (
    auroc,
    average_precision,
    fpr_at_tpr,
    labelled,
    oracle_f1,
    partial_auroc,
    precision_at_n,
    ranking,
)

exhaustive = settings(derandomize=True, deadline=None, max_examples=100)
METRICS = (auroc, average_precision, partial_auroc, fpr_at_tpr, precision_at_n, lambda y, s: oracle_f1(y, s).value)
every_metric = pytest.mark.parametrize(
    "metric", METRICS, ids=["auroc", "average_precision", "partial_auroc", "fpr_at_tpr", "precision_at_n", "oracle_f1"]
)


@st.composite
def samples(draw, most=30, highest=8):
    """Labels of both classes and scores with many ties."""
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, highest)), min_size=2, max_size=most))
    y, score = np.array(rows).T
    y[:2] = 0, 1
    return y, score.astype(float)


def slow_auroc(y, score):
    return np.mean([(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]])


def slow_average_precision(y, score):
    total, hits = 0.0, 0
    for value in sorted(set(score), reverse=True):
        chosen = score >= value
        new = y[chosen].sum()
        total += (new - hits) / y.sum() * y[chosen].mean()
        hits = new
    return total


def slow_fpr_at_tpr(y, score, tpr):
    rates = [(np.mean(score[y == 1] >= t), np.mean(score[y == 0] >= t)) for t in set(score)]
    return min(fpr for found, fpr in rates if found >= tpr)


def slow_precision_at_n(y, score):
    """Mean over every order of the rows, of which sorting keeps that of the ties."""
    n = y.sum()
    orders = [list(order) for order in permutations(range(len(y)))]
    return np.mean([y[order][np.argsort(-score[order], kind="stable")[:n]].mean() for order in orders])


# ---- slow twins -----------------------------------------------------------------------------------------------------


@exhaustive
@given(samples())
def test_areas_equal_their_slow_twins(sample):
    y, score = sample
    assert auroc(y, score) == pytest.approx(slow_auroc(y, score))
    assert average_precision(y, score) == pytest.approx(slow_average_precision(y, score))


@exhaustive
@given(samples(), st.floats(0.01, 1))
def test_the_partial_area_is_that_of_the_clipped_curve_scaled_between_chance_and_perfect(sample, limit):
    y, score = sample
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    inside = fpr <= limit
    area = auc(np.r_[fpr[inside], limit], np.r_[tpr[inside], np.interp(limit, fpr, tpr)])
    chance, best = limit**2 / 2, limit
    expected = (1 + (area - chance) / (best - chance)) / 2 if limit < 1 else area
    assert partial_auroc(y, score, limit) == pytest.approx(expected, abs=1e-9)


@exhaustive
@given(samples(), st.floats(0, 1, exclude_min=True))
def test_the_false_positive_rate_equals_its_slow_twin(sample, tpr):
    assert fpr_at_tpr(*sample, tpr) == slow_fpr_at_tpr(*sample, tpr)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(samples(most=6, highest=3))
def test_precision_at_n_is_the_mean_over_every_order_of_the_ties(sample):
    assert precision_at_n(*sample) == pytest.approx(slow_precision_at_n(*sample))


@exhaustive
@given(samples())
def test_no_threshold_has_a_better_f1_than_the_oracle_and_none_above_as_good(sample):
    y, score = sample
    best = oracle_f1(y, score)
    every = {threshold: f1_score(y, score >= threshold) for threshold in set(score)}
    assert best.value == pytest.approx(max(every.values()))
    assert best.threshold == max(t for t, f1 in every.items() if f1 > best.value - 1e-12)
    assert best.value >= 2 * y.mean() / (1 + y.mean()) - 1e-12  # that of flagging everything


# ---- laws -----------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=50)
@given(samples(), st.randoms(use_true_random=False))
def test_only_the_order_of_the_scores_counts_and_not_that_of_the_rows(sample, random):
    y, score = sample
    order = list(range(len(y)))
    random.shuffle(order)
    expected = ranking(y, score)
    assert ranking(y[order], score[order]) == pytest.approx(expected)
    for transformed in (score.astype(int), 1e-300 * score - 5e-300, np.exp(100 * score - 400), score.astype("f2")):
        assert ranking(y, transformed) == expected
    bottom, top = np.where(score == score.min(), -np.inf, score), np.where(score == score.max(), np.inf, score)
    assert ranking(y, bottom) == ranking(y, top) == expected


@exhaustive
@given(samples())
def test_turning_scores_and_labels_round_leaves_auroc(sample):
    y, score = sample
    assert auroc(1 - y, -score) == pytest.approx(auroc(y, score))
    assert auroc(y, -score) == pytest.approx(1 - auroc(y, score))


def test_a_perfect_ranking_and_its_reverse():
    y, score = np.repeat([0, 1], [95, 5]), np.arange(100.0)
    perfect = {"auroc": 1, "average_precision": 1, "partial_auroc_10": 1, "fpr_at_95_tpr": 0, "precision_at_n": 1}
    assert ranking(y, score) == {"prevalence": 0.05, **perfect, "oracle_f1": 1}
    worst = ranking(y, -score)
    assert (worst["auroc"], worst["fpr_at_95_tpr"], worst["precision_at_n"]) == (0, 1, 0)
    assert worst["partial_auroc_10"] == pytest.approx(0.9 / 1.9)
    assert worst["oracle_f1"] == pytest.approx(2 * 0.05 / 1.05)


def test_constant_scores_have_the_values_of_chance():
    assert ranking(np.repeat([0, 1], [90, 10]), np.ones(100)) == pytest.approx(
        {"prevalence": 0.1, "auroc": 0.5, "average_precision": 0.1, "partial_auroc_10": 0.5, "fpr_at_95_tpr": 1}
        | {"precision_at_n": 0.1, "oracle_f1": 2 * 0.1 / 1.1}
    )


def test_repeating_normal_samples_changes_what_depends_on_the_prevalence_and_nothing_else():
    rng = np.random.default_rng(0)
    y, score = np.repeat([0, 1], [300, 30]), np.r_[rng.normal(size=300), rng.normal(2, 1, 30)]
    rarer = np.r_[np.ones(30, int), np.zeros(3000, int)], np.r_[score[300:], np.repeat(score[:300], 10)]
    common, rare = ranking(y, score), ranking(*rarer)
    for name in ("auroc", "partial_auroc_10", "fpr_at_95_tpr"):
        assert rare[name] == pytest.approx(common[name])
    for name in ("prevalence", "average_precision", "precision_at_n", "oracle_f1"):
        assert rare[name] < 0.8 * common[name]


def test_a_share_of_anomalies_is_read_as_the_decimal_that_was_written():
    y, score = np.repeat([1, 0], [100, 100]), np.r_[np.arange(100.0), np.arange(100) + 0.5]
    assert math.ceil(0.07 * 100) == 8  # what floats would do
    for percent in range(1, 101):
        assert fpr_at_tpr(y, score, percent / 100) == percent / 100


def test_an_infinite_score_ranks_above_the_largest_number_and_may_be_the_threshold():
    score = [np.inf, np.finfo(float).max, 5, -np.inf]
    assert auroc([1, 0, 0, 0], score) == 1.0
    assert oracle_f1([1, 0, 0, 0], score) == (1.0, np.inf)
    assert oracle_f1([0, 0, 0, 1], score).threshold == -np.inf


def test_numbers_that_floats_cannot_tell_apart_are_told_apart():
    assert auroc([0, 1], np.array([2**53, 2**53 + 1])) == 1.0


def test_the_ranking_is_that_of_its_metrics_and_ranks_the_scores_once(monkeypatch):
    rng = np.random.default_rng(0)
    y, score = np.repeat([0, 1], [80, 20]), np.r_[rng.normal(size=80), rng.normal(1, 1, 20)].round(1)
    limits = {"partial_auroc_10": partial_auroc(y, score, 0.1), "fpr_at_95_tpr": fpr_at_tpr(y, score, 0.95)}
    areas = {"auroc": auroc(y, score), "average_precision": average_precision(y, score)}
    others = {"precision_at_n": precision_at_n(y, score), "oracle_f1": oracle_f1(y, score).value}
    calls = []
    monkeypatch.setattr(module, "labelled", lambda *a, **k: calls.append(a) or labelled(*a, **k))
    assert ranking(y, score) == {"prevalence": 0.2, **areas, **limits, **others}
    assert len(calls) == 1


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("y", "prevalence"), [([0, 0], 0.0), ([1, 1], 1.0), ([], None)])
def test_one_class_alone_has_no_ranking(y, prevalence):
    result = ranking(y, np.arange(float(len(y))))
    assert result.pop("prevalence") == prevalence
    assert len(result) == 6
    assert set(result.values()) == {None}


@every_metric
@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1]])
def test_a_metric_of_one_class_is_refused(metric, y):
    with pytest.raises(InputError, match="at least 1 of each are needed"):
        metric(y, [1.0, 2.0, 3.0])


@every_metric
def test_bad_input_is_refused_in_one_line_that_says_what_arrived(metric):
    cases = [
        ([0, 1], [1.0, math.nan], "1 of 2 scores are NaN"),
        ([0, 1], [1.0, 2.0, 3.0], r"got 2 labels for 3 samples, of shapes \(2,\) and \(3,\)"),
        ([[0], [1]], [[1.0], [2.0]], r"\(N,\)"),
        (0, 1.0, r"\(N,\)"),
        ([0, 2], [1.0, 2.0], "labels must be 0"),
        ([0.5, 1], [1.0, 2.0], "labels must be 0"),
        ([math.nan, 1], [1.0, 2.0], "labels must be 0"),
        (["0", "1"], [1.0, 2.0], "labels must be 0"),
        ([0, 1], ["1", "2"], "scores must be real numbers"),
        ([0, 1], [1j, 2], "scores must be real numbers"),
        ([0, 1], np.ma.array([1.0, 2.0], mask=[True, False]), "masked"),
    ]
    for y, score, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            metric(y, score)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"tpr must lie in \(0, 1\]"):
        fpr_at_tpr([0, 1], [1, 2], share)
    with pytest.raises(ValueError, match=r"max_fpr must lie in \(0, 1\]"):
        partial_auroc([0, 1], [1, 2], share)


@pytest.mark.parametrize("kind", [bool, int, float, "u1"])
def test_labels_and_scores_of_any_real_type_are_read(kind):
    anomaly, rank = labelled(np.array([0, 1, 1], kind), np.array([1, 0, 1], kind))
    assert anomaly.tolist() == [False, True, True]
    assert rank.tolist() == [1, 0, 1]
