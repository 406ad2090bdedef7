"""Alert budgets: the inequality that holds for every sequence, and what it does not say."""

import json
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deepad.scoring.guarantee import GuaranteeKind
from deepad.scoring.workload import AlertBudget

exhaustive = settings(derandomize=True, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate])

levels = st.floats(1e-6, 1 - 1e-6)
extremes = st.sampled_from([0.0, 5e-324, 0.5, 1.0, math.nan])
p_sequences = st.lists(st.one_of(st.floats(0, 1), extremes), max_size=200)


def within(budget, alarms, counted):
    """The inequality, in exact arithmetic but for the rounding of the level itself."""
    alpha, gamma = Fraction(budget.alpha), Fraction(budget.gamma)
    bound = (max(alpha, 1 - alpha) + gamma) / (gamma * counted)
    return abs(Fraction(alarms, counted) - alpha) <= bound * (1 + Fraction(1, 10**12))


# ---- the inequality ------------------------------------------------------------------------------------------------


@exhaustive
@given(levels, levels, p_sequences)
def test_the_share_of_alarms_stays_within_its_bound_after_every_sample(alpha, gamma, p_values):
    budget = AlertBudget(alpha, gamma)
    flagged = budget.update(p_values)
    alarms = counted = 0
    for p, flag in zip(p_values, flagged.tolist(), strict=True):
        if math.isnan(p):
            assert flag
            continue
        alarms, counted = alarms + flag, counted + 1
        assert within(budget, alarms, counted)
    assert (budget.alarms, budget.counted, budget.invalid) == (alarms, counted, len(p_values) - counted)


ADVERSARIES = {
    "always flagged": lambda level: 0.0,
    "never flagged": lambda level: 1.0,
    "on the level": lambda level: min(max(level, 0.0), 1.0),
    "just above": lambda level: min(max(math.nextafter(level, 2), 0.0), 1.0),
    "flips": lambda level: 0.0 if level > 0.5 else 1.0,
    "pushes on": lambda level: 1.0 if level > 0.5 else 0.0,
}


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.01, 0.005), (0.3, 0.9), (0.97, 0.05), (1e-4, 0.5)])
def test_an_adversary_who_knows_the_level_cannot_break_the_bound(adversary, alpha, gamma):
    budget = AlertBudget(alpha, gamma)
    for _ in range(3000):
        level = budget.level
        assert -gamma - 1e-9 <= level <= 1 + gamma + 1e-9
        (flag,) = budget.update([ADVERSARIES[adversary](level)])
        assert flag or level < 1
        assert not flag or level > 0
        assert within(budget, budget.alarms, budget.counted)


@exhaustive
@given(levels, levels, st.lists(st.floats(0, 1), max_size=100))
def test_the_level_follows_its_recursion(alpha, gamma, p_values):
    budget, level = AlertBudget(alpha, gamma), Fraction(alpha)
    for p in p_values:
        assert budget.level == pytest.approx(float(level), abs=1e-12)
        (flag,) = budget.update([p])
        level += Fraction(gamma) * (Fraction(alpha) - int(flag))


@exhaustive
@given(levels, levels, p_sequences, st.data())
def test_with_labels_the_bound_holds_for_the_samples_confirmed_as_normal(alpha, gamma, p_values, data):
    labels = data.draw(st.lists(st.sampled_from([0, 1, -1]), min_size=len(p_values), max_size=len(p_values)))
    budget = AlertBudget(alpha, gamma, feedback="labels")
    flagged = budget.update(p_values, labels)
    alarms = counted = 0
    for p, label, flag in zip(p_values, labels, flagged.tolist(), strict=True):
        if label == 0 and not math.isnan(p):
            alarms, counted = alarms + flag, counted + 1
            assert within(budget, alarms, counted)
    assert (budget.alarms, budget.counted) == (alarms, counted)


