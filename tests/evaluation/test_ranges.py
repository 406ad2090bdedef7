"""Precision and recall of ranges: against the published implementation, a twin in plain loops, and laws."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.ranges import f_score, range_precision, range_recall
from deepad.evaluation.spans import spans

CASES = json.loads((Path(__file__).parent / "cases" / "ranges.json").read_text())["cases"]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
thorough = settings(derandomize=True, deadline=None, max_examples=100)
masks = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=25)
biases, cardinalities = st.sampled_from(["flat", "front", "back"]), st.sampled_from(["one", "reciprocal"])


def slow_recall(events, alarms, alpha, bias, cardinality):
    """Straight from the definition; precision is the same with the two in each other's place and alpha = 0."""
    values = []
    for begin, end in events:
        length = end - begin
        delta = {t: {"flat": 1, "front": length - t, "back": t + 1}[bias] for t in range(length)}
        pieces = [[t for t in range(length) if first <= begin + t < last] for first, last in alarms]
        pieces = [piece for piece in pieces if piece]
        share = sum(sum(delta[t] for t in piece) for piece in pieces) / sum(delta.values())
        factor = 1 / len(pieces) if cardinality == "reciprocal" and pieces else 1
        values.append(alpha * bool(pieces) + (1 - alpha) * factor * share)
    return np.mean(values) if values else None


@every_case
def test_values_equal_those_of_the_published_implementations(case):
    events, alarms = spans(case["y"]), spans(case["flagged"])
    for cardinality, bias, value in case["precision"]:
        assert range_precision(events, alarms, bias=bias, cardinality=cardinality) == pytest.approx(value, abs=1e-12)
    for alpha, cardinality, bias, value in case["recall"]:
        found = range_recall(events, alarms, alpha=alpha, bias=bias, cardinality=cardinality)
        assert found == pytest.approx(value, abs=1e-12)
    for beta, bias, other, value in case["f"]:
        found = f_score(range_precision(events, alarms, bias=bias), range_recall(events, alarms, bias=other), beta)
        assert found == pytest.approx(value, abs=1e-12)
    if case["name"] != "all_ones_prediction":  # TSB-AD finds no run in a vector of ones: recall 0.2, precision 0
        ours = [range_precision(events, alarms), range_recall(events, alarms, alpha=0.2)]
        assert ours == pytest.approx(case["tsb_ad"], abs=1e-12)


@thorough
@given(masks, st.floats(0, 1), biases, cardinalities)
def test_values_equal_their_slow_twin(rows, alpha, bias, cardinality):
    events, alarms = (spans(mask) for mask in np.array(rows).T)
    settings_ = {"bias": bias, "cardinality": cardinality}
    expected = slow_recall(events, alarms, alpha, bias, cardinality)
    assert range_recall(events, alarms, alpha=alpha, **settings_) == (expected and pytest.approx(expected, abs=1e-12))
    expected = slow_recall(alarms, events, 0, bias, cardinality)
    assert range_precision(events, alarms, **settings_) == (expected and pytest.approx(expected, abs=1e-12))


@thorough
@given(masks, biases, cardinalities, st.integers(0, 1000))
def test_shifting_events_and_alarms_together_changes_nothing(rows, bias, cardinality, by):
    events, alarms = (spans(mask) for mask in np.array(rows).T)
    for metric in (range_precision, range_recall):
        here, there = metric(events, alarms, bias=bias), metric(events + by, alarms + by, bias=bias)
        assert here == there


@thorough
@given(masks, st.floats(0, 1), biases, cardinalities)
def test_flagging_the_events_and_nothing_else_is_perfect(rows, alpha, bias, cardinality):
    events = spans([event for event, _ in rows])
    perfect = 1 if len(events) else None
    found = range_recall(events, events, alpha=alpha, bias=bias, cardinality=cardinality)
    assert found == (perfect and pytest.approx(1, abs=1e-12))
    assert range_precision(events, events, bias=bias, cardinality=cardinality) == perfect


def test_front_pays_for_early_steps_and_back_for_late_ones():
    event, early, late = [[10, 20]], [[10, 15]], [[15, 20]]
    assert range_recall(event, early, bias="front") == range_recall(event, late, bias="back") == 40 / 55
    assert range_recall(event, late, bias="front") == range_recall(event, early, bias="back") == 15 / 55
    assert range_recall(event, early) == range_recall(event, late) == 0.5


def test_pieces_divide_and_existence_pays():
    event, pieces = [[0, 10]], [[0, 2], [4, 6]]
    assert range_recall(event, pieces, cardinality="one") == pytest.approx(0.4)
    assert range_recall(event, pieces) == pytest.approx(0.2)
    assert range_recall(event, pieces, alpha=1) == 1


def test_nothing_to_average_is_none_and_no_alarm_an_f1_of_0():
    assert range_recall([], [[0, 1]]) is None
    assert range_precision([[0, 1]], []) is None
    assert f_score(range_precision([[0, 1]], []), range_recall([[0, 1]], [])) == 0
    assert f_score(range_precision([[0, 1]], [[5, 6]]), range_recall([[0, 1]], [[5, 6]])) == 0
    assert f_score(0.0, None) is None


@pytest.mark.parametrize("metric", [range_precision, range_recall])
def test_what_does_not_fit_is_refused(metric):
    with pytest.raises(ValueError, match="bias must be one of flat, front, back, got 'middle'"):
        metric([[0, 1]], [[0, 1]], bias="middle")
    with pytest.raises(ValueError, match="cardinality must be one of one, reciprocal, got 'two'"):
        metric([[0, 1]], [[0, 1]], cardinality="two")
    with pytest.raises(InputError, match="alarms must"):
        metric([[0, 1]], [[1, 0]])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, np.nan])
def test_an_existence_reward_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        range_recall([[0, 1]], [[0, 1]], alpha=alpha)
