"""Events that were found, their delays, and alarms outside of them, against loops over steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.detection import alarms_outside, delays
from deepad.evaluation.spans import spans

thorough = settings(derandomize=True, deadline=None, max_examples=100)
masks = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30).map(
    lambda rows: np.array(rows, bool).reshape(-1, 2).T
)


@thorough
@given(masks)
def test_the_delay_counts_from_the_begin_of_an_event_to_its_first_flagged_step(rows):
    y, flagged = rows
    expected = [next((t - a for t in range(a, b) if flagged[t]), np.nan) for a, b in spans(y)]
    np.testing.assert_array_equal(delays(spans(y), flagged), expected)


@thorough
@given(masks, st.integers(0, 3))
def test_an_alarm_is_outside_if_none_of_its_flagged_steps_is_in_an_event(rows, cooldown):
    y, flagged = rows
    merged = []
    for t in np.flatnonzero(flagged):
        if merged and t - merged[-1][-1] - 1 <= cooldown:
            merged[-1].append(t)
        else:
            merged.append([t])
    expected = [not any(y[t] for t in alarm) for alarm in merged]
    assert alarms_outside(np.ones(len(y)), flagged, y, cooldown=cooldown).tolist() == expected


def test_an_alarm_that_reaches_into_an_event_is_one_and_not_outside():
    y = [0, 0, 1, 1, 0, 0, 0, 0]
    flagged = np.array([0, 1, 1, 0, 0, 0, 1, 0], bool)
    assert alarms_outside(np.ones(8), flagged, y).tolist() == [False, True]
    assert alarms_outside(np.ones(8), flagged, y, cooldown=3).tolist() == [False]
    assert delays([[2, 4]], flagged).tolist() == [0]


def test_an_alarm_that_spans_an_event_without_flagging_it_is_outside():
    assert alarms_outside(np.ones(3), np.array([True, False, True]), [0, 1, 0], cooldown=1).tolist() == [True]


def test_a_flag_on_a_step_without_a_score_is_no_alarm():
    assert alarms_outside([np.nan, 1, 1], np.array([True, False, True]), [0, 0, 1]).tolist() == [False]


def test_events_at_the_borders_and_none_at_all():
    flagged = np.array([True, False, True])
    np.testing.assert_array_equal(delays([[0, 1], [1, 3]], flagged), [0, 1])
    assert delays([], flagged).tolist() == []
    np.testing.assert_array_equal(delays([[0, 3]], np.zeros(3, bool)), [np.nan])
    assert alarms_outside([], np.zeros(0, bool), []).tolist() == []


def test_random_flags_find_long_events_by_chance():
    rng = np.random.default_rng(0)
    late = delays([[t, t + 50] for t in range(0, 100_000, 100)], rng.random(100_000) < 0.02)
    assert np.mean(~np.isnan(late)) == pytest.approx(1 - 0.98**50, abs=0.04)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="true or false"):
        delays([[0, 1]], [0, 1])
    with pytest.raises(InputError, match="events must"):
        delays([[1, 0]], [True])
    with pytest.raises(InputError, match="labels"):
        alarms_outside([1.0, 2.0], [True, False], [0, 2])
    with pytest.raises(ValueError, match="flagged must be of the 2 steps"):
        alarms_outside([1.0, 2.0], [True], [0, 1])
    with pytest.raises(ValueError, match="cooldown must be a whole number"):
        alarms_outside([1.0, 2.0], [True, False], [0, 1], cooldown=-1)
