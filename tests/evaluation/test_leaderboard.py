"""Comparisons of models over data sets, against published numbers, slow twins, scipy and simulation."""

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.errors import InputError
from deepad.evaluation import leaderboard as module
from deepad.evaluation.leaderboard import Friedman, Ranks, critical_difference, friedman, groups, holm, pairs, rank
from deepad.evaluation.leaderboard import leaderboard as board_of

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=100)

# Demšar 2006, Table 6: AUC of C4.5 as it is and with its parameter m tuned, on 14 data sets
DEMSAR = [
    (0.763, 0.768), (0.599, 0.591), (0.954, 0.971), (0.628, 0.661), (0.882, 0.888), (0.936, 0.931), (0.661, 0.668),
    (0.583, 0.583), (0.775, 0.838), (1.000, 1.000), (0.940, 0.962), (0.619, 0.666), (0.972, 0.981), (0.957, 0.978),
]  # fmt: skip

# Demšar 2006, Table 5 (a): q_alpha for 2 to 10 models
Q = {
    0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
    0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
}


def tables(ties=True):
    """Tables of 2 to 8 data sets by 2 to 5 models."""
    shape = st.tuples(st.integers(2, 8), st.integers(2, 5))
    if ties:
        return shape.flatmap(lambda s: st.lists(st.integers(0, 3), min_size=s[0] * s[1], max_size=s[0] * s[1])
                             .map(lambda values: np.array(values, float).reshape(s)))  # fmt: skip
    return st.tuples(shape, st.integers(0, 1000)).map(lambda c: np.random.default_rng(c[1]).uniform(size=c[0]))


def equations(means, sets):
    """Friedman's statistic and that of Iman and Davenport, as Demšar writes them; without correction for ties."""
    k = len(means)
    chi2 = 12 * sets / (k * (k + 1)) * (np.square(means).sum() - k * (k + 1) ** 2 / 4)
    return chi2, (sets - 1) * chi2 / (sets * (k - 1) - chi2)


def slow_signed_rank(gaps):
    """Sums of positive and negative ranks, those of zeros split, and how often signs by chance part them as far."""
    ranks = stats.rankdata(np.abs(gaps))
    signed = np.sign(gaps) * ranks
    seen = abs(signed.sum())
    chance = [abs(np.dot(signs, np.abs(signed))) for signs in product((-1, 1), repeat=len(gaps))]
    split = ranks[np.equal(gaps, 0)].sum() / 2
    return signed[signed > 0].sum() + split, -signed[signed < 0].sum() + split, np.mean(np.array(chance) >= seen - 1e-9)


# ---- ranks and Friedman's test --------------------------------------------------------------------------------------


@exhaustive
@given(tables())
def test_ranks_equal_their_slow_twin(values):
    ranks = rank(values)
    for s, m in np.ndindex(values.shape):
        better, same = (values[s] > values[s, m]).sum(), (values[s] == values[s, m]).sum()
        assert ranks.by_set[s, m] == better + (same + 1) / 2
    assert ranks.mean == pytest.approx(ranks.by_set.mean(axis=0))
    assert ranks.mean.sum() == pytest.approx(values.shape[1] * (values.shape[1] + 1) / 2)
    assert (rank(-values, higher_is_better=False).by_set == ranks.by_set).all()
    assert (rank(np.exp(values)).by_set == ranks.by_set).all()


def test_the_equations_give_what_demsar_prints():
    chi2, f = equations([3.143, 2.000, 2.893, 1.964], 14)
    assert round(chi2, 2) == 9.28
    assert round(f, 2) == 3.69
    assert round(stats.f.isf(0.05, 3, 39), 2) == 2.85


@exhaustive
@given(tables(ties=False))
def test_without_ties_the_test_is_that_of_the_equations(values):
    ranks = rank(values)
    sets, models = values.shape
    found = friedman(ranks)
    chi2, f = equations(ranks.mean, sets) if found.f < math.inf else (sets * (models - 1), math.inf)
    assert (found.chi2, found.f) == pytest.approx((chi2, f), abs=1e-9)
    if f < math.inf:
        assert found.p_value == pytest.approx(stats.f.sf(f, models - 1, (models - 1) * (sets - 1)))


@exhaustive
@given(tables().filter(lambda v: v.shape[1] > 2 and np.ptp(v, axis=1).any()))
def test_with_ties_the_statistic_is_that_of_scipy(values):
    assert friedman(rank(values)).chi2 == pytest.approx(stats.friedmanchisquare(*values.T).statistic, abs=1e-9)