@pytest.mark.parametrize(("alpha", "gamma", "steps", "expected"), [(0.01, 0.005, 1000, 0.199), (0.9, 0.1, 10, 1.0)])
def test_the_bound_of_the_textbook(alpha, gamma, steps, expected):
    assert AlertBudget(alpha, gamma).bound(steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_a_bound_after_no_steps_is_refused(steps):
    with pytest.raises(ValueError, match="at least 1"):
        AlertBudget(0.1).bound(steps)


# ---- what it means -------------------------------------------------------------------------------------------------


def test_a_level_at_or_below_0_flags_nothing_and_one_at_1_everything():
    assert AlertBudget(0.5, 0.75, counted=2, alarms=2).level < 0
    assert AlertBudget(0.5, 0.75, counted=2, alarms=2).update([0.0]).tolist() == [False]
    assert AlertBudget(0.5, 0.5, counted=2, alarms=2).level == 0
    assert AlertBudget(0.5, 0.5, counted=2, alarms=2).update([0.0]).tolist() == [False]
    assert AlertBudget(0.5, 0.5, counted=2).level == 1
    assert AlertBudget(0.5, 0.5, counted=2).update([1.0]).tolist() == [True]


def outage(rng, quiet=3000, broken=5000, n=999):
    """P-values of normal operation and then of an outage, in which every score is above all calibration scores."""
    p_values = rng.integers(1, n + 2, quiet + broken) / (n + 1)
    p_values[quiet:] = 1 / (n + 1)
    return p_values, np.arange(quiet + broken) >= quiet


def test_without_labels_an_outage_is_hidden():
    p_values, broken = outage(np.random.default_rng(0))
    flagged = AlertBudget(0.01).update(p_values)
    assert flagged[broken].mean() < 0.02  # the share of alarms is what was asked for, and nearly all of it is missed
    assert abs(flagged.mean() - 0.01) <= AlertBudget(0.01).bound(len(p_values))


def test_with_labels_an_outage_stays_flagged():
    p_values, broken = outage(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(len(p_values)) < 0.5, broken.astype(int), -1)
    budget = AlertBudget(0.01, feedback="labels")
    flagged = budget.update(p_values, labels)
    assert flagged[broken].all()
    normal = labels == 0
    assert abs(flagged[normal].mean() - 0.01) <= budget.bound(int(normal.sum()))
    assert budget.counted == normal.sum()


def test_shifted_p_values_still_raise_the_share_asked_for():
    p_values = np.random.default_rng(2).random(20_000) ** 4  # most are small: a fixed level of 5 % would flag half
    flagged = AlertBudget(0.05).update(p_values)
    assert (p_values <= 0.05).mean() > 0.4
    assert abs(flagged.mean() - 0.05) <= AlertBudget(0.05).bound(20_000) < 0.01


def test_a_sample_without_a_p_value_is_flagged_and_moves_nothing():
    p_values = np.random.default_rng(3).random(500)
    holes = np.insert(p_values, [0, 100, 100, 500], math.nan)
    plain, holed = AlertBudget(0.1), AlertBudget(0.1)
    flagged, with_holes = plain.update(p_values), holed.update(holes)
    assert with_holes[np.isnan(holes)].all()
    assert with_holes[~np.isnan(holes)].tolist() == flagged.tolist()
    assert (holed.level, holed.counted, holed.invalid) == (plain.level, 500, 4)


@exhaustive
@given(p_sequences, st.integers(0, 200))
def test_a_budget_continues_from_its_saved_state_bit_for_bit(p_values, cut):
    whole, first = AlertBudget(0.1, 0.05), AlertBudget(0.1, 0.05)
    expected = whole.update(p_values).tolist()
    flagged = first.update(p_values[:cut]).tolist()
    second = AlertBudget(**json.loads(json.dumps(asdict(first))))
    assert flagged + second.update(p_values[cut:]).tolist() == expected
    assert second == whole


@pytest.mark.parametrize("feedback", ["none", "labels"])
def test_the_promise_is_a_budget_and_assumes_nothing(feedback):
    guarantee = AlertBudget(0.02, feedback=feedback).guarantee
    assert (guarantee.kind, guarantee.alpha, guarantee.assumptions) == (GuaranteeKind.BUDGET, 0.02, ())
    assert guarantee.future_alarms(100) is None
    assert ("normal" in guarantee.unit) == (feedback == "labels")


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": 0.1, "gamma": 0.0},
        {"alpha": 0.1, "gamma": 1.0},
        {"alpha": 0.1, "feedback": "all"},
        {"alpha": 0.1, "counted": 1, "alarms": 2},
        {"alpha": 0.1, "counted": -1},
        {"alpha": 0.1, "invalid": 0.5},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=r"alpha|gamma|feedback|counts"):
        AlertBudget(**arguments)


@pytest.mark.parametrize("p_value", [-0.1, 1.1, math.inf, 17.0])
def test_a_p_value_that_is_none_is_refused_before_anything_moves(p_value):
    budget = AlertBudget(0.1)
    with pytest.raises(ValueError, match="p_values must lie"):
        budget.update([0.5, math.nan, p_value])
    assert budget == AlertBudget(0.1)


@pytest.mark.parametrize("labels", [None, [0], [0, 2], [0, math.nan], [0, 1, 1]], ids=str)
def test_labels_that_do_not_go_with_the_p_values_are_refused_before_anything_moves(labels):
    budget = AlertBudget(0.1, feedback="labels")
    with pytest.raises(ValueError, match="labels"):
        budget.update([0.5, math.nan], labels)
    assert budget == AlertBudget(0.1, feedback="labels")


def test_labels_for_a_budget_that_does_not_listen_are_refused():
    with pytest.raises(ValueError, match="feedback='labels'"):
        AlertBudget(0.1).update([0.5], [0])
