"""Ensembles: one score of several, its order, its units and the false-alarm rate after one calibration."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.errors import DataLeakError, NonFiniteScoreError
from deepad.scoring.conformal import Calibration
from deepad.scoring.ensemble import ScoreEnsemble, merge_p_values

SIGMAS = 4.5  # two-sided 7e-6
P_MIN = 1e-5
exhaustive = settings(derandomize=True, deadline=None, max_examples=300)
RULES = {
    "loglik": {},
    "weighted": {"weights": [5.0, 1.0, 0.5]},
    "vote": {"transform": "vote", "level": 0.9},
    "weighted vote": {"transform": "vote", "level": 0.9, "weights": [5.0, 1.0, 0.5]},
}
finite = st.floats(allow_nan=False, allow_infinity=False)
few = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.0 + 1e-12, 2.0, 5e-324, 1e308, -1e308])
some = st.one_of(finite, few, st.floats(-3, 3))


def draw(rng, *size):
    """Three members that depend on each other, in units of their own."""
    common = rng.normal(size=(*size, 1))
    z = common + rng.normal(size=(*size, 3))
    return np.stack([z[..., 0], np.exp(z[..., 1]), 1e6 + 1e3 * z[..., 2] ** 3], axis=-1)


@pytest.fixture(params=RULES, name="ensemble")
def _ensemble(request):
    return ScoreEnsemble.fit(draw(np.random.default_rng(0), 300), **RULES[request.param])


def height_by_hand(score, column):
    """-log of the tail share, interpolated, one case after the other."""
    n, knots = len(column), sorted(set(column))
    tail = [-math.log((1 + sum(v >= knot for v in column)) / (n + 1)) for knot in knots]
    if score <= knots[0]:
        base = 0.0
    elif score >= knots[-1]:
        base = tail[-1]
    else:
        i = sum(knot <= score for knot in knots) - 1
        base = tail[i] + (score - knots[i]) / (knots[i + 1] - knots[i]) * (tail[i + 1] - tail[i])
    if score <= knots[-1]:
        return base
    unit = knots[-1] - float(np.median(column)) or abs(knots[-1]) or 1.0
    return base + math.log1p((score - knots[-1]) / unit)


# ---- the definition ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ties", [False, True])
def test_combined_scores_equal_a_twin_that_goes_case_by_case(rule, ties):
    rng = np.random.default_rng(1)
    validation, scores = (np.round(a, 1) if ties else a for a in (draw(rng, 50), draw(rng, 80) * 1.5))
    how = RULES[rule]
    weights = np.array(how.get("weights", [1.0, 1.0, 1.0]))
    weights = weights / weights.sum()
    heights = np.array([[height_by_hand(s, validation[:, j].tolist()) for j, s in enumerate(row)] for row in scores])
    mean = heights @ weights
    if "level" in how:
        share = (heights > -math.log(1 - how["level"])) @ weights
        mean = share + 1e-3 * weights.min() * mean / (1 + mean)
    np.testing.assert_allclose(ScoreEnsemble.fit(validation, **how)(scores), mean, rtol=1e-9, atol=1e-12)


def test_a_score_at_a_validation_score_has_its_conformal_height():
    validation = np.random.default_rng(2).normal(size=(99, 1))
    p = Calibration.fit(validation, tie_rtol=0).p_values(validation)
    np.testing.assert_allclose(ScoreEnsemble.fit(validation)(validation), -np.log(p), rtol=1e-12, atol=1e-15)


@exhaustive
@given(
    st.lists(some, min_size=2, max_size=12),
    st.lists(st.one_of(some, st.just(math.inf), st.just(-math.inf)), min_size=2),
)
@example([1e308, -1e308], [1e308, 1.7e308, math.inf, -math.inf, 0.0])
@example([5e-324, 0.0], [5e-324, 1e-323, 0.0, -5e-324])
@example([1.0, 1.0, 1.0], [0.0, 1.0, 1.0 + 2**-52, 2.0])
def test_a_higher_score_is_never_combined_to_a_lower_one(validation, scores):
    made = ScoreEnsemble.fit(np.array(validation)[:, None])(np.sort(scores)[:, None])
    assert not np.isnan(made).any()
    assert (made >= 0).all()
    assert (np.diff(made[made < np.inf]) >= 0).all()
    assert (np.isinf(made) == (np.sort(scores) == math.inf)).all()


def test_raising_any_member_never_lowers_the_combined_score(ensemble):
    rng = np.random.default_rng(3)
    scores = draw(rng, 2000)
    for j in range(3):
        raised = scores.copy()
        raised[:, j] += np.abs(scores[:, j]) * rng.choice([1e-15, 1e-6, 0.1, 10, 1e6], 2000)
        assert (ensemble(raised) >= ensemble(scores)).all()


def test_the_order_of_what_lies_above_all_validation_scores_is_kept(ensemble):
    top = np.array([10.0, 1e6, 2e6])
    beyond = top * np.array([1 + 1e-6, 1.01, 2, 100, 1e9, 1e100, 1e300])[:, None]
    assert (np.diff(ensemble(beyond)) > 0).all()


def test_one_member_that_explodes_does_not_silence_the_rest():
    ensemble = ScoreEnsemble.fit(draw(np.random.default_rng(4), 999))
    all_high, one_huge = ensemble([[8.0, 3e4, 1.5e6]])[0], ensemble([[0.0, 1.0, 1e9]])[0]
    assert one_huge < all_high


def test_scores_of_members_with_few_rows_give_a_calibration_without_ties():
    rng = np.random.default_rng(5)
    combined = ScoreEnsemble.fit(rng.normal(size=(20, 1)))(rng.normal(size=(2000, 1)))
    upper = np.sort(combined)[1000:]
    assert (np.diff(upper) > 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_the_units_of_members_do_not_matter(rule):
    rng = np.random.default_rng(6)
    validation, scores = draw(rng, 200), draw(rng, 500)
    scale, shift = np.array([1e-3, 7.0, 1e5]), np.array([5.0, -100.0, 0.0])
    plain = ScoreEnsemble.fit(validation, **RULES[rule])(scores)
    other = ScoreEnsemble.fit(validation * scale + shift, **RULES[rule])(scores * scale + shift)
    np.testing.assert_allclose(other, plain, rtol=1e-6, atol=1e-9)


def test_a_row_has_the_same_bits_in_any_batch_and_any_order(ensemble):
    scores = draw(np.random.default_rng(7), 100)
    whole = ensemble(scores)
    assert np.concatenate([ensemble(scores[i : i + 1]) for i in range(100)]).tolist() == whole.tolist()
    assert ensemble(scores[::-1])[::-1].tolist() == whole.tolist()
    assert ensemble(scores[:0]).shape == (0,)


def test_votes_decide_and_equal_votes_are_ordered_by_how_high_they_are():
    rng = np.random.default_rng(8)
    ensemble = ScoreEnsemble.fit(rng.normal(size=(999, 3)), transform="vote", level=0.95)
    combined = ensemble([[5.0, 5.0, -3.0], [1.2, 1.2, 1.2], [9.0, 9.0, 1.3], [2.0, 2.0, 2.0], [1.2, 1.2, 1.3]])
    assert np.floor(combined * 3 + 1e-9).tolist() == [2, 0, 2, 3, 0]
    assert combined[3] > combined[2] > combined[0] > combined[4] > combined[1]
    assert (combined <= 1.001).all()


def test_weights_shift_what_counts_and_only_their_ratios_matter():
    rng = np.random.default_rng(9)
    validation = rng.normal(size=(500, 2))
    scores = [[4.0, 0.0], [0.0, 4.0]]
    first, second = (ScoreEnsemble.fit(validation, weights=w)(scores) for w in ([9, 1], [1, 9]))
    assert first[0] > first[1]
    assert second[0] < second[1]
    assert ScoreEnsemble.fit(validation, weights=[90, 10])(scores).tolist() == first.tolist()
    alone = ScoreEnsemble.fit(validation[:, :1])(np.array(scores)[:, :1])
    np.testing.assert_allclose(ScoreEnsemble.fit(validation, weights=[1, 1e-12])(scores), alone, atol=1e-9)


# ---- after calibration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["loglik", "weighted vote"])
def test_false_alarms_of_dependent_members_follow_the_exact_law_after_one_calibration(rule):
    rng = np.random.default_rng(10)
    n, m, alpha, replicas = 199, 1000, 0.05, 2000
    ensemble = ScoreEnsemble.fit(draw(rng, 300), **RULES[rule])
    counts = np.empty(replicas, int)
    for i in range(replicas):
        calibration = Calibration.fit(ensemble(draw(rng, n)), tie_rtol=0)
        counts[i] = calibration.threshold(alpha).flag(ensemble(draw(rng, m))).sum()
    law = stats.betabinom(m, 10, 190)
    edges = np.unique(law.ppf(np.arange(1, 10) / 10))
    cells = np.searchsorted(edges, counts)  # counts <= edge
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    assert stats.chisquare(np.bincount(cells, minlength=len(expected)), replicas * expected).pvalue > P_MIN
    assert abs(counts.mean() / m - alpha) <= SIGMAS * counts.std() / m / math.sqrt(replicas)


def test_flagging_where_any_of_three_calibrated_members_flags_keeps_no_level():
    rng = np.random.default_rng(11)
    alpha, rates = 0.05, []
    for _ in range(200):
        calibrations = [Calibration.fit(column, tie_rtol=0) for column in draw(rng, 199).T]
        fresh = draw(rng, 1000)
        flags = [c.threshold(alpha).flag(fresh[:, j]) for j, c in enumerate(calibrations)]
        rates.append(np.any(flags, axis=0).mean())
    assert np.mean(rates) > 1.5 * alpha + SIGMAS * np.std(rates) / math.sqrt(200)


# ---- NaN, infinities, refusals -------------------------------------------------------------------------------------


def test_a_member_that_fails_makes_the_sample_invalid(ensemble):
    scores = draw(np.random.default_rng(12), 8)
    for i, j in enumerate(range(3)):
        scores[i, j] = math.nan
    scores[3] = [math.nan, math.inf, math.inf]
    combined = ensemble(scores)
    assert np.isnan(combined).tolist() == [True] * 4 + [False] * 4
    assert Calibration.fit(np.arange(100.0)).threshold(0.05).flag(combined)[:4].all()


def test_infinite_scores_are_ordered(ensemble):
    low, high = ensemble([[-math.inf] * 3, [math.inf] * 3])
    assert low == 0
    assert high >= ensemble([[1e300] * 3])[0]
    assert not np.isnan(ensemble([[-math.inf, math.inf, 0.0]])[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_validation_score_that_is_not_finite_is_refused(bad):
    validation = np.zeros((5, 2))
    validation[3, 1] = bad
    with pytest.raises(NonFiniteScoreError, match=r"1 of 5 validation rows hold NaN .* \(first at row 3\)"):
        ScoreEnsemble.fit(validation)


@pytest.mark.parametrize("shape", [(5,), (5, 0), (5, 2, 1), ()])
def test_validation_scores_without_a_column_for_each_member_are_refused(shape):
    with pytest.raises(ValueError, match="must have a column for each of at least one"):
        ScoreEnsemble.fit(np.zeros(shape))


def test_another_number_of_members_or_too_few_rows_are_refused(ensemble):
    for shape in [(4, 2), (4, 4), (3,)]:
        with pytest.raises(ValueError, match="column for each of 3 models"):
            ensemble(np.zeros(shape))
    with pytest.raises(ValueError, match="at least 2 validation rows, got 1"):
        ScoreEnsemble.fit([[1.0, 2.0]])
    for masked_or_complex in (np.ma.masked_array(np.zeros((4, 3)), mask=True), np.zeros((4, 3), complex)):
        with pytest.raises(TypeError):
            ensemble(masked_or_complex)


@pytest.mark.parametrize("weights", [[1, 0], [1, -1], [1, math.nan], [1, math.inf], [1], [1, 1, 1], []])
def test_weights_that_are_not_positive_numbers_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 2 finite numbers above 0"):
        ScoreEnsemble.fit(np.arange(10.0).reshape(5, 2), weights=weights)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"transform": "mean"}, "'loglik' or 'vote', got 'mean'"),
        ({"level": 0.9}, "level=0.9 belongs to transform='vote'"),
        ({"transform": "vote"}, "needs level"),
        ({"transform": "vote", "level": 95}, "level must lie"),
        ({"transform": "vote", "level": 0.9}, "level=0.9 needs at least 19 validation rows, got 18"),
        ({"transform": "vote", "level": 0.99}, "level=0.99 needs at least 199 validation rows, got 18"),
    ],
)
def test_rules_that_cannot_be_are_refused(how, message):
    validation = np.random.default_rng(13).normal(size=(18, 2))
    with pytest.raises(ValueError, match=message):
        ScoreEnsemble.fit(validation, **how)


def test_the_rows_that_fitted_the_ensemble_are_refused_for_calibration():
    rng = np.random.default_rng(14)
    validation, fresh = draw(rng, 50), draw(rng, 60)
    ensemble = ScoreEnsemble.fit(validation)
    ensemble.require_other(fresh)
    ensemble.require_other(np.roll(validation, 1, axis=0)[:, [1, 0, 2]])  # other rows of the same numbers
    with pytest.raises(DataLeakError, match=r"1 of 61 rows fitted the ensemble \(first at row 60\)"):
        ensemble.require_other(np.vstack([fresh, validation[17]]))
    with pytest.raises(DataLeakError, match="50 of 50"):
        ensemble.require_other(validation[::-1])


# ---- saving --------------------------------------------------------------------------------------------------------


def test_a_saved_ensemble_scores_with_the_same_bits(ensemble):
    scores = draw(np.random.default_rng(15), 500)
    document, arrays = ensemble.to_state()
    loaded = ScoreEnsemble.from_state(
        json.loads(json.dumps(document)),
        {name: np.frombuffer(a.tobytes()).reshape(a.shape) for name, a in arrays.items()},
    )
    assert loaded(scores).tobytes() == ensemble(scores).tobytes()
    again, more = loaded.to_state()
    assert again == document
    assert all(more[name].tobytes() == arrays[name].tobytes() for name in arrays)
    with pytest.raises(DataLeakError):
        loaded.require_other(arrays["rows"])


def test_an_ensemble_cannot_be_changed(ensemble):
    for array in (ensemble.validation, ensemble.weights, ensemble.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize("change", ["missing", "extra", "weights", "transform", "level", "nan"])
def test_a_state_that_no_ensemble_has_is_refused(change):
    document, arrays = ScoreEnsemble.fit(draw(np.random.default_rng(16), 30)).to_state()
    match change:
        case "missing":
            del arrays["rows"]
        case "extra":
            document["members"] = 3
        case "weights":
            arrays["weights"] = arrays["weights"] * 2
        case "transform":
            document["transform"] = "vote"
        case "level":
            document["level"] = 0.5
        case "nan":
            arrays["rows"] = np.full((30, 3), math.nan)
    with pytest.raises(ValueError, match=r"state of|sum to 1|needs level|belongs to|NaN or infinite"):
        ScoreEnsemble.from_state(document, arrays)


# ---- merging p-values ----------------------------------------------------------------------------------------------


def test_merged_p_values_of_small_examples():
    p = [[0.01, 0.03], [0.5, 0.9], [math.nan, 0.1]]
    np.testing.assert_allclose(merge_p_values(p), [0.04, 1, math.nan])
    np.testing.assert_allclose(merge_p_values(p, "min"), [0.02, 1, math.nan])
    np.testing.assert_array_equal(merge_p_values([[0.2], [1.0]]), [0.2, 1.0])
    np.testing.assert_array_equal(merge_p_values([[0.2], [1.0]], "min"), [0.2, 1.0])


def test_merged_p_values_are_valid_under_the_worst_dependence():
    n = 10**5
    u = (np.arange(n) + 0.5) / n
    for alpha in (0.01, 0.1, 0.5):
        # U and 2 alpha/2 - U, reflected inside [0, alpha]: their mean is alpha/2 there, so twice it is alpha exactly
        reflected = np.where(u < alpha, alpha - u, u)
        assert (merge_p_values(np.stack([u, reflected], axis=1)) <= alpha + 1e-9).mean() == pytest.approx(
            alpha, abs=2 / n
        )
        # disjoint small values: the union bound is met
        shifted = (u + 1 / 2) % 1
        assert (merge_p_values(np.stack([u, shifted], axis=1), "min") <= alpha).mean() == pytest.approx(
            alpha, abs=2 / n
        )
    rng = np.random.default_rng(17)
    for rho, members, method in itertools.product((0.0, 0.5, 0.99), (2, 5), ("mean", "min")):
        z = math.sqrt(rho) * rng.normal(size=(20_000, 1)) + math.sqrt(1 - rho) * rng.normal(size=(20_000, members))
        rate = (merge_p_values(stats.norm.sf(z), method) <= 0.1).mean()
        assert rate <= 0.1 + SIGMAS * math.sqrt(0.09 / 20_000)


@pytest.mark.parametrize("method", ["fisher", "cauchy", "stouffer"])
def test_merging_that_needs_independence_is_refused_with_the_reason(method):
    with pytest.raises(ValueError, match=f"method='{method}' is not offered: it needs independent"):
        merge_p_values([[0.1, 0.2]], method)


def test_merging_of_what_are_no_p_values_is_refused():
    with pytest.raises(ValueError, match="'mean' or 'min', got 'median'"):
        merge_p_values([[0.1, 0.2]], "median")
    for bad in (0.0, -0.1, 1.1, math.inf):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            merge_p_values([[0.1, bad]])
    with pytest.raises(ValueError, match="column"):
        merge_p_values([0.1, 0.2])