def test_models_that_tie_everywhere_do_not_differ():
    assert friedman(rank(np.ones((5, 3)))) == Friedman(0.0, 0.0, 1.0)


@pytest.mark.parametrize("row", [(1, 2, 3), (1.5, 1.5, 3), (1, 2.5, 2.5)])
@pytest.mark.parametrize("sets", [2, 3])
def test_rankings_that_all_agree_have_the_probability_of_chance(row, sets):
    rows = set(permutations(row))
    chance = np.mean([len(set(table)) == 1 for table in product(rows, repeat=sets)])
    found = friedman(Ranks(np.tile(row, (sets, 1)), 0))
    assert found.f == math.inf
    assert found.p_value == pytest.approx(chance)


def test_models_that_do_not_differ_are_rejected_as_often_as_the_level_says():
    rng, replicas = np.random.default_rng(0), 3000
    rejected = np.mean([friedman(rank(rng.uniform(size=(15, 5)))).p_value <= 0.05 for _ in range(replicas)])
    assert abs(rejected - 0.05) <= SIGMAS * math.sqrt(0.05 * 0.95 / replicas)


# ---- critical differences and groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", Q)
def test_critical_differences_are_the_published_ones(alpha):
    for models, q in zip(range(2, 11), Q[alpha], strict=True):
        for sets in (2, 14, 1000):
            expected = q * math.sqrt(models * (models + 1) / (6 * sets))
            assert critical_difference(models, sets, alpha) == pytest.approx(expected, abs=0.001 * expected / q)


def test_the_critical_difference_of_demsar_s_example():
    assert round(critical_difference(4, 14), 2) == 1.25
    assert round(critical_difference(4, 14, 0.10), 2) == 1.12


@pytest.mark.parametrize(
    ("means", "difference", "expected"),
    [
        ([3.143, 2.000, 2.893, 1.964], 1.25, [(3, 1, 2, 0)]),
        ([3.143, 2.000, 2.893, 1.964], 1.12, [(3, 1, 2), (2, 0)]),
        ([1, 2, 3, 4], 1.5, [(0, 1), (1, 2), (2, 3)]),
        ([1, 2, 3, 4], 1.0, []),  # exactly the critical difference is a difference
        ([4, 2, 2, 2], 0.1, [(1, 2, 3)]),
        ([1, 1.1, 5, 5.1], math.inf, [(0, 1, 2, 3)]),
    ],
)
def test_groups_of_small_examples(means, difference, expected):
    assert groups(means, difference) == tuple(expected)


@exhaustive
@given(st.lists(st.integers(2, 12), min_size=2, max_size=7), st.integers(0, 12))
def test_groups_are_the_largest_sets_without_a_difference(means, difference):
    alike = [
        set(chosen)
        for size in range(2, len(means) + 1)
        for chosen in combinations(range(len(means)), size)
        if max(means[i] for i in chosen) - min(means[i] for i in chosen) < difference
    ]
    largest = [chosen for chosen in alike if not any(chosen < other for other in alike)]
    found = groups(means, difference)
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert all([means[i] for i in group] == sorted(means[i] for i in group) for group in found)


# ---- pairs ----------------------------------------------------------------------------------------------------------


def test_signed_ranks_are_those_of_demsar_s_example():
    (pair,) = pairs(DEMSAR)
    plus, minus, p_value = slow_signed_rank(np.round(np.diff(DEMSAR)[:, 0], 9))
    assert (plus, minus) == (93, 12)  # T = 12 of 14 data sets: below 21, the critical value at 5 %
    assert pair.p_value == pair.p_holm == pytest.approx(p_value)
    assert pair.p_value < 0.05
    assert (pair.wins, pair.ties, pair.losses) == (2, 2, 10)


@exhaustive
@given(tables().filter(lambda v: len(v) < 7))
def test_pairs_equal_their_slow_twin(values):
    found = pairs(values)
    assert [(pair.a, pair.b) for pair in found] == list(combinations(range(values.shape[1]), 2))
    for pair in found:
        gaps = values[:, pair.a] - values[:, pair.b]
        assert (pair.wins, pair.ties, pair.losses) == ((gaps > 0).sum(), (gaps == 0).sum(), (gaps < 0).sum())
        assert pair.p_value == pytest.approx(slow_signed_rank(gaps)[2])
    assert [pair.p_holm for pair in found] == holm([pair.p_value for pair in found])


