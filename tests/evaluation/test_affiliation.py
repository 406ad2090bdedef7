"""Affiliation: against the published implementation, a twin that integrates numerically, and laws."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.affiliation import affiliation, affiliation_parts
from deepad.evaluation.spans import spans

REFERENCE = json.loads((Path(__file__).parent / "cases" / "affiliation.json").read_text())
thorough = settings(derandomize=True, deadline=None, max_examples=100)
POINTS = 512
"""Least points of a recording in the numerical integrals."""


@st.composite
def recordings(draw, most=20):
    """At least one event, and alarms or none."""
    rows = draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=most))
    y, flagged = np.array(rows).T
    y[draw(st.integers(0, len(y) - 1))] = True
    return spans(y), spans(flagged), (0, len(y))


def distances(times, rows):
    return np.min([np.maximum(np.maximum(begin - times, times - end), 0) for begin, end in rows], axis=0)


def slow_parts(events, alarms, within):
    """Means over points in the middle of small pieces of time; the probabilities are lengths that are measured.

    Pieces are powers of two, so that distances are exact and ties are seen.
    """
    fine = 2 ** math.ceil(math.log2(POINTS / within[1]))
    points = (np.arange(within[0] * fine, within[1] * fine) + 0.5) / fine
    borders = [within[0], *[(a[1] + b[0]) / 2 for a, b in itertools.pairwise(events)], within[1]]
    precision, recall = [], []
    for event, zone in zip(events, itertools.pairwise(borders), strict=True):
        inside = points[(points > zone[0]) & (points < zone[1])]
        cut = [(max(a, zone[0]), min(b, zone[1])) for a, b in alarms if a < zone[1] and b > zone[0]]
        own, to_event = inside[(inside > event[0]) & (inside < event[1])], distances(inside, [event])
        flagged = distances(inside, cut) == 0 if cut else np.zeros(len(inside), bool)
        precision.append(farther(to_event[None], to_event[flagged]).mean() if cut else np.nan)
        recall.append(farther(np.abs(inside - own[:, None]), distances(own, cut)).mean() if cut else 0)
    return np.array(precision), np.array(recall)


def farther(others, d):
    """Shares (n,) of points, at distances (n, P), that are farther than d (n,), those equally far half."""
    shares = ((others > d[:, None]) + 0.5 * (others == d[:, None])).mean(1)
    return np.where(d > 0, shares, 1.0)


def as_numbers(values):
    return [np.nan if value is None else value for value in values]


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["name"])
def test_values_equal_those_of_the_published_implementation(case):
    recording = case["events"], case["alarms"], case["within"]
    parts = affiliation_parts(*recording)
    np.testing.assert_allclose(parts.precision, as_numbers(case["precisions"]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.recall, case["recalls"], rtol=0, atol=1e-12)
    whole = affiliation(*recording)
    assert whole.recall == pytest.approx(case["recall"], abs=1e-12)
    assert as_numbers([whole.precision]) == pytest.approx(as_numbers([case["precision"]]), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("case", REFERENCE["recalls"], ids=lambda case: f"{case['alarm']} {case['zone']}")
def test_recalls_of_alarms_as_short_as_a_point_equal_those_of_the_published_implementation(case):
    begin, end = np.clip(case["alarm"], *case["zone"])
    alarms = [[begin, end]] if end > begin else []
    assert affiliation([case["event"]], alarms, case["zone"]).recall == pytest.approx(case["recall"], abs=1e-12)


@thorough
@given(recordings())
def test_integrals_equal_those_of_a_slow_twin(recording):
    precision, recall = slow_parts(*recording)
    parts = affiliation_parts(*recording)
    np.testing.assert_allclose(parts.precision, precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(parts.recall, recall, rtol=0, atol=1e-9)


@thorough
@given(recordings(), st.integers(-50, 50), st.sampled_from([1, 2, 7]))
def test_shifting_and_stretching_time_changes_nothing(recording, by, scale):
    events, alarms, within = recording
    moved = affiliation_parts(
        events * scale + by, alarms * scale + by, (within[0] * scale + by, within[1] * scale + by)
    )
    for here, there in zip(affiliation_parts(*recording), moved, strict=True):
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-12)


@thorough
@given(recordings())
def test_time_may_run_backwards(recording):
    events, alarms, (_, n) = recording
    turned = affiliation_parts(n - events[::-1, ::-1], n - alarms[::-1, ::-1], (0, n))
    for here, there in zip(affiliation_parts(*recording), turned, strict=True):
        np.testing.assert_allclose(there[::-1], here, rtol=0, atol=1e-12)


@thorough
@given(recordings())
def test_alarms_cut_into_pieces_are_the_same_alarms(recording):
    events, alarms, within = recording
    pieces = np.array([(t, t + 1) for begin, end in alarms for t in range(begin, end)]).reshape(-1, 2)
    for whole, cut in zip(affiliation_parts(*recording), affiliation_parts(events, pieces, within), strict=True):
        np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-12)


@thorough
@given(recordings())
def test_values_lie_between_0_and_1_and_flagging_the_events_gives_1(recording):
    events, _, within = recording
    parts = affiliation_parts(*recording)
    near = parts.precision[~np.isnan(parts.precision)]
    assert ((near >= -1e-12) & (near <= 1 + 1e-12)).all()
    assert ((parts.recall >= -1e-12) & (parts.recall <= 1 + 1e-12)).all()
    assert affiliation(events, events, within) == pytest.approx((1, 1), abs=1e-12)


def test_closer_alarms_are_more_precise():
    found = [affiliation([[40, 50]], [[begin, begin + 5]], (0, 100)) for begin in (50, 55, 65, 80, 95)]
    for near, far in itertools.pairwise(found):
        assert near.precision > far.precision
        assert near.recall > far.recall


def test_chance_has_a_precision_of_a_half_and_a_high_recall():
    rng = np.random.default_rng(0)
    flagged = spans(rng.random(100_000) < 0.01)  # about ten alarms in the zone of an event
    parts = affiliation([[t, t + 10] for t in range(500, 100_000, 1000)], flagged, (0, 100_000))
    assert parts == pytest.approx((0.5, 0.9), abs=0.02)
    everything = affiliation([[500, 510]], [[0, 1000]], (0, 1000))
    assert everything == pytest.approx((0.5, 1), abs=0.001)
    assert everything.precision > 0.5


def test_an_event_that_fills_the_recording_is_found_by_closeness():
    assert affiliation([[0, 20]], [[0, 20]], (0, 20)) == (1, 1)
    assert affiliation([[0, 20]], [[3, 6]], (0, 20)).precision == 1


def test_no_alarm_has_no_precision_and_no_event_is_refused():
    assert affiliation([[2, 3]], [], (0, 9)) == (None, 0)
    with pytest.raises(InputError, match="no event"):
        affiliation([], [[2, 3]], (0, 9))
    assert [len(part) for part in affiliation_parts([], [[2, 3]], (0, 9))] == [0, 0]


def test_spans_that_leave_the_recording_are_refused():
    for events, alarms, what in (([[2, 10]], [], "events"), ([[2, 3]], [[-1, 4]], "alarms")):
        with pytest.raises(InputError, match=f"{what} from .* leave the recording, 0 to 9") as caught:
            affiliation(events, alarms, (0, 9))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="events must"):
        affiliation([[3, 2]], [], (0, 9))
