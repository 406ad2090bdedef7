"""Cross-calibration: ranks over folds against brute force, and the bound on false alarms."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InsufficientCalibrationError, NonFiniteScoreError
from deepad.scoring.conformal import TIE_RTOL, Calibration
from deepad.scoring.cross import CrossCalibration
from deepad.scoring.guarantee import GuaranteeKind

pytestmark = pytest.mark.filterwarnings("ignore:all .* calibration scores equal:UserWarning")  # drawn on purpose

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=200)
values = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.0 + 1e-6, 1.0 + 1e-4, 2.0])  # ties, near and exact


def fit_pca(x):
    mean = x.mean(axis=0)
    return mean, np.linalg.svd(x - mean, full_matrices=False)[2][:3]


def score_pca(model, x):
    mean, components = model
    centred = x - mean
    return ((centred - centred @ components.T @ components) ** 2).sum(axis=1)


def fit_nearest(x):
    return x


def score_nearest(model, x):
    """Zero for a row of the training set: the model that remembers all."""
    return np.sqrt(((x[:, None] - model[None]) ** 2).sum(-1)).min(axis=1)


def scores_of(models, score, x):
    return np.stack([score(model, x) for model in models], axis=1)


def brute_force_rank(row, folds, tie_rtol):
    """1 + the scores of each fold that are at least as high, compared inside the fold, one after the other."""
    rank = 1
    for score, fold in zip(row, folds, strict=True):
        scale = float(np.median(np.abs(fold)))
        rank += sum(1 for held_out in fold if held_out >= score - tie_rtol * max(abs(score), scale))
    return rank


# ---- the definition ------------------------------------------------------------------------------------------------


@exhaustive
@given(
    st.lists(st.lists(values, min_size=1, max_size=6), min_size=2, max_size=5),
    st.data(),
    st.sampled_from([0.0, TIE_RTOL, 0.1]),
)
def test_ranks_equal_brute_force_inside_each_fold(folds, data, tie_rtol):
    rows = data.draw(st.lists(st.lists(values, min_size=len(folds), max_size=len(folds)), min_size=1, max_size=5))
    cross = CrossCalibration.fit(folds, tie_rtol=tie_rtol)
    n = sum(map(len, folds))
    expected = [brute_force_rank(row, folds, tie_rtol) for row in rows]
    assert cross.n == n
    assert cross.ranks(rows).tolist() == expected
    assert cross.p_values(rows).tolist() == [rank / (n + 1) for rank in expected]


def test_a_textbook_example_counts_ties_and_keeps_models_apart():
    cross = CrossCalibration.fit([[1.0, 2.0], [10.0, 20.0, 30.0]], tie_rtol=0)
    rows = [[3.0, 40.0], [2.0, 40.0], [3.0, 30.0], [0.0, 0.0], [40.0, 3.0], [1.5, 15.0]]
    assert cross.ranks(rows).tolist() == [1, 2, 2, 6, 4, 4]
    assert cross.p_values(rows).tolist() == [rank / 6 for rank in (1, 2, 2, 6, 4, 4)]


@exhaustive
@given(st.lists(st.lists(values, min_size=2, max_size=9), min_size=2, max_size=4), st.data(), st.floats(0.01, 0.99))
def test_a_row_is_flagged_exactly_where_its_p_value_is_at_most_alpha(folds, data, alpha):
    rows = data.draw(st.lists(st.lists(values, min_size=len(folds), max_size=len(folds)), min_size=1, max_size=8))
    cross = CrossCalibration.fit(folds)
    try:
        flagged = cross.flag(rows, alpha)
    except InsufficientCalibrationError:
        assert 1 / (cross.n + 1) > alpha
        return
    assert flagged.tolist() == (cross.p_values(rows) <= alpha).tolist()


def test_models_are_trained_on_the_other_folds_and_score_their_own():
    x = np.random.default_rng(0).normal(size=(23, 2))
    seen = []

    def fit(rows):
        seen.append(rows)
        return len(seen) - 1

    def score(model, rows):
        both = np.vstack([seen[model], rows])
        assert sorted(map(tuple, both)) == sorted(map(tuple, x))  # a partition
        return rows[:, 0]

    models, cross = CrossCalibration.from_models(fit, score, x, folds=4, seed=3)
    assert models == [0, 1, 2, 3]
    assert sorted(fold.n for fold in cross.folds) == [5, 6, 6, 6]
    assert sorted(np.concatenate([fold.scores for fold in cross.folds])) == sorted(x[:, 0])


def test_the_folds_follow_from_the_seed_alone():
    x = np.random.default_rng(1).normal(size=(40, 2))

    def folds(seed):
        _, cross = CrossCalibration.from_models(fit_nearest, score_nearest, x, seed=seed)
        return [fold.scores.tolist() for fold in cross.folds]

    np.random.seed(5)  # noqa: NPY002 what must neither matter nor be touched
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = folds(7)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert folds(7) == first
    assert folds(8) != first


# ---- the bound -----------------------------------------------------------------------------------------------------


def rates(fit, score, *, n, folds, levels, replicas, m, d, seed):
    """Mean and standard error of the rate of false alarms at each level, over draws of all rows."""
    rng = np.random.default_rng(seed)
    shares = np.empty((replicas, len(levels)))
    for i in range(replicas):
        models, cross = CrossCalibration.from_models(fit, score, rng.normal(size=(n, d)), folds=folds, seed=i)
        p = cross.p_values(scores_of(models, score, rng.normal(size=(m, d))))
        shares[i] = [(p <= level).mean() for level in levels]
    return shares.mean(axis=0), shares.std(axis=0) / math.sqrt(replicas), cross


def test_false_alarms_stay_below_the_bound_and_usually_below_the_level():
    levels = (0.05, 0.1, 0.2, 0.4)
    measured, error, cross = rates(fit_pca, score_pca, n=60, folds=5, levels=levels, replicas=1000, m=20, d=10, seed=2)
    for level, rate, noise in zip(levels, measured, error, strict=True):
        assert rate <= cross.guarantee(level).attained + SIGMAS * noise
        assert rate <= level + SIGMAS * noise
        assert rate >= level / 4  # not idle either


def test_a_model_that_remembers_its_rows_is_calibrated_all_the_same():
    levels = (0.1, 0.3)
    measured, error, _ = rates(
        fit_nearest, score_nearest, n=60, folds=5, levels=levels, replicas=600, m=20, d=3, seed=3
    )
    for level, rate, noise in zip(levels, measured, error, strict=True):
        assert level / 4 <= rate <= level + SIGMAS * noise
    # against its own training scores, all 0, it would flag every new row
    x, new = np.random.default_rng(4).normal(size=(2, 60, 3))
    naive = Calibration.fit(score_nearest(x, x)).p_values(score_nearest(x, new))
    assert (naive <= 0.1).all()


def test_the_bound_can_be_met_so_that_the_level_itself_promises_too_much():
    # two folds whose p-values U and a - U depend in the worst way: both below `a` together, their mean a/2
    n_fold, replicas = 99, 200_000
    rng = np.random.default_rng(5)
    cross = CrossCalibration.fit([np.arange(n_fold), np.arange(n_fold)], tie_rtol=0)
    above = rng.integers(0, n_fold + 1, replicas)  # of fold 1; uniform, as for a new normal row
    other = np.where(above <= 20, 20 - above, above)  # of fold 2; uniform too
    rows = n_fold - 0.5 - np.stack([above, other], axis=1)
    guarantee = cross.guarantee(21 / 199)
    assert guarantee.k == 21
    rate = cross.flag(rows, 21 / 199).mean()
    assert rate <= guarantee.attained + SIGMAS * math.sqrt(0.21 * 0.79 / replicas)
    assert rate > 1.8 * 21 / 199


@pytest.mark.parametrize("sizes", [(12,) * 5, (20, 20), (1,) * 20, (3, 9, 50)])
def test_the_bound_is_the_published_one_at_the_level_attained(sizes):
    cross = CrossCalibration.fit([np.arange(float(size)) for size in sizes])
    n, folds = sum(sizes), len(sizes)
    for alpha in (0.05, 0.1, 0.2, 0.33, 0.5, 0.9):
        guarantee = cross.guarantee(alpha)
        attained = Fraction(guarantee.k, n + 1)
        assert guarantee.k == math.floor(Fraction(str(alpha)) * (n + 1))
        published = 2 * attained + 2 * (1 - attained) * (folds - 1) / (n + folds)
        assert guarantee.attained == pytest.approx(float(min(1, published)), rel=1e-12)
        assert (guarantee.kind, guarantee.alpha, guarantee.n) == (GuaranteeKind.CROSS, alpha, n)
        assert guarantee.future_alarms(100) is None
    assert "exchangeable" in " ".join(guarantee.assumptions)
    assert f"models of {n} samples" in str(guarantee)


@pytest.mark.parametrize("sizes", [(12,) * 5, (20, 20), (200,) * 5, (3, 9, 50)])
@pytest.mark.parametrize("wanted", [0.05, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_the_guaranteed_level_is_the_largest_whose_bound_is_as_low_as_wanted(sizes, wanted):
    cross = CrossCalibration.fit([np.arange(float(size)) for size in sizes])
    n, folds = sum(sizes), len(sizes)
    bounds = [Fraction(2 * (k + folds - 1), n + folds) for k in range(1, n + 1)]
    k = sum(bound <= Fraction(str(wanted)) for bound in bounds)
    if k:
        level = cross.guaranteed_level(wanted)
        guarantee = cross.guarantee(level)
        assert (guarantee.k, level) == (k, k / (n + 1))
        assert guarantee.attained <= wanted
        assert level < wanted
        return
    with pytest.raises(InsufficientCalibrationError, match=f"with {n} rows in {folds} folds no level") as caught:
        cross.guaranteed_level(wanted)
    needed = caught.value.needed
    assert Fraction(2 * folds, needed + folds) <= Fraction(str(wanted)) < Fraction(2 * folds, needed - 1 + folds)
    larger = CrossCalibration.fit([np.arange(float(needed - folds + 1))] + [[0.0]] * (folds - 1))
    assert larger.guaranteed_level(wanted) > 0


# ---- NaN and refusals ----------------------------------------------------------------------------------------------


@pytest.fixture(name="cross")
def _cross():
    return CrossCalibration.fit([np.arange(10.0), np.arange(12.0)])


def test_a_model_that_fails_makes_the_row_invalid_and_flagged(cross):
    rows = [[math.nan, 5.0], [5.0, math.nan], [math.nan, math.nan], [5.0, 5.0]]
    assert cross.ranks(rows)[:3].tolist() == [0, 0, 0]
    assert np.isnan(cross.p_values(rows)).tolist() == [True, True, True, False]
    assert cross.flag(rows, 0.1).tolist() == [True, True, True, False]


def test_infinite_scores_are_ordered(cross):
    assert cross.ranks([[math.inf, math.inf], [-math.inf, -math.inf]]).tolist() == [1, 23]


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (2,), (4, 2, 1)])
def test_another_number_of_models_is_refused(cross, shape):
    with pytest.raises(ValueError, match="column for each of 2 models"):
        cross.p_values(np.zeros(shape))


@pytest.mark.parametrize("use", ["guarantee", "flag"])
def test_a_level_below_every_p_value_is_refused_with_the_number_needed(cross, use):
    with pytest.raises(InsufficientCalibrationError) as caught:
        cross.guarantee(0.01) if use == "guarantee" else cross.flag(np.zeros((1, 2)), 0.01)
    assert (caught.value.n, caught.value.needed) == (22, 99)


@pytest.mark.parametrize("level", [0, 1, -0.1, 5, math.nan])
def test_levels_outside_0_and_1_are_refused(cross, level):
    for entry in (cross.guarantee, cross.guaranteed_level, lambda alpha: cross.flag(np.zeros((1, 2)), alpha)):
        with pytest.raises(ValueError, match="must lie strictly between"):
            entry(level)


def test_fewer_than_two_folds_empty_ones_and_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        CrossCalibration.fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="at least one"):
        CrossCalibration.fit([[1.0, 2.0], []])
    with pytest.raises(NonFiniteScoreError):
        CrossCalibration.fit([[1.0, 2.0], [math.nan]])


@pytest.mark.parametrize("folds", [1, 0, -1, 7])
def test_a_number_of_folds_that_cannot_be_is_refused(folds):
    with pytest.raises(ValueError, match=rf"folds must lie in 2\.\.6, the number of rows, got {folds}"):
        CrossCalibration.from_models(fit_nearest, score_nearest, np.zeros((6, 2)), folds=folds, seed=0)
