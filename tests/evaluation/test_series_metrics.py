"""Metrics of series together: what is pooled, what is left out, and laws over all of them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.evaluation.affiliation import affiliation
from deepad.evaluation.nab import PROFILES, nab_score
from deepad.evaluation.ranges import range_precision, range_recall
from deepad.evaluation.series_metrics import evaluate_series
from deepad.evaluation.spans import spans
from deepad.evaluation.vus import vus

thorough = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def recordings(draw, most=25):
    """Score, flags by a threshold, and labels of one recording; some scores are missing."""
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.one_of(st.none(), st.integers(0, 6))), max_size=most))
    y = np.array([label for label, _ in rows], int)
    score = np.array([np.nan if value is None else value for _, value in rows], float)
    return score, score > 3, y


def evaluated(parts, **options):
    return evaluate_series(*map(list, zip(*parts, strict=True)), **options)


def numbers(result, prefix=""):
    for name, value in result.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def alike(one, other):
    one, other = dict(numbers(one)), dict(numbers(other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name] == (value if value is None else pytest.approx(value, abs=1e-9)), name


@pytest.fixture
def days():
    """Two recordings of 1000 steps of a minute; the first has two events, of which one is found."""
    y = np.zeros((2, 1000), int)
    y[0, 200:220] = y[0, 600:640] = 1
    score = np.random.default_rng(0).uniform(size=(2, 1000))
    score[0, 205:210] = 9.0
    score[0, 300:304] = 5.0
    score[1, [50, 52, 700]] = 5.0
    return list(score), [part > 1 for part in score], list(y)


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_a_day_by_hand(days):
    result = evaluate_series(*days, seconds=60, buffer=10)
    at = result["at_threshold"]
    assert (result["n_recordings"], result["n_steps"], result["n_unscored"]) == (2, 2000, 0)
    assert (result["n_events"], result["n_events_unscored"]) == (2, 0)
    assert (at["event_recall"], at["n_found"]) == (0.5, 1)
    assert at["delay_steps"] == {"median": 5, "q75": 5, "q90": 5}
    assert at["delay_seconds"] == {"median": 300, "q75": 300, "q90": 300}
    assert (at["n_alarms"], at["n_alarms_outside"]) == (5, 4)
    assert at["days_outside"] == pytest.approx(1940 / 1440)
    assert at["alarms_per_day"] == pytest.approx(4 * 1440 / 1940)
    assert at["flagged_share"] == pytest.approx(12 / 2000)
    assert at["flagged_share_normal"] == pytest.approx(7 / 1940)
    assert at["range_precision"] == pytest.approx(1 / 5)
    assert at["range_recall"] == pytest.approx(5 / 20 / 2)
    assert at["range_f1"] == pytest.approx(2 * 0.2 * 0.125 / 0.325)
    merged = evaluate_series(*days, seconds=60, cooldown=1)["at_threshold"]
    assert (merged["n_alarms"], merged["n_alarms_outside"]) == (4, 3)


def test_numbers_of_one_recording_are_those_of_the_chapters(days):
    score, flagged, y = (part[0] for part in days)
    result = evaluate_series([score], [flagged], [y], buffer=7)
    at, events, alarms = result["at_threshold"], spans(y), spans(flagged)
    assert (result["ranking"]["vus_roc"], result["ranking"]["vus_pr"]) == vus(score, y, 7)
    assert (at["affiliation_precision"], at["affiliation_recall"]) == affiliation(events, alarms, (0, 1000))
    assert (at["range_precision"], at["range_recall"]) == (
        range_precision(events, alarms),
        range_recall(events, alarms),
    )
    for name, profile in PROFILES.items():
        assert at[f"nab_{name}"] == nab_score([flagged], [events], profile, probation=0)


def test_the_ranking_is_the_mean_over_recordings_of_both_classes(days):
    score, flagged, y = days
    result = evaluate_series([*score, score[1]], [*flagged, flagged[1]], [*y, 1 - y[0]], buffer=[3, 5, 7])["ranking"]
    expected = np.mean([vus(score[0], y[0], 3), vus(score[1], 1 - y[0], 7)], axis=0)
    assert result == {"n_recordings": 2, "vus_roc": pytest.approx(expected[0]), "vus_pr": pytest.approx(expected[1])}


def test_recordings_have_intervals_of_their_own(days):
    score, flagged, y = days
    at = evaluate_series([score[0]] * 2, [flagged[0]] * 2, [y[0]] * 2, seconds=[60, 1])["at_threshold"]
    assert at["delay_seconds"]["median"] == (5 + 300) / 2
    assert at["days_outside"] == pytest.approx(940 * 61 / 86_400)


def test_without_an_interval_there_is_no_rate_and_no_delay_in_seconds(days):
    at = evaluate_series(*days)["at_threshold"]
    assert (at["delay_seconds"], at["days_outside"], at["alarms_per_day"]) == (None, None, None)
    assert at["n_alarms_outside"] == 4


def test_a_result_is_plain_values_and_knows_no_adjusted_points(days):
    result = evaluate_series(*days, seconds=60)
    assert json.loads(json.dumps(result)) == result
    assert not [name for name, _ in numbers(result) if "adjust" in name or name.endswith(".f1")]


# ---- steps without a score ------------------------------------------------------------------------------------------


def test_events_and_flags_without_a_score_are_counted_apart():
    nan = np.nan
    score = np.array([nan, nan, nan, 1, 1, nan, 9, 1, 1, nan])
    y = np.array([0, 1, 0, 0, 1, 1, 1, 0, 0, 1])
    flagged = np.isnan(score) | (score > 5)
    result = evaluate_series([score], [flagged], [y], seconds=86_400)
    at = result["at_threshold"]
    assert (result["n_steps"], result["n_unscored"], result["n_flagged_unscored"]) == (10, 5, 5)
    assert (result["n_events"], result["n_events_unscored"]) == (1, 2)
    assert (at["event_recall"], at["delay_steps"]["median"]) == (1, 2)  # from the begin of the event on
    assert (at["n_alarms"], at["n_alarms_outside"], at["alarms_per_day"]) == (1, 0, 0)
    assert at["days_outside"] == 3
    assert (at["flagged_share"], at["flagged_share_normal"]) == (0.2, 0)
    assert (at["range_precision"], at["range_recall"]) == (1, 0.5)


def with_a_gap(score, flagged, y, at, steps):
    """One recording with unscored normal steps from a step on."""
    gap = np.full(steps, np.nan), np.zeros(steps, bool), np.zeros(steps, int)
    return [np.insert(column, at, part) for column, part in zip((score, flagged, y), gap, strict=True)]


@pytest.mark.parametrize("steps", [1, 40])
def test_a_gap_parts_two_alarms_and_is_not_watched(days, steps):
    whole = [part[0] for part in days]
    broken = with_a_gap(*whole, 302, steps)  # within an alarm of four steps
    before, after = (evaluated([part], seconds=60)["at_threshold"] for part in (whole, broken))
    assert (before["n_alarms"], before["n_alarms_outside"]) == (2, 1)
    assert (after["n_alarms"], after["n_alarms_outside"]) == (3, 2)
    for name in ("days_outside", "flagged_share", "flagged_share_normal"):
        assert after[name] == pytest.approx(before[name], rel=1e-12)
    assert after["alarms_per_day"] == pytest.approx(2 * before["alarms_per_day"])
    assert evaluated([broken], cooldown=steps)["at_threshold"]["n_alarms"] == 2


@pytest.mark.parametrize("stride", [2, 7])
def test_scores_at_a_steady_pace_have_no_gaps(days, stride):
    """What windows with a stride give: the steps between two scores are watched, and part no alarm."""
    score, flagged, y = (part[0] for part in days)
    thin = np.full(stride * len(score), np.nan)
    thin[::stride] = score
    given_ = thin, np.repeat(flagged, stride), np.repeat(y, stride)
    here, there = (evaluated([part], seconds=60)["at_threshold"] for part in ((score, flagged, y), given_))
    for name in ("n_alarms", "n_alarms_outside", "flagged_share", "flagged_share_normal"):
        assert there[name] == here[name]
    assert there["days_outside"] == pytest.approx(stride * here["days_outside"], rel=0.01)
    broken = with_a_gap(*given_, 302 * stride, 50 * stride)
    at = evaluated([broken], seconds=60)["at_threshold"]
    assert at["n_alarms"] == here["n_alarms"] + 1
    assert at["days_outside"] == pytest.approx(there["days_outside"], rel=1e-12)


@thorough
@given(st.lists(recordings(), min_size=1, max_size=3), st.integers(0, 7), st.integers(0, 7))
def test_steps_without_a_score_before_and_behind_change_nothing(parts, before, behind):
    pads = {"pad_width": (before, behind)}
    longer = [
        (np.pad(score, **pads, constant_values=np.nan), np.pad(flagged, **pads), np.pad(y, **pads))
        for score, flagged, y in parts
    ]
    here, there = evaluated(parts, seconds=60, buffer=5), evaluated(longer, seconds=60, buffer=5)
    for name in ("n_steps", "n_unscored"):
        assert there.pop(name) == here.pop(name) + len(parts) * (before + behind)
    alike(here, there)


@thorough
@given(recordings())
def test_flags_on_steps_without_a_score_are_in_no_number_but_their_count(part):
    score, flagged, y = part
    here, there = evaluated([part]), evaluated([(score, flagged | np.isnan(score), y)])
    assert there.pop("n_flagged_unscored") == np.isnan(score).sum()
    assert here.pop("n_flagged_unscored") == 0
    alike(here, there)


# ---- laws -----------------------------------------------------------------------------------------------------------


@thorough
@given(st.lists(recordings(), min_size=1, max_size=3))
def test_the_order_of_recordings_and_a_transform_of_scores_change_nothing(parts):
    expected = evaluated(parts, seconds=60, buffer=4)
    alike(evaluated(parts[::-1], seconds=60, buffer=4), expected)
    alike(evaluated([(np.exp(100 * s), f, y) for s, f, y in parts], seconds=60, buffer=4), expected)


@thorough
@given(st.lists(recordings(), min_size=1, max_size=3))
def test_every_number_lies_in_its_range(parts):
    for name, value in numbers(evaluated(parts, seconds=60, buffer=4)):
        if value is None:
            continue
        if ".nab_" in name:
            assert value <= 100 + 1e-9
        elif any(word in name for word in ("vus", "recall", "precision", "f1", "share")):
            assert -1e-9 <= value <= 1 + 1e-9, name
        else:
            assert value >= 0, name


@thorough
@given(st.lists(st.integers(0, 1), min_size=2, max_size=40))
def test_flagging_the_events_and_nothing_else_is_perfect(y):
    y[:2] = 0, 1
    flagged = np.array(y) == 1
    result = evaluate_series([flagged.astype(float)], [flagged], [y], seconds=1, buffer=6)
    at = result["at_threshold"]
    perfect = ["event_recall", "range_precision", "range_recall", "range_f1"]
    perfect += ["affiliation_precision", "affiliation_recall"]
    assert [at[name] for name in perfect] == pytest.approx([1] * 6)
    assert [at[f"nab_{name}"] for name in PROFILES] == pytest.approx([100] * 3)
    assert (at["n_alarms_outside"], at["alarms_per_day"], at["flagged_share_normal"]) == (0, 0, 0)
    assert (result["ranking"]["vus_roc"], result["ranking"]["vus_pr"]) == pytest.approx((1, 1))


def test_no_event_leaves_alarms_and_shares_only():
    flagged = np.arange(10) == 4
    result = evaluate_series([flagged * 1.0], [flagged], [np.zeros(10)], seconds=8640)
    at = result["at_threshold"]
    given_ = {name for name, value in at.items() if value is not None}
    counts = {"n_found", "n_alarms", "n_alarms_outside", "days_outside", "alarms_per_day"}
    assert given_ == counts | {"flagged_share", "flagged_share_normal", "range_precision"}
    assert (at["alarms_per_day"], at["range_precision"]) == (1, 0)
    assert result["ranking"] == {"n_recordings": 0, "vus_roc": None, "vus_pr": None}


def test_all_anomaly_has_no_time_outside_and_no_ranking():
    flagged = np.arange(10) == 4
    result = evaluate_series([flagged * 1.0], [flagged], [np.ones(10)], seconds=1)
    at = result["at_threshold"]
    assert (at["event_recall"], at["delay_steps"]["median"], at["n_alarms_outside"]) == (1, 4, 0)
    assert (at["days_outside"], at["alarms_per_day"], at["flagged_share_normal"]) == (0, None, None)
    assert result["ranking"]["vus_roc"] is None


def test_nothing_scored_gives_counts_and_no_numbers():
    result = evaluate_series(
        [np.full(3, np.nan), []], [np.ones(3, bool), np.zeros(0, bool)], [[0, 1, 1], []], seconds=1
    )
    assert (result["n_unscored"], result["n_events"], result["n_events_unscored"]) == (3, 0, 1)
    assert result["at_threshold"]["flagged_share"] is None
    assert result["at_threshold"]["n_alarms"] == 0


def test_no_alarm_is_no_precision_but_an_f1_of_0():
    at = evaluate_series([np.zeros(5)], [np.zeros(5, bool)], [[0, 1, 0, 0, 0]])["at_threshold"]
    assert (at["event_recall"], at["delay_steps"], at["range_precision"], at["range_f1"]) == (0, None, None, 0)
    assert (at["affiliation_precision"], at["affiliation_recall"], at["nab_standard"]) == (None, 0, 0)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_with_the_number_of_the_recording():
    good = [1.0, 2.0], np.array([False, True]), [0, 1]
    cases = [
        ([good[0], [1.0]], [good[1]] * 2, [good[2]] * 2, "recording 1: got 2 labels for 1 samples"),
        ([good[0]], [[0, 1]], [good[2]], "recording 0: flagged must be true or false"),
        ([good[0]], [good[1][:1]], [good[2]], "recording 0: got 1 flags for 2 scores"),
        ([good[0]], [good[1]], [[0, 2]], "recording 0: labels must be 0"),
        ([good[0]], [good[1]], [good[2]] * 2, r"of \[1, 1, 2\] recordings"),
        ([], [], [], r"of \[0, 0, 0\] recordings"),
        (*good, "recording 0: "),  # one recording that is no list of them
    ]
    for score, flagged, y, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            evaluate_series(score, flagged, y)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds between steps must be positive"),
        ({"seconds": np.nan}, "seconds between steps must be positive"),
        ({"seconds": [1, 2]}, "got 2 values for 1 recordings"),
        ({"buffer": -1}, "buffer must be a whole number"),
        ({"buffer": [3, 3]}, "got 2 values for 1 recordings"),
        ({"cooldown": -1}, "cooldown must be a whole number"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_series([[1.0, 2.0]], [[False, True]], [[0, 1]], **options)
