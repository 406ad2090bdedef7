import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.metrics import evaluate
from deepad.evaluation.ranking import ranking
from deepad.scoring.conformal import Calibration
from deepad.scoring.verdict import Verdict


def verdict_of(scores, alpha=0.1):
    calibration = Calibration.fit(np.arange(99.0), tie_rtol=0)
    threshold = calibration.threshold(alpha)
    scores = np.asarray(scores, float)
    return Verdict(
        scores, calibration.p_values(scores), threshold.flag(scores), alpha, threshold.value, threshold.guarantee
    )


def slow_auroc(score, y):
    pairs = [(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]]
    return np.mean(pairs)


def slow_average_precision(score, y):
    total, hits = 0.0, 0
    for value in sorted(set(score), reverse=True):
        chosen = score >= value
        new = (y[chosen] == 1).sum()
        total += (new - hits) / (y == 1).sum() * new / chosen.sum()
        hits = new
    return total


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 1)), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_metrics_equal_their_slow_twins(rows):
    score, y = np.array(rows, float).T
    result = evaluate(verdict_of(score), y.astype(int))
    flagged = score > 89  # the 10th largest of 0..98, see the verdict's own tests
    at = result["at_threshold"]
    assert at["false_alarms"] == (flagged & (y == 0)).sum()
    if 0 < y.sum() < len(y):
        assert result["ranking"]["auroc"] == pytest.approx(slow_auroc(score, y))
        assert result["ranking"]["average_precision"] == pytest.approx(slow_average_precision(score, y))
        assert at["recall"] == pytest.approx((flagged & (y == 1)).sum() / y.sum())
    else:
        assert {value for name, value in result["ranking"].items() if name != "prevalence"} == {None}
    hits, alarms = (flagged & (y == 1)).sum(), (flagged & (y == 0)).sum()
    assert (at["hits"], at["n_anomalies"]) == (hits, y.sum())
    assert at["f1"] == (pytest.approx(2 * hits / (hits + alarms + y.sum())) if y.sum() else None)
    if flagged.any():
        assert at["precision"] == pytest.approx(y[flagged].mean())
    else:
        assert at["precision"] is None


def test_rows_without_a_score_are_counted_apart():
    result = evaluate(verdict_of([1, 95, np.nan, np.nan]), [0, 1, 0, 1])
    assert result["n"] == 4
    assert result["n_invalid"] == 2
    assert result["at_threshold"]["n_normal"] == 1
    assert result["ranking"]["auroc"] == 1.0


def test_an_infinite_score_ranks_first():
    assert evaluate(verdict_of([np.inf, 1e308, 5, -np.inf]), [1, 0, 0, 0])["ranking"]["auroc"] == 1.0


def test_the_law_says_when_a_promise_was_not_kept():
    rng = np.random.default_rng(0)
    kept = evaluate(verdict_of(rng.uniform(0, 99, 2000)), np.zeros(2000, int))["at_threshold"]
    assert kept["inside_law_99"]
    broken = evaluate(verdict_of(rng.uniform(60, 99, 2000)), np.zeros(2000, int))["at_threshold"]
    assert not broken["inside_law_99"]


@pytest.mark.parametrize("labels", [[0, 1], 1, [[0, 1, 1]], [0, 1, 2], [0.5, 0, 1], ["a", "b", "c"], [0, 1, np.nan]])
def test_labels_of_another_kind_or_number_are_refused_in_the_words_of_all_metrics(labels):
    message = "labels must be 0" if np.shape(labels) == (3,) else rf"of shapes {re.escape(str(np.shape(labels)))} and"
    for refused in (lambda: evaluate(verdict_of([1, 2, 3]), labels), lambda: ranking(labels, [1.0, 2.0, 3.0])):
        with pytest.raises(InputError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)
