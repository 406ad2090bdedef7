"""Spans of events and alarms, against loops over steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.spans import amount, as_flags, as_spans, overlaps, spans, steps_of

masks = st.lists(st.booleans(), max_size=30)


@settings(derandomize=True, deadline=None)
@given(masks)
def test_spans_are_the_runs_of_a_mask_and_make_it_again(mask):
    found = spans(mask)
    again = np.zeros(len(mask), bool)
    for begin, end in found:
        assert begin < end
        again[begin:end] = True
    assert again.tolist() == mask
    assert (found[1:, 0] > found[:-1, 1]).all()


@settings(derandomize=True, deadline=None)
@given(masks, masks)
def test_overlaps_are_the_pairs_that_share_a_step_in_order(one, other):
    a, b = spans(one), spans(other)
    expected = [(i, k) for i in range(len(a)) for k in range(len(b)) if max(a[i, 0], b[k, 0]) < min(a[i, 1], b[k, 1])]
    assert list(zip(*(part.tolist() for part in overlaps(a, b)), strict=True)) == expected


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_amounts_are_counts_within_spans(rows):
    of, mask = np.array(rows, bool).reshape(-1, 2).T
    assert amount(spans(of), mask).tolist() == [mask[a:b].sum() for a, b in spans(of)]


def test_spans_that_touch_stay_two_and_broken_numbers_are_kept():
    assert as_spans([[0, 2], [2, 5]], "events").tolist() == [[0, 2], [2, 5]]
    assert as_spans([[0.5, 1.25]], "events").tolist() == [[0.5, 1.25]]
    assert as_spans([], "events").shape == (0, 2)


@pytest.mark.parametrize(
    "rows", [[[2, 2]], [[3, 1]], [[0, 4], [3, 5]], [[5, 6], [0, 1]], [[0, np.inf]], [[0, np.nan]], [0, 1], [["a", "b"]]]
)
def test_spans_in_disorder_are_refused(rows):
    with pytest.raises(InputError, match="events must") as caught:
        as_spans(rows, "events")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [[0, 2], [0.5], ["a"], [[0, 1]], 1])
def test_a_mask_of_anything_but_0_and_1_is_refused(mask):
    with pytest.raises(InputError, match="0 or 1 for each step"):
        spans(mask)


@pytest.mark.parametrize("flags", [[0, 1], [[True]], True, ["a"]])
def test_flags_of_anything_but_true_and_false_are_refused(flags):
    with pytest.raises(InputError, match="true or false"):
        as_flags(flags)


def test_a_step_without_a_score_is_no_error_but_everything_else_that_does_not_fit_is():
    anomaly, _, scored = steps_of([0, 1, 1.0], [1.0, np.nan, -np.inf])
    assert anomaly.tolist() == [False, True, True]
    assert scored.tolist() == [True, False, True]
    cases = [
        ([0, 1], [1.0], r"got 2 labels for 1 samples, of shapes \(2,\) and \(1,\)"),
        (0, 1.0, r"\(N,\)"),
        ([0, 2], [1.0, 2.0], "labels must be 0"),
        ([0, np.nan], [1.0, 2.0], "labels must be 0"),
        ([0, 1], ["1", "2"], "real numbers"),
        ([0, 1], np.ma.array([1.0, 2.0], mask=[True, False]), "masked"),
    ]
    for y, score, message in cases:
        with pytest.raises(InputError, match=message):
            steps_of(y, score)
