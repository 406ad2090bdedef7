"""Calibration by groups: the law inside each group, and what is done about small and unknown ones."""

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from deepad.channels import SeriesSchema
from deepad.errors import InputError, InsufficientCalibrationError
from deepad.scoring.conformal import Calibration
from deepad.scoring.grouping import Grouping, grouped
from deepad.scoring.groups import CLOCK, OTHER, GroupedCalibration, as_groups

SIGMAS = 4.5
P_MIN = 1e-5


def of_two(rng, calm=400, lively=100, ratio=10.0):
    """Scores and groups of two groups whose scores differ in scale."""
    scores = np.concatenate([rng.exponential(size=calm), ratio * rng.exponential(size=lively)])
    return scores, np.repeat(["calm", "lively"], [calm, lively])


# ---- the law -------------------------------------------------------------------------------------------------------


def test_the_rate_follows_its_beta_law_in_each_group_and_a_pooled_threshold_breaks_it():
    rng = np.random.default_rng(0)
    rates = {"calm": [], "lively": []}
    broken = 0
    for _ in range(2000):
        scores, groups = of_two(rng)
        threshold = GroupedCalibration.fit(scores, groups, tie_rtol=0).threshold(0.05)
        for name, scale in (("calm", 1.0), ("lively", 10.0)):
            rates[name].append(math.exp(-threshold.parts[name].value / scale))
        pooled = Calibration.fit(scores, tie_rtol=0).threshold(0.05).value
        broken += math.exp(-pooled / 10) > 2 * 0.05
    for name, n in (("calm", 400), ("lively", 100)):
        k = math.floor(0.05 * (n + 1))
        law = stats.beta(k, n + 1 - k)
        assert stats.kstest(rates[name], law.cdf).pvalue > P_MIN
        assert abs(np.mean(rates[name]) - law.mean()) <= SIGMAS * law.std() / math.sqrt(2000)
    assert broken >= 0.99 * 2000  # the control: too many alarms in the lively group


def test_each_group_is_calibrated_as_if_it_were_alone():
    rng = np.random.default_rng(1)
    scores, groups = of_two(rng)
    order = rng.permutation(len(scores))
    calibration = GroupedCalibration.fit(scores[order], groups[order])
    fresh, of = rng.exponential(size=200) * 5, rng.choice(["calm", "lively"], 200)
    for name in ("calm", "lively"):
        alone = Calibration.fit(scores[groups == name])
        own = of == name
        assert np.array_equal(calibration.p_values(fresh, of)[own], alone.p_values(fresh[own]))
        assert np.array_equal(calibration.ranks(fresh, of)[own], alone.ranks(fresh[own]))
        flagged = calibration.threshold(0.1).flag(fresh, of)[own]
        assert np.array_equal(flagged, alone.threshold(0.1).flag(fresh[own]))


def test_future_alarms_of_groups_have_the_law_of_their_sum():
    rng = np.random.default_rng(2)
    scores, groups = of_two(rng)
    guarantee = GroupedCalibration.fit(scores, groups).threshold(0.05).guarantee
    low, high = guarantee.future_alarms({"calm": 300, "lively": 200}, level=0.9)
    counts = sum(
        stats.betabinom(m, k, n + 1 - k).rvs(100_000, random_state=rng) for m, n, k in ((300, 400, 20), (200, 100, 5))
    )
    assert (counts < low).mean() <= 0.05 + 0.004
    assert (counts > high).mean() <= 0.05 + 0.004
    assert ((counts >= low + 1) & (counts <= high - 1)).mean() < 0.9
    assert guarantee.future_alarms({"calm": 300}) == Calibration.fit(scores[:400]).threshold(
        0.05
    ).guarantee.future_alarms(300)
    assert guarantee.future_alarms(500) is None  # of which group they are is not said


# ---- small, unknown and missing ------------------------------------------------------------------------------------


def test_a_group_that_was_not_calibrated_has_no_p_value_and_is_never_normal():
    scores, groups = of_two(np.random.default_rng(3))
    calibration = GroupedCalibration.fit(scores, groups)
    p_values = calibration.p_values([0.0, 0.0, math.nan], ["calm", "new", "calm"])
    assert p_values[0] == 1.0
    assert np.isnan(p_values[1:]).all()
    assert calibration.ranks([0.0, 0.0], ["calm", "new"]).tolist() == [401, 0]
    flagged = calibration.threshold(0.05).flag([0.0, 0.0, math.nan], ["calm", "new", "calm"])
    assert flagged.tolist() == [False, True, True]


def test_small_groups_are_refused_by_name_with_the_number_they_need():
    scores = np.arange(130.0)
    groups = np.repeat(["big", "small", "tiny"], [100, 20, 10])
    with pytest.raises(
        InsufficientCalibrationError, match=r"at least 99 .*small \(20\), tiny \(10\).*min_group=99"
    ) as no:
        GroupedCalibration.fit(scores, groups).threshold(0.01)
    assert (no.value.n, no.value.needed) == (10, 99)


