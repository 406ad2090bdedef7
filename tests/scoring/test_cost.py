"""Thresholds from costs and labels, against enumeration in exact rationals and simulated coverage."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from deepad.errors import DataLeakError, NonFiniteScoreError
from deepad.scoring.cost import (
    affordable_alpha,
    alpha_for_cost,
    break_even_alpha,
    choose_by_cost,
    choose_by_f1,
    elkan_threshold,
    report,
)
from deepad.scoring.envelope import envelope_bounds

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=200)
few = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)  # ties within and between the two
DESK = {"cost_false_alarm": 5.0, "cost_missed": 500.0, "prevalence": 1e-4}


def enumerate_rates(normal, anomalies):
    """Threshold, estimated false-alarm rate and miss rate in rationals, highest threshold first."""
    for value in sorted(set(normal), reverse=True):
        k = 1 + sum(score > value for score in normal)
        yield value, Fraction(k, len(normal) + 1), Fraction(sum(score <= value for score in anomalies), len(anomalies))


def split(seed, n=400, m=60, shift=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=m) + shift


# ---- without labels ------------------------------------------------------------------------------------------------


def test_the_break_even_of_a_fraud_desk():
    assert round(break_even_alpha(**DESK), 4) == 0.0100
    np.testing.assert_allclose(break_even_alpha(**DESK), 1e-4 / (1 - 1e-4) * 500 / 5, rtol=1e-15)


def test_at_the_break_even_false_alarms_cost_what_all_misses_would():
    alpha = break_even_alpha(cost_false_alarm=3, cost_missed=40, prevalence=0.01)
    np.testing.assert_allclose(3 * (1 - 0.01) * alpha, 40 * 0.01, rtol=1e-15)


def test_a_budget_pays_for_its_false_alarms():
    alpha = alpha_for_cost(200, cost_false_alarm=5, n_per_period=10_000)
    np.testing.assert_allclose(alpha * 10_000 * 5, 200, rtol=1e-15)


@pytest.mark.parametrize(("budget", "binding"), [(200.0, "by_budget"), (2000.0, "by_break_even")])
def test_the_smaller_level_counts_and_both_are_shown(budget, binding):
    found = affordable_alpha(budget, **DESK, n_per_period=10_000)
    assert found.alpha == getattr(found, binding) == min(found.by_budget, found.by_break_even)
    assert f"{found.by_budget:.4g}" in str(found)
    assert f"{found.by_break_even:.4g}" in str(found)
    assert str(found).startswith(f"alpha <= {found.alpha:.4g}")


def test_costs_at_which_every_rate_pays_are_refused():
    with pytest.raises(ValueError, match="no false-alarm rate is too expensive"):
        affordable_alpha(1e6, cost_false_alarm=1, cost_missed=500, prevalence=0.1, n_per_period=1000)


def test_the_posterior_from_which_flagging_costs_less():
    assert elkan_threshold(cost_false_alarm=5, cost_missed=495) == 0.01
    p = elkan_threshold(cost_false_alarm=2, cost_missed=7)
    np.testing.assert_allclose((1 - p) * 2, p * 7, rtol=1e-15)  # both decisions cost the same there


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan, "5", True, None])
def test_money_that_is_none_is_refused(bad):
    calls = (
        lambda: alpha_for_cost(bad, cost_false_alarm=1, n_per_period=1),
        lambda: alpha_for_cost(1, cost_false_alarm=bad, n_per_period=1),
        lambda: alpha_for_cost(1, cost_false_alarm=1, n_per_period=bad),
        lambda: break_even_alpha(cost_false_alarm=bad, cost_missed=1, prevalence=0.1),
        lambda: break_even_alpha(cost_false_alarm=1, cost_missed=bad, prevalence=0.1),
        lambda: elkan_threshold(cost_false_alarm=1, cost_missed=bad),
        lambda: choose_by_cost([1.0], [2.0], cost_false_alarm=1, cost_missed=bad, prevalence=0.1),
    )
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"positive and finite|number above 0"):
            call()


# ---- the choice ----------------------------------------------------------------------------------------------------


@exhaustive
@given(few, few, st.integers(1, 30), st.integers(1, 30), st.sampled_from([1 / 4, 1 / 2, 1 / 64]))
def test_the_cheapest_threshold_is_that_of_brute_force(normal, anomalies, false_alarm, missed, prevalence):
    choice = choose_by_cost(normal, anomalies, cost_false_alarm=false_alarm, cost_missed=missed, prevalence=prevalence)
    share = Fraction(prevalence)
    costs = {
        value: false_alarm * (1 - share) * rate + missed * share * miss
        for value, rate, miss in enumerate_rates(normal, anomalies)
    }
    least = min(costs.values())
    assert choice.value in costs
    assert float(costs[choice.value] - least) <= 1e-14 * float(least)  # a tie in rationals may be none in floats
    np.testing.assert_allclose(choice.estimate, float(least), rtol=1e-14)


@exhaustive
@given(few, few, st.sampled_from([1 / 4, 1 / 2, 1 / 64]))
def test_the_threshold_of_largest_f1_is_that_of_brute_force(normal, anomalies, prevalence):
    choice = choose_by_f1(normal, anomalies, prevalence=prevalence)
    share, scores = Fraction(prevalence), {}
    for value, rate, miss in enumerate_rates(normal, anomalies):
        precision_of = share * (1 - miss) + (1 - share) * rate
        precision, recall = share * (1 - miss) / precision_of, 1 - miss
        scores[value] = 2 * precision * recall / (precision + recall) if recall else Fraction(0)
    most = max(scores.values())
    assert float(most - scores[choice.value]) <= 1e-14
    np.testing.assert_allclose(choice.estimate, float(most), rtol=1e-14)


def test_of_equal_costs_the_highest_threshold_is_taken():
    choice = choose_by_f1([1.0, 2.0, 3.0], [0.0], prevalence=0.5)  # F1 is 0 everywhere
    assert (choice.value, choice.estimate) == (3.0, 0.0)


def test_a_toy_choice_by_hand():
    # above 4: k = 1 of 5, two of four missed; above 3: k = 2, one missed; above 2: k = 3, none missed
    normal, anomalies = [1, 2, 3, 4], [2.5, 3.5, 5, 6]
    choice = choose_by_cost(normal, anomalies, cost_false_alarm=2, cost_missed=2, prevalence=0.5)
    np.testing.assert_allclose(choice.estimate, 0.6)  # 0.2 + 0.5, 0.4 + 0.25, 0.6 + 0
    assert choice.value == 2.0
    assert choice.flag([2.0, 2.1, math.nan, -math.inf, math.inf]).tolist() == [False, True, True, False, True]
    assert (choice.false_alarms.above, choice.misses.count) == (2, 0)


def test_expensive_misses_lower_the_threshold():
    normal, anomalies = split(0)
    chosen = [
        choose_by_cost(normal, anomalies, cost_false_alarm=1, cost_missed=cost, prevalence=0.01).value
        for cost in (1, 10, 100, 1000, 10_000)
    ]
    assert chosen == sorted(chosen, reverse=True)
    assert len(set(chosen)) >= 4


def test_the_order_of_scores_changes_nothing():
    normal, anomalies = split(0)
    assert choose_by_cost(normal, anomalies, **DESK) == choose_by_cost(normal[::-1], anomalies[::-1], **DESK)


def test_an_f1_at_the_prevalence_of_the_test_set_is_that_of_scikit_learn():
    normal, anomalies = split(1)
    choice = choose_by_f1(normal, anomalies, prevalence=60 / 460)
    fresh = split(2)
    y = np.repeat([0, 1], [400, 60])
    expected = f1_score(y, choice.flag(np.concatenate(fresh)))
    np.testing.assert_allclose(report(choice, *fresh, delta=0.1).estimate, expected, rtol=1e-14)


def test_random_scores_do_not_look_excellent_by_f1():
    normal, anomalies = split(3, n=2000, m=128, shift=0.0)
    assert choose_by_f1(normal, anomalies, prevalence=0.06).estimate < 0.2


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_the_bounds_of_a_choice_are_the_two_envelopes():
    normal, anomalies = split(4)
    choice = choose_by_cost(normal, anomalies, cost_false_alarm=1, cost_missed=20, prevalence=0.05, delta=0.1)
    above, missed = (normal > choice.value).sum(), (anomalies <= choice.value).sum()
    false_alarms = envelope_bounds(400, 0.05)[above]
    misses = envelope_bounds(60, 0.05)[missed]
    np.testing.assert_allclose([choice.false_alarms.upper, choice.misses.upper], [false_alarms, misses], rtol=1e-14)
    np.testing.assert_allclose(choice.bound, 0.95 * false_alarms + 20 * 0.05 * misses, rtol=1e-14)
    assert choice.false_alarms.chosen_on == "calibration"
    assert choice.bound > choice.estimate


def test_the_bounds_of_a_report_are_those_of_clopper_and_pearson():
    choice, fresh = choose_by_f1(*split(4), prevalence=0.05), split(5)
    reported = report(choice, *fresh, delta=0.1)
    above, missed = (fresh[0] > choice.value).sum(), (fresh[1] <= choice.value).sum()
    rate = stats.beta.ppf(0.95, above + 1, 400 - above)
    miss = stats.beta.ppf(0.95, missed + 1, 60 - missed)
    np.testing.assert_allclose([reported.false_alarms.upper, reported.misses.upper], [rate, miss], rtol=1e-9)
    found = 0.05 * (1 - miss)
    np.testing.assert_allclose(reported.bound, 2 * found / (found + 0.95 * rate + 0.05), rtol=1e-9)
    assert reported.bound < reported.estimate
    assert reported.value == choice.value


def test_where_nothing_can_be_said_the_bounds_are_those_of_flagging_in_vain():
    choice = choose_by_cost([1.0], [0.0], cost_false_alarm=3, cost_missed=7, prevalence=0.5)
    assert choice.misses.upper == 1.0
    assert choice.bound <= 3 * 0.5 + 7 * 0.5


@pytest.fixture(scope="module")
def adaptive():
    """Thresholds chosen where all cost the same, so that the choice follows the luck of 40 anomalies alone.

    Anomalies score as normal samples do, and both errors cost the same: true rates at t are 1 - t and t.
    """
    rng = np.random.default_rng(6)
    rows = []
    for _ in range(1500):
        normal, anomalies = rng.random(2000), rng.random(40)
        choice = choose_by_cost(normal, anomalies, cost_false_alarm=2, cost_missed=2, prevalence=0.5)
        rows.append((choice, report(choice, rng.random(200), rng.random(40))))
    return rows


def at_most(violations, level):
    n = len(violations)
    return np.mean(violations) <= level + SIGMAS * math.sqrt(level * (1 - level) / n)


def test_the_bounds_of_chosen_thresholds_hold_as_often_as_promised(adaptive):
    choices = [choice for choice, _ in adaptive]
    assert at_most([choice.bound < 1.0 for choice in choices], 0.05)  # every threshold costs 1
    false_alarms = [1 - choice.value > choice.false_alarms.upper for choice in choices]
    misses = [choice.value > choice.misses.upper for choice in choices]
    assert at_most(false_alarms, 0.025)
    assert at_most(misses, 0.025)
    assert at_most(np.logical_or(false_alarms, misses), 0.05)


def test_a_bound_for_one_threshold_would_fail_for_chosen_ones(adaptive):
    """The test above can tell: the envelope is needed on the side of the anomalies, too."""
    counts = np.array([choice.misses.count for choice, _ in adaptive])
    plain = np.where(counts < 40, stats.beta.ppf(0.975, counts + 1, np.maximum(40 - counts, 1)), 1.0)
    missed = np.array([choice.value for choice, _ in adaptive])
    assert (missed > plain).mean() > 0.1


def test_what_a_choice_shows_is_too_good_and_a_report_is_not(adaptive):
    shown = np.array([choice.estimate for choice, _ in adaptive])
    reported = np.array([fresh.estimate for _, fresh in adaptive])
    assert shown.mean() < 0.95
    assert abs(reported.mean() - 1) <= SIGMAS * reported.std() / math.sqrt(len(reported))


def test_the_bounds_of_reports_hold_as_often_as_promised(adaptive):
    reports = [fresh for _, fresh in adaptive]
    assert at_most([fresh.bound < 1.0 for fresh in reports], 0.05)
    assert at_most([1 - fresh.value > fresh.false_alarms.upper for fresh in reports], 0.025)
    assert at_most([fresh.value > fresh.misses.upper for fresh in reports], 0.025)


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_the_scores_that_chose_a_threshold_cannot_report_it():
    normal, anomalies = split(7)
    fresh_normal, fresh_anomalies = split(8)
    by_cost, by_f1 = choose_by_cost(normal, anomalies, **DESK), choose_by_f1(normal, anomalies, prevalence=0.01)
    for choice in (by_cost, by_f1):
        for one, other, which in [
            (normal, anomalies, "400 normal"),
            (normal, fresh_anomalies, "400 normal"),
            (fresh_normal, anomalies, "60 anomaly"),
            (np.random.default_rng(0).permutation(normal).tolist(), fresh_anomalies, "400 normal"),
        ]:
            with pytest.raises(DataLeakError, match=f"chosen on these {which} scores"):
                report(choice, one, other)
        report(choice, fresh_normal, fresh_anomalies)


def test_a_report_of_a_report_remembers_what_chose_the_threshold():
    normal, anomalies = split(7)
    reported = report(choose_by_f1(normal, anomalies, prevalence=0.01), *split(8))
    with pytest.raises(DataLeakError):
        report(reported, normal, split(9)[1])


def test_a_negative_zero_does_not_hide_a_leak():
    choice = choose_by_f1([0.0, 1.0], [2.0], prevalence=0.5)
    with pytest.raises(DataLeakError):
        report(choice, [-0.0, 1.0], [3.0])


def test_f1_without_a_prevalence_is_refused():
    with pytest.raises(TypeError, match="prevalence"):
        choose_by_f1(*split(7))
    with pytest.raises(TypeError, match="prevalence"):
        choose_by_f1(*split(7), prevalence=None)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, math.nan])
def test_levels_out_of_range_are_refused(bad):
    normal, anomalies = split(7)
    with pytest.raises(ValueError, match="prevalence"):
        choose_by_f1(normal, anomalies, prevalence=bad)
    with pytest.raises(ValueError, match="prevalence"):
        choose_by_cost(normal, anomalies, cost_false_alarm=1, cost_missed=1, prevalence=bad)
    with pytest.raises(ValueError, match="delta"):
        choose_by_f1(normal, anomalies, prevalence=0.1, delta=bad)
    with pytest.raises(ValueError, match="prevalence"):
        break_even_alpha(cost_false_alarm=1, cost_missed=1, prevalence=bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    for normal, anomalies, name in (([1.0, bad], [2.0], "normal_scores"), ([1.0], [2.0, bad], "anomaly_scores")):
        with pytest.raises(NonFiniteScoreError, match=f"1 of 2 {name}"):
            choose_by_f1(normal, anomalies, prevalence=0.1)


def test_one_kind_of_scores_alone_is_refused():
    for normal, anomalies, name in (([], [2.0], "normal_scores"), ([1.0], [], "anomaly_scores")):
        with pytest.raises(ValueError, match=f"{name} has no score"):
            choose_by_f1(normal, anomalies, prevalence=0.1)


# ---- in words ------------------------------------------------------------------------------------------------------


def test_an_outcome_says_where_it_was_chosen_and_what_it_proves():
    choice = choose_by_cost(*split(7), cost_false_alarm=1, cost_missed=20, prevalence=0.05)
    reported = report(choice, *split(8))
    assert "too good, it was chosen here" in str(choice)
    assert "where it was chosen" in str(choice)
    assert "on other scores" in str(reported)
    for outcome in (choice, reported):
        assert f"costs {outcome.estimate:.4g} a sample, at most {outcome.bound:.4g}" in str(outcome)
        assert "of 60 anomalies missed" in str(outcome)
        assert "probability 0.95" in str(outcome)
    assert "F1" in str(choose_by_f1(*split(7), prevalence=0.01))


def test_a_useless_score_is_told_to_cost_no_less_than_flagging_nothing():
    assert "flagging nothing costs 0.05, no more" in str(choose_by_cost(*split(7, shift=-3), **DESK))
    useful = str(choose_by_cost(*split(7, shift=6), cost_false_alarm=1, cost_missed=100, prevalence=0.01))
    assert "flagging everything costs 0.99)" in useful


def test_an_outcome_is_a_value():
    one, other = (choose_by_cost(*split(7), **DESK) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.value = 0.0