@pytest.mark.parametrize("sets", [5, 20, 50])
def test_the_exact_test_without_ties_is_that_of_scipy(sets):
    values = np.random.default_rng(sets).normal(size=(sets, 2))
    values[:, 0] += 0.3
    assert pairs(values)[0].p_value == pytest.approx(stats.wilcoxon(*values.T, method="exact").pvalue, rel=1e-9)


def test_the_test_of_many_data_sets_goes_on_where_the_exact_one_ends(monkeypatch):
    values = np.round(np.random.default_rng(3).normal([0.4, 0], 1, (60, 2)), 1)
    approximate = pairs(values)[0].p_value
    monkeypatch.setattr(module, "MOST_EXACT", 60)
    assert pairs(values)[0].p_value == pytest.approx(approximate, rel=0.05)
    monkeypatch.undo()
    assert pairs(np.ones((60, 2)))[0].p_value == 1.0


@pytest.mark.parametrize("sets", [2, 5, 6])
def test_few_data_sets_cannot_tell_two_models_apart(sets):
    (pair,) = pairs(np.c_[np.arange(sets) + 10.0, np.zeros(sets)])
    assert pair.wins == sets
    assert pair.p_value == 2 / 2**sets
    assert (pair.p_value < 0.05) == (sets > 5)


def test_a_pair_does_not_depend_on_other_models_but_mean_ranks_do():
    rng = np.random.default_rng(1)
    two = rng.uniform([0.15, 0], [1.15, 1], (20, 2))
    between = two.mean(axis=1, keepdims=True) + rng.normal(0, 0.05, (20, 6))
    more = np.c_[two, between]
    assert pairs(more)[0].p_value == pairs(two)[0].p_value
    apart = np.abs(np.subtract(*rank(two).mean)), np.abs(np.subtract(*rank(more).mean[:2]))
    assert apart[0] < critical_difference(2, 20)
    assert apart[1] > apart[0] * 2


def test_the_order_of_data_sets_changes_nothing_and_that_of_models_only_their_columns():
    values = np.round(np.random.default_rng(2).uniform(size=(9, 4)), 1)
    sets, models = np.random.default_rng(3).permutation(9), np.array([2, 0, 3, 1])
    assert pairs(values[sets]) == pairs(values)
    turned = {frozenset((models[p.a], models[p.b])): (p.p_value, p.p_holm) for p in pairs(values[:, models])}
    assert turned == {frozenset((p.a, p.b)): (p.p_value, p.p_holm) for p in pairs(values)}
    assert (rank(values[:, models]).mean == rank(values).mean[models]).all()
    assert friedman(rank(values[sets][:, models])).p_value == pytest.approx(friedman(rank(values)).p_value)


def test_wins_need_more_than_the_tolerance_and_less_is_better_where_it_is():
    values = [(0.80, 0.81), (0.9, 0.7), (0.5, 0.6), (0.6, 0.6)]
    exact, tolerant = pairs(values)[0], pairs(values, tolerance=0.01)[0]
    assert (exact.wins, exact.ties, exact.losses) == (1, 1, 2)
    assert (tolerant.wins, tolerant.ties, tolerant.losses) == (1, 2, 1)
    assert tolerant.p_value == exact.p_value
    turned = pairs(values, higher_is_better=False)[0]
    assert (turned.wins, turned.ties, turned.losses) == (2, 1, 1)


def test_differences_that_are_equal_but_for_rounding_tie():
    assert 0.8 - 0.7 != 0.3 - 0.2
    values = np.array([(0.8, 0.7), (0.2, 0.3), (0.9, 0.5), (0.4, 0.1)])
    assert pairs(values)[0].p_value == slow_signed_rank(np.array([1, -1, 4, 3]))[2]


def test_what_a_pair_ties_in_depends_on_no_other_value_of_the_table():
    values = np.array([[1e13, 2e13], [0.1, 0.2], [0.3, 0.5], [0.2, 0.9]])
    assert [(p.wins, p.ties, p.losses) for p in pairs(values)] == [(0, 0, 4)]
    assert pairs(np.c_[values, np.full(4, -1e15)])[0].losses == 4
    for unit in (1e-9, 1.0, 1e9):  # 0.07 four times, with noise of other sizes
        small = unit * np.array([[0.1, 0.03], [0.03, 0.1], [0.57, 0.5], [0.92, 0.99]])
        assert pairs(small)[0].p_value == 1.0


