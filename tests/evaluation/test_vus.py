"""Volumes under the surface: against the published implementation, a twin in plain loops, and laws."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.ranking import auroc, average_precision
from deepad.evaluation.vus import BUFFER, buffer_from, range_auc, vus

REFERENCE = json.loads((Path(__file__).parent / "cases" / "vus.json").read_text())
thorough = settings(derandomize=True, deadline=None, max_examples=100)


@st.composite
def series(draw, most=30, missing=False):
    """Labels of both classes among the scored steps, and scores with many ties."""
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=most))
    y, score = np.array(rows).T
    y[:2] = draw(st.permutations([0, 1]))
    score = score.astype(float)
    if missing:
        score[2:][draw(st.lists(st.booleans(), min_size=len(y) - 2, max_size=len(y) - 2))] = np.nan
    return score, y


def slow_areas(score, y, buffer, thresholds=250):
    """One buffer, straight from the definition."""
    n, half = len(y), buffer // 2
    scored = [t for t in range(n) if not math.isnan(score[t])]
    events, t = [], 0
    while t < n:
        end = t
        while end < n and y[end]:
            end += 1
        if any(s in scored for s in range(t, end)):
            events.append((t, end - 1))
        t = max(end, t + 1)
    degree = [0.0] * n
    for first, last in events:
        for k in range(1, half + 1):
            for t in (first - k, last + k):
                if 0 <= t < n:
                    degree[t] += math.sqrt(1 - k / buffer)
    degree = [1.0 if y[t] else min(degree[t], 1.0) for t in range(n)]
    groups = []
    for first, last in events:
        if groups and not groups[-1][1] < first - half:
            groups[-1][1] = last + half
        else:
            groups.append([first - half, last + half])
    descending = sorted((score[t] for t in scored), reverse=True)
    positives = sum(y[t] for t in scored)
    curve = [(0.0, 0.0, 1.0)]
    for place in np.linspace(0, len(scored) - 1, thresholds):
        flagged = [t for t in scored if score[t] >= descending[int(place)]]
        forgiven = sum(degree[t] for t in flagged if not y[t])
        found, total = sum(degree[t] for t in flagged), positives + forgiven / 2
        existence = np.mean([any(first <= t <= last for t in flagged) for first, last in groups])
        false = (len(flagged) - found) / (len(scored) - total)
        curve.append((false, min(found / total, 1) * existence, found / len(flagged)))
    pr = sum((b[1] - a[1]) * b[2] for a, b in itertools.pairwise(curve))
    curve.append((1.0, 1.0, 0.0))
    roc = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))
    return roc, pr


def slow_vus(score, y, buffer, thresholds=250):
    return np.mean([slow_areas(score, y, each, thresholds) for each in range(buffer + 1)], axis=0)


# ---- references and twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["name"])
def test_volumes_equal_those_of_the_published_implementation(case):
    for buffer, expected in case["buffers"].items():
        given_ = case["score"], case["y"], int(buffer)
        assert vus(*given_) == pytest.approx(expected["vus"], abs=1e-9)
        assert vus(*given_, thresholds=50) == pytest.approx(expected["vus_50"], abs=1e-9)
        assert vus(*given_, thresholds=10) == pytest.approx(expected["vus_10"], abs=1e-9)
        assert range_auc(*given_) == pytest.approx(expected["range_auc"], abs=1e-9)


@thorough
@given(series(missing=True), st.integers(0, 12), st.sampled_from([2, 7, 250]))
def test_volumes_equal_their_slow_twin_where_steps_have_no_score_too(sample, buffer, thresholds):
    assert range_auc(*sample, buffer, thresholds) == pytest.approx(slow_areas(*sample, buffer, thresholds), abs=1e-9)
    if buffer <= 4:
        assert vus(*sample, buffer, thresholds) == pytest.approx(slow_vus(*sample, buffer, thresholds), abs=1e-9)


def test_a_buffer_longer_than_the_series_equals_the_slow_twin():
    score, y = np.arange(9.0) % 4, np.array([0, 0, 1, 0, 0, 0, 0, 1, 0])
    assert vus(score, y, 40) == pytest.approx(slow_vus(score, y, 40), abs=1e-9)


# ---- laws -----------------------------------------------------------------------------------------------------------


@thorough
@given(series(), st.integers(0, 8))
def test_only_the_order_of_the_scores_counts(sample, buffer):
    score, y = sample
    expected = vus(score, y, buffer)
    for transformed in (score.astype(int), 1e-300 * score - 5e-300, np.exp(100 * score - 400), score.astype("f2")):
        assert vus(transformed, y, buffer) == expected
    assert vus(np.where(score == score.max(), np.inf, score), y, buffer) == expected


@thorough
@given(series(missing=True), st.integers(0, 8), st.integers(0, 5), st.integers(0, 5))
def test_steps_without_a_score_before_and_behind_change_nothing(sample, buffer, before, behind):
    score, y = sample
    longer = np.pad(score, (before, behind), constant_values=np.nan), np.pad(y, (before, behind))
    assert vus(*longer, buffer) == pytest.approx(vus(score, y, buffer), abs=1e-12)


@thorough
@given(series(missing=True), st.integers(0, 12), st.sampled_from([2, 7, 250]))
def test_areas_lie_between_0_and_1(sample, buffer, thresholds):
    for area in range_auc(*sample, buffer, thresholds):
        assert -1e-12 <= area <= 1 + 1e-12


@thorough
@given(series(), st.integers(0, 8))
def test_time_may_run_backwards(sample, buffer):
    score, y = sample
    assert vus(score[::-1], y[::-1], buffer) == pytest.approx(vus(score, y, buffer), abs=1e-9)


@thorough
@given(series(most=40), st.integers(0, 8))
def test_scores_that_are_the_labels_have_areas_of_1(sample, buffer):
    _, y = sample
    assert vus(y, y, buffer) == pytest.approx((1, 1), abs=1e-12)


def test_without_a_buffer_one_event_has_the_areas_of_steps():
    rng = np.random.default_rng(0)
    y = np.zeros(200, int)
    y[50:90] = 1
    score = rng.normal(size=200) + y
    roc, pr = vus(score, y, 0)
    assert roc == pytest.approx(auroc(y, score))
    assert pr == pytest.approx(average_precision(y, score))
    assert vus(score, y, 1) == (roc, pr)  # half a buffer of one step is none


def test_an_alarm_just_beside_an_event_is_worth_more_than_one_far_away():
    y = np.zeros(100, int)
    y[40:45] = 1
    peaks = [np.where(np.arange(100) == place, 2.0, np.where(y == 1, 1.0, 0.0)) for place in (46, 80)]
    near, far = (vus(score, y, 10) for score in peaks)
    assert near.roc > far.roc
    assert near.pr > far.pr
    assert vus(peaks[0], y, 0) == vus(peaks[1], y, 0)


def test_random_scores_have_half_the_area_without_a_buffer_and_more_with_one():
    rng = np.random.default_rng(0)
    y = np.zeros(100_000, int)
    for begin in range(500, 100_000, 1000):
        y[begin : begin + 50] = 1
    score = rng.normal(size=len(y))
    assert vus(score, y, 0) == pytest.approx((0.5, 0.05), abs=0.01)
    assert vus(score, y, BUFFER) == pytest.approx((0.69, 0.10), abs=0.01)
    y = np.repeat(np.arange(20) % 2, 5000)  # events far longer than the buffer
    assert vus(score, y, BUFFER).roc == pytest.approx(0.5, abs=0.01)


def test_a_long_series_equals_its_slow_twin():
    rng = np.random.default_rng(0)
    y = (np.arange(5000) % 500 < 10).astype(int)
    score = rng.normal(size=len(y)) + y
    assert range_auc(score, y, BUFFER, 4) == pytest.approx(slow_areas(score, y, BUFFER, 4), abs=1e-9)


# ---- the buffer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFERENCE["periods"], ids=lambda case: case["series"])
def test_the_buffer_is_the_one_of_the_benchmark(case):
    series = eval(case["series"], {"np": np})  # an expression in a file of ours
    assert buffer_from(series) == case["buffer"]
    assert buffer_from(np.stack([series, np.arange(len(series))], 1)) == case["buffer"]  # the first channel counts


@pytest.mark.parametrize("n", range(1, 6))
def test_a_series_too_short_for_a_cycle_has_the_usual_buffer(n):
    assert buffer_from(np.arange(n) % 2) == BUFFER


def test_only_the_first_steps_of_a_long_series_are_looked_at():
    wave = np.sin(2 * np.pi * np.arange(20_000) / 25)
    assert buffer_from(np.concatenate([wave, 100 * np.sin(np.arange(20_000) / 9)])) == 25


@pytest.mark.parametrize("bad", [[], 1.0, [[[1.0]]], ["a"], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0], np.empty((4, 0))])
def test_a_series_of_no_finite_numbers_is_refused(bad):
    with pytest.raises(InputError):
        buffer_from(bad)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [vus, range_auc])
def test_bad_input_is_refused_in_one_line_that_says_what_arrived(metric):
    cases = [
        ([1.0, 2.0], [0, 0], "0 anomalies"),
        ([1.0, 2.0], [1, 1], "0 normal samples"),
        ([], [], "0 anomalies"),
        ([1.0, np.nan], [0, 1], "0 anomalies"),
        ([1.0, 2.0, 3.0], [0, 1], "shape"),
        ([1.0, 2.0], [0, 2], "labels must be 0"),
        (["a", "b"], [0, 1], "real numbers"),
    ]
    for score, y, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            metric(score, y, 3)
        assert "\n" not in str(caught.value)
    for buffer in (-1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="buffer must be a whole number of at least 0"):
            metric([1.0, 2.0], [0, 1], buffer)
    for thresholds in (0, 1, 2.5):
        with pytest.raises(ValueError, match="thresholds must be a whole number of at least 2"):
            metric([1.0, 2.0], [0, 1], 3, thresholds)