def test_small_groups_are_merged_by_their_size_alone_and_known_by_name():
    scores = np.arange(130.0)
    groups = np.repeat(["big", "small", "tiny"], [100, 20, 10])
    calibration = GroupedCalibration.fit(scores, groups, min_group=30)
    assert {name: part.n for name, part in calibration.parts.items()} == {OTHER: 30, "big": 100}
    assert calibration.merged == ("small", "tiny")
    merged = Calibration.fit(scores[100:])
    assert calibration.p_values([105.0, 125.0], ["small", "tiny"]).tolist() == merged.p_values([105.0, 125.0]).tolist()
    assert np.isnan(calibration.p_values([105.0], ["never seen"])).all()


def test_the_least_that_is_left_after_merging_may_still_be_too_few():
    calibration = GroupedCalibration.fit(np.arange(30.0), ["a"] * 25 + ["b"] * 5, min_group=10)
    with pytest.raises(InsufficientCalibrationError, match=r"\(other\) \(5\)"):
        calibration.threshold(0.1)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([13.7, 0.2, -0.5], ["13", "0", "-1"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([True, False], ["True", "False"]),
        (["a", None, "b"], ["a", "(missing)", "b"]),
        ([1.5, math.nan], ["1", "(missing)"]),
    ],
)
def test_groups_are_names_and_numbers_count_by_their_whole_part(given, names):
    assert as_groups(given).tolist() == names


def test_groups_of_another_length_or_shape_are_refused():
    with pytest.raises(InputError, match="2 groups for 3 scores"):
        GroupedCalibration.fit([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(InputError, match=r"shape \(1, 2\)"):
        as_groups([["a", "b"]])
    with pytest.raises(InputError, match="infinite"):
        as_groups([1.0, math.inf])
    calibration = GroupedCalibration.fit([1.0, 2.0], ["a", "a"])
    with pytest.raises(InputError, match="1 groups for 2 scores"):
        calibration.p_values([1.0, 2.0], ["a"])


def test_calibrating_no_scores_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        GroupedCalibration.fit([], np.empty(0, str))


def test_the_guarantee_names_its_groups_and_the_worst_level():
    scores, groups = of_two(np.random.default_rng(4))
    guarantee = GroupedCalibration.fit(scores, groups).threshold(0.05).guarantee
    assert guarantee.groups == (("calm", 400, 20), ("lively", 100, 5))
    assert guarantee.n == 500
    assert guarantee.attained == max(20 / 401, 5 / 101)
    assert str(guarantee).startswith(
        "in each of 2 groups of 100 to 400 calibration samples, taken by itself: a new normal"
    )


# ---- where groups come from ----------------------------------------------------------------------------------------


def test_a_column_that_the_model_does_not_take_groups_rows_and_is_taken_out():
    table = pa.table({"amount": [1.0, 2.0], "shop": ["x", "y"]})
    rest, grouping = grouped(table, "shop", None, stepwise=False)
    assert rest.column_names == ["amount"]
    assert (grouping.name, grouping.labels.tolist()) == ("shop", ["x", "y"])
    with pytest.raises(InputError, match=r"no column 'till'.*amount, shop"):
        grouped(table, "till", None, stepwise=False)
    with pytest.raises(InputError, match="a column of a data frame"):
        grouped(np.zeros((2, 2)), "shop", None, stepwise=False)


def test_hours_and_weekdays_come_from_the_only_column_of_times():
    times = pa.array(["2026-01-05 13:30:00", "2026-01-11 00:00:00", "1969-12-31 23:00:00"]).cast(pa.timestamp("s"))
    table = pa.table({"at": times, "value": [1.0, 2.0, 3.0]})
    rest, grouping = grouped(table, "hour", None, stepwise=False)
    assert rest.column_names == ["value"]
    assert grouping.labels.tolist() == ["13", "0", "23"]
    assert grouped(table, "weekday", None, stepwise=False)[1].labels.tolist() == ["0", "6", "2"]  # Monday is 0


def test_hours_of_a_series_are_those_of_its_steps_in_order_of_time():
    schema = SeriesSchema(("v",), time="at", interval=3600.0)
    table = pa.table({"at": ["2026-01-05 02:00:00", "2026-01-05 01:00:00", "2026-01-05 03:00:00"], "v": [1.0, 2, 3]})
    assert grouped(table, "hour", schema, stepwise=True)[1].labels.tolist() == ["1", "2", "3"]
    with pytest.raises(InputError, match="hour or weekday"):
        grouped(table, "machine", schema, stepwise=True)
    with pytest.raises(InputError, match="timestamps"):
        grouped(np.zeros((3, 1)), "hour", schema, stepwise=True)


def test_groups_that_were_made_before_pass_through():
    given = Grouping("shop", np.array(["x"]))
    assert grouped("anything", given, None, stepwise=False) == ("anything", given)
    assert grouped("anything", ["x", 1], None, stepwise=False)[1].labels.tolist() == ["x", "1"]
    assert set(CLOCK) == {"hour", "weekday"}