def test_holm_corrects_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@exhaustive
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values, alpha):
    rejected = set()
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[i] * (len(p_values) - len(rejected)) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_a_table_of_equal_models_rarely_shows_any_false_difference():
    rng, replicas = np.random.default_rng(4), 400
    false = np.mean([any(p.p_holm <= 0.05 for p in pairs(rng.normal(size=(12, 4)))) for _ in range(replicas)])
    assert false <= 0.05 + SIGMAS * math.sqrt(0.05 * 0.95 / replicas)


# ---- failed cells ---------------------------------------------------------------------------------------------------


def test_ranks_leave_out_data_sets_on_which_a_model_failed_and_count_them():
    values = np.random.default_rng(5).uniform(size=(8, 3))
    whole = rank(values)
    values[[1, 4, 4], [0, 0, 2]] = np.nan
    ranks = rank(values)
    assert (whole.left_out, ranks.left_out) == (0, 2)
    assert (ranks.by_set == np.delete(whole.by_set, [1, 4], axis=0)).all()


def test_a_pair_uses_the_data_sets_that_it_has_values_of():
    values = np.random.default_rng(6).uniform(size=(8, 3))
    expected = pairs(values[:, :2])[0]
    values[:7, 2] = np.nan
    first, second, third = pairs(values)
    assert (first.p_value, first.wins, first.losses) == (expected.p_value, expected.wins, expected.losses)
    assert second.wins + second.ties + second.losses == third.wins + third.ties + third.losses == 1
    values[7, 2] = np.nan
    _, second, _ = pairs(values)
    assert (second.wins, second.ties, second.losses, second.p_value, second.p_holm) == (0, 0, 0, 1.0, 1.0)
    assert pairs(np.full((3, 2), np.nan))[0].p_value == 1.0


def test_too_few_complete_data_sets_are_refused_with_the_model_that_failed_most():
    values = np.ones((5, 3))
    values[:4, 1] = values[0, 2] = np.nan
    with pytest.raises(InputError, match=r"1 of 5 data sets .*column 1 failed on 4"):
        rank(values)


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_a_leaderboard_holds_what_its_parts_say():
    values = np.random.default_rng(7).normal([2, 1.9, 0, 0], 1, (30, 4))
    board = board_of(values, alpha=0.1, tolerance=0.01)
    assert (board.ranks.by_set == rank(values).by_set).all()
    assert board.friedman == friedman(board.ranks)
    assert board.friedman.p_value < 0.1
    assert board.critical_difference == critical_difference(4, 30, 0.1)
    assert board.groups == groups(board.ranks.mean, board.critical_difference)
    assert {frozenset(group) for group in board.groups} == {frozenset({0, 1}), frozenset({2, 3})}
    assert board.pairs == pairs(values, tolerance=0.01)
    assert board.alpha == 0.1


def test_all_models_form_one_group_where_friedman_s_test_rejects_nothing():
    board = board_of(np.random.default_rng(134).uniform(size=(10, 4)))
    assert board.friedman.p_value > 0.05
    assert np.ptp(board.ranks.mean) > board.critical_difference  # the seed was looked for: the two tests may disagree
    assert len(board.groups) == 1
    assert set(board.groups[0]) == {0, 1, 2, 3}


def test_two_models_have_a_leaderboard():
    board = board_of(np.random.default_rng(9).uniform([1, 0], [2, 1], (20, 2)))
    assert board.groups == ()
    assert board.ranks.mean.tolist() == [1, 2]
    assert board.friedman.p_value == pytest.approx(0.5**19)


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0], np.ones((2, 2, 2)), []])
@pytest.mark.parametrize("function", [board_of, rank, pairs])
def test_fewer_than_two_models_or_data_sets_are_refused(function, values):
    with pytest.raises(InputError, match="at least 2 data sets by 2 models"):
        function(values)


@pytest.mark.parametrize("function", [board_of, rank, pairs])
def test_infinite_values_are_refused(function):
    with pytest.raises(InputError, match="1 values are infinite"):
        function([[1.0, math.inf], [1.0, 2.0]])


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_a_level_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\)"):
        board_of([[1, 2], [3, 4]], alpha=alpha)


@pytest.mark.parametrize("tolerance", [-0.1, math.inf, math.nan])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be finite and at least 0"):
        pairs([[1, 2], [3, 4]], tolerance=tolerance)


@pytest.mark.parametrize(("models", "sets"), [(1, 10), (3, 1)])
def test_a_critical_difference_of_nothing_is_refused(models, sets):
    with pytest.raises(InputError, match="at least 2 of each"):
        critical_difference(models, sets)
