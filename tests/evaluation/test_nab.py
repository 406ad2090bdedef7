"""The NAB score: against the published implementation, a twin in plain loops, and laws."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.nab import PROFILES, STANDARD, Profile, nab_score, nab_total, oracle_nab
from deepad.evaluation.spans import spans

REFERENCE = json.loads((Path(__file__).parent / "cases" / "nab.json").read_text())
WEIGHTS = {profile["name"]: Profile(*profile["values"]) for profile in REFERENCE["profiles"]}
every_case = pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["name"])
thorough = settings(derandomize=True, deadline=None, max_examples=100)
shares = st.sampled_from([0.0, 0.15, 0.5, 1.0])
recordings = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30).map(
    lambda rows: (spans([event for event, _ in rows]), np.array([score for _, score in rows], float))
)
profiles = st.sampled_from(list(WEIGHTS.values()))


def read(case):
    score = case["score"] if "score" in case else np.isin(np.arange(case["n"]), case["alarms"])
    return np.array(score, float), np.array(case["windows"], int).reshape(-1, 2)


def sigma(x):
    return -1.0 if x > 3 else 2 / (1 + math.exp(5 * x)) - 1


def slow_total(flagged, windows, profile, probation):
    """Straight from the definition, step by step."""
    start = math.floor(min(probation * len(flagged), probation * 5000))
    total, found = 0.0, set()
    for t in range(start, len(flagged)):
        if not flagged[t]:
            continue
        own = [k for k, (begin, end) in enumerate(windows) if begin <= t < end]
        over = [k for k, (_, end) in enumerate(windows) if end <= t]
        if own and own[0] not in found:
            begin, end = windows[own[0]]
            total += profile.hit * sigma(-(end - t) / (end - begin)) / sigma(-1)
            found.add(own[0])
        elif not own and over:
            begin, end = windows[over[-1]]
            total += profile.false_alarm * sigma((t - end + 1) / max(end - begin - 1, 1))
        elif not own:
            total -= profile.false_alarm
    counted = [k for k, (_, end) in enumerate(windows) if end > start]
    return total - profile.miss * (len(counted) - len(found)), len(counted)


# ---- references and twins -------------------------------------------------------------------------------------------


@every_case
def test_sums_equal_those_of_the_published_implementation_at_every_threshold(case):
    score, windows = read(case)
    for name, expected in case["profiles"].items():
        for threshold, value in [[case["threshold"], expected["total"]], *expected["sweep"]]:
            total = nab_total([score >= threshold], [windows], WEIGHTS[name], probation=case["probation"])
            assert total.value == pytest.approx(value, abs=1e-9)


@every_case
def test_normalised_scores_and_the_best_of_all_thresholds_equal_the_published_ones(case):
    score, windows = read(case)
    for name, expected in case["profiles"].items():
        given_ = [windows], WEIGHTS[name]
        at = nab_score([score >= case["threshold"]], *given_, probation=case["probation"])
        best = oracle_nab([score], *given_, probation=case["probation"])
        if not len(windows):
            assert at is None
            assert best is None
            continue
        # a window inside probation was counted there, so that neither 0 nor 100 could be reached: see the next test
        if case["name"] != "own_window_in_probation":
            assert at == pytest.approx(expected["normalised"], abs=1e-9)
        again = nab_total([score >= best.threshold], *given_, probation=case["probation"])
        assert again.value == pytest.approx(expected["best"], abs=1e-9)


def test_a_window_inside_probation_does_not_count():
    flagged = np.zeros(60, bool)
    flagged[30] = True
    windows = [[1, 6], [30, 38]]
    assert nab_total([flagged], [windows], STANDARD) == (1, 1)
    assert nab_score([flagged], [windows]) == 100
    assert nab_score([np.zeros(60, bool)], [windows]) == 0


@thorough
@given(recordings, st.integers(0, 5), profiles, shares)
def test_sums_equal_their_slow_twin(recording, threshold, profile, probation):
    windows, score = recording
    found = nab_total([score >= threshold], [windows], profile, probation=probation)
    assert found == pytest.approx(slow_total(score >= threshold, windows, profile, probation), abs=1e-9)


@thorough
@given(st.lists(recordings, min_size=1, max_size=3), profiles, shares)
def test_no_threshold_is_better_than_the_oracle_and_none_above_as_good(parts, profile, probation):
    windows, scores = [rows for rows, _ in parts], [score for _, score in parts]
    best = oracle_nab(scores, windows, profile, probation=probation)
    every = {}
    for threshold in [np.inf, *np.unique(np.concatenate(scores))]:
        every[threshold] = nab_score([s >= threshold for s in scores], windows, profile, probation=probation)
    if best is None:
        assert set(every.values()) == {None}
        return
    assert best.value == pytest.approx(max(every.values()), abs=1e-9)
    assert every[best.threshold] == pytest.approx(best.value, abs=1e-9)
    assert all(value < best.value + 1e-9 for t, value in every.items() if t > best.threshold)
    assert best.value >= 0  # that of no alarm


# ---- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_first_step_of_every_window_is_perfect_and_no_alarm_is_0(profile):
    windows = [[10, 20], [20, 21], [50, 60]]
    first = np.isin(np.arange(60), [10, 20, 50])
    assert nab_score([first], [windows], profile, probation=0) == pytest.approx(100)
    assert nab_score([~first & first], [windows], profile, probation=0) == 0


def test_later_alarms_are_worth_less_on_both_sides_of_the_end():
    def alone(t):
        return nab_score([np.arange(200) == t], [[[50, 60]]], probation=0)

    found = [alone(t) for t in range(50, 86)]
    assert all(a > b for a, b in itertools.pairwise(found))
    assert found[9] > 50  # a window found at its last step is found
    assert found[10] < 0  # and missed one step later
    assert alone(199) == alone(150) == alone(10) == pytest.approx(-5.5)  # far away, or before any window


@thorough
@given(recordings, profiles, st.integers(1, 9))
def test_more_alarms_in_a_window_change_nothing_and_steps_before_it_neither(recording, profile, by):
    windows, score = recording
    flagged = score >= 3
    filled = flagged.copy()
    for begin, end in windows:
        filled[begin:end] |= np.maximum.accumulate(flagged[begin:end])
    here = nab_total([flagged], [windows], profile, probation=0)
    assert nab_total([filled], [windows], profile, probation=0) == pytest.approx(here, abs=1e-9)
    later = nab_total([np.pad(flagged, (by, 0))], [windows + by], profile, probation=0)
    assert later == pytest.approx(here, abs=1e-9)


def test_recordings_are_summed_before_they_are_normalised():
    found, missed = np.arange(20) == 10, np.zeros(20, bool)
    assert nab_score([found, missed], [[[10, 15]], [[3, 8]]], probation=0) == pytest.approx(50)
    noisy = np.arange(20) == 19
    assert nab_score([found, noisy], [[[10, 15]], []], probation=0) == pytest.approx(100 - 11 / 2)


def test_probation_is_at_most_750_steps():
    late, early = (np.arange(10_000) == t for t in (750, 749))
    windows = [[9000, 9100]]
    assert nab_score([late], [windows]) == pytest.approx(-5.5)
    assert nab_score([early], [windows]) == 0


def test_the_profiles_punish_what_their_names_say():
    def total(flagged, name):
        return nab_total([flagged], [[[20, 30]]], PROFILES[name], probation=0).value

    noisy, silent = np.isin(np.arange(50), [5, 20]), np.zeros(50, bool)
    assert total(noisy, "reward_low_FP") < total(noisy, "standard") == total(noisy, "reward_low_FN")
    assert total(silent, "reward_low_FN") < total(silent, "standard") == total(silent, "reward_low_FP")


def test_the_oracle_never_flags_a_step_without_a_score():
    score = np.array([np.nan, 0, 2, np.nan, -np.inf])
    assert oracle_nab([score], [[[2, 4]]], probation=0) == (100, 2)
    assert oracle_nab([score], [[[3, 4]]], probation=0) == (0, np.inf)
    assert oracle_nab([score], [[[4, 5]]], probation=0).threshold == -np.inf


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_in_one_line_that_says_what_arrived():
    flags = np.zeros(9, bool)
    cases = [
        ([flags], [], "windows of 0 recordings for 1"),
        ([flags[None]], [[]], r"values of shape \(1, 9\)"),
        ([flags.astype(int)], [[]], "true or false"),
        ([flags], [[[5, 10]]], "windows from 5 to 10 leave the recording of 9 steps"),
        ([flags], [[[5, 5]]], "windows must"),
    ]
    for flagged, windows, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            nab_score(flagged, windows)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="real numbers"):
        oracle_nab([["a", "b"]], [[]])


@pytest.mark.parametrize("probation", [-0.1, 1.1, math.nan])
def test_a_probation_out_of_range_is_refused(probation):
    with pytest.raises(ValueError, match=r"probation must lie in \[0, 1\]"):
        nab_score([np.zeros(9, bool)], [[]], probation=probation)
