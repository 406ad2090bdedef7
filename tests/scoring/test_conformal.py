"""Ranks of scores among calibration scores, against brute force and against the laws they must follow."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits

from deepad.errors import DeepadError, InsufficientCalibrationError, NonFiniteScoreError
from deepad.scoring.conformal import TIE_RTOL, Calibration, as_scores
from deepad.scoring.guarantee import SMALLEST
from deepad.scoring.ranks import marginal_rank

pytestmark = pytest.mark.filterwarnings("ignore:all .* calibration scores equal:UserWarning")  # drawn on purpose

SIGMAS = 4.5  # two-sided 7e-6
P_MIN = 1e-5
exhaustive = settings(derandomize=True, deadline=None, max_examples=300, phases=[Phase.explicit, Phase.generate])

finite = st.floats(allow_nan=False, allow_infinity=False)
few = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.0 + 1e-6, 1.0 + 1e-4, 2.0, 5e-324, 1e308])  # ties, near and exact


def vectors(elements, min_size=0):
    return st.lists(elements, min_size=min_size, max_size=40).map(lambda values: np.array(values, np.float64))


calibrations = st.one_of(vectors(finite, 1), vectors(few, 1))
queries = st.one_of(vectors(finite), vectors(few))
levels = st.one_of(
    st.floats(SMALLEST, 1, exclude_min=True, exclude_max=True), st.integers(1, 40).map(lambda n: 1 / (n + 1))
)
tolerances = st.sampled_from([0.0, 1e-9, TIE_RTOL, 2e-2, 0.1])


def brute_force_rank(score, calibration, tie_rtol, scale):
    """1 + #{i : S_i >= s lowered by the tolerance}, one comparison after the other."""
    if tie_rtol and not math.isinf(score):
        score = score - tie_rtol * max(abs(score), scale)
    return 1 + sum(1 for held_out in calibration if held_out >= score)


def chi_square(counts, law, least=20.0):
    """p-value of counts against a discrete law, neighbouring values pooled until `least` are expected in each."""
    m = int(counts.max())
    observed = np.bincount(counts, minlength=m + 1)
    expected = len(counts) * law.pmf(np.arange(m + 1))
    expected[-1] += len(counts) * law.sf(m)
    seen, due, pools = 0, 0.0, []
    for o, e in zip(observed, expected, strict=True):
        seen, due = seen + o, due + e
        if due >= least:
            pools.append([seen, due])
            seen, due = 0, 0.0
    pools[-1][0] += seen
    pools[-1][1] += due
    assert len(pools) >= 8
    return stats.chisquare(*np.array(pools).T).pvalue


# ---- the definition ------------------------------------------------------------------------------------------------


def test_p_values_of_the_textbook_example():
    calibration = Calibration.fit([1, 2, 3, 4], tie_rtol=0)
    assert calibration.p_values([0, 1, 2.5, 4, 5]).tolist() == [1, 1, 0.6, 0.4, 0.2]
    assert calibration.ranks([0, 1, 2.5, 4, 5]).tolist() == [5, 5, 3, 2, 1]


@exhaustive
@given(calibrations, queries, tolerances)
def test_ranks_equal_brute_force(held_out, scores, tie_rtol):
    calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
    expected = [brute_force_rank(s, held_out.tolist(), tie_rtol, calibration.scale) for s in scores.tolist()]
    assert calibration.ranks(scores).tolist() == expected
    assert calibration.p_values(scores).tolist() == [rank / (len(held_out) + 1) for rank in expected]


@exhaustive
@given(calibrations, queries, tolerances, levels)
def test_a_score_is_flagged_exactly_where_its_p_value_is_at_most_alpha(held_out, scores, tie_rtol, alpha):
    calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
    p_values = calibration.p_values(scores)
    try:
        threshold = calibration.threshold(alpha)
    except InsufficientCalibrationError:
        assert 1 / (calibration.n + 1) > alpha
        return
    assert threshold.flag(scores).tolist() == (p_values <= alpha).tolist()
    assert threshold.flag(scores).tolist() == (calibration.ranks(scores) <= threshold.k).tolist()


@exhaustive
@given(calibrations, queries, tolerances, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_pac_threshold_flags_exactly_the_ranks_up_to_its_own(held_out, scores, tie_rtol, alpha, delta):
    calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
    try:
        threshold = calibration.threshold(alpha, kind="pac", delta=delta)
    except InsufficientCalibrationError:
        return
    assert threshold.value == np.sort(held_out)[::-1][threshold.k - 1]
    assert threshold.flag(scores).tolist() == (calibration.ranks(scores) <= threshold.k).tolist()


@exhaustive
@given(calibrations, st.lists(st.one_of(finite, few), min_size=2, max_size=40), tolerances)
def test_a_higher_score_never_has_a_higher_p_value(held_out, scores, tie_rtol):
    p_values = Calibration.fit(held_out, tie_rtol=tie_rtol).p_values(sorted(scores))
    assert (np.diff(p_values) <= 0).all()


@exhaustive
@given(calibrations, queries, tolerances, st.randoms(use_true_random=False))
def test_the_order_of_calibration_scores_changes_nothing(held_out, scores, tie_rtol, random):
    shuffled = held_out.tolist()
    random.shuffle(shuffled)
    one, other = (Calibration.fit(order, tie_rtol=tie_rtol) for order in (held_out, shuffled))
    assert one.scale == other.scale
    assert one.ranks(scores).tolist() == other.ranks(scores).tolist()


@exhaustive
@given(calibrations, queries, tolerances)
def test_tolerance_of_ties_only_raises_p_values(held_out, scores, tie_rtol):
    exact, tolerant = (Calibration.fit(held_out, tie_rtol=rtol).p_values(scores) for rtol in (0, tie_rtol))
    assert (tolerant >= exact).all()


@exhaustive
@given(calibrations)
def test_the_scale_of_ties_is_the_median_magnitude(held_out):
    magnitudes = sorted(Fraction(abs(value)) for value in held_out.tolist())
    n = len(magnitudes)
    median = (magnitudes[(n - 1) // 2] + magnitudes[n // 2]) / 2
    scale = Calibration.fit(held_out).scale
    assert math.isfinite(scale)
    assert abs(Fraction(scale) - median) <= 2 * Fraction(math.ulp(float(median)))


@exhaustive
@given(calibrations, queries)
def test_every_p_value_is_a_rank_over_n_plus_1(held_out, scores):
    calibration = Calibration.fit(held_out)
    ranks = calibration.ranks(scores)
    assert ranks.dtype == np.int64
    assert ((ranks >= 1) & (ranks <= calibration.n + 1)).all()
    assert calibration.p_values(scores).dtype == np.float64


def test_rounding_noise_of_float32_is_a_tie_and_no_more():
    calibration = Calibration.fit(np.full(99, 3.0))
    noise = np.float32(3.0) + np.float32(1e-6)
    assert calibration.p_values([noise]).tolist() == [1.0]
    assert calibration.p_values([3.001]).tolist() == [0.01]
    assert Calibration.fit(np.full(99, 3.0), tie_rtol=0).p_values([noise]).tolist() == [0.01]


@pytest.mark.parametrize("n", [1, 2, 98, 99])
def test_the_threshold_is_the_score_of_its_rank(n):
    scores = np.random.default_rng(0).normal(size=n)
    for alpha in (0.01, 1 / 3, 0.5, 0.999):
        k = marginal_rank(alpha, n)
        if k:
            threshold = Calibration.fit(scores).threshold(alpha)
            assert (threshold.value, threshold.k) == (sorted(scores, reverse=True)[k - 1], k)


def test_one_calibration_score_tells_two_p_values_apart():
    calibration = Calibration.fit([1.0], tie_rtol=0)
    assert calibration.p_values([0.0, 1.0, 2.0]).tolist() == [1.0, 1.0, 0.5]
    assert calibration.threshold(0.5).flag([0.0, 1.0, 2.0]).tolist() == [False, False, True]
    with pytest.raises(InsufficientCalibrationError):
        calibration.threshold(math.nextafter(0.5, 0))


# ---- the laws ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replicas():
    """4000 calibrations of 199 normal scores with a threshold at 5 %, and the alarms among 1000 fresh scores each."""
    rng = np.random.default_rng(3)
    values, counts = [], []
    for _ in range(4000):
        threshold = Calibration.fit(rng.normal(size=199), tie_rtol=0).threshold(0.05)
        values.append(threshold.value)
        counts.append(int(threshold.flag(rng.normal(size=1000)).sum()))
        assert threshold.k == 10
    return stats.norm.sf(values), np.array(counts)


def test_the_false_alarm_rate_given_the_calibration_follows_its_beta_law(replicas):
    rates, _ = replicas
    law = stats.beta(10, 190)
    assert stats.kstest(rates, law.cdf).pvalue > P_MIN
    assert abs(rates.mean() - 0.05) <= SIGMAS * law.std() / math.sqrt(len(rates))


def test_the_number_of_alarms_among_fresh_normals_follows_its_beta_binomial_law(replicas):
    _, counts = replicas
    assert chi_square(counts, stats.betabinom(1000, 10, 190)) > P_MIN


def test_scores_on_few_atoms_raise_no_more_alarms_than_asked_for():
    rng = np.random.default_rng(4)
    atoms, n, alpha = 20, 200, 0.05
    rates = []
    for _ in range(4000):
        p_values = Calibration.fit(rng.integers(0, atoms, n), tie_rtol=0).p_values(np.arange(atoms))
        rates.append((p_values <= alpha).mean())  # the exact rate: every atom is equally likely
    noise = SIGMAS * np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) <= alpha + noise
    assert np.mean(rates) > 0.01  # the lawful rate is positive: never flagging is no calibration


def test_the_p_value_of_a_fresh_normal_is_uniform_on_its_grid():
    rng = np.random.default_rng(5)
    n, replicas = 19, 8000
    draws = rng.exponential(size=(replicas, n + 1))
    ranks = np.array([Calibration.fit(row[:n], tie_rtol=0).ranks(row[n:])[0] for row in draws])
    assert stats.chisquare(np.bincount(ranks, minlength=n + 2)[1:]).pvalue > P_MIN


def digits_0_to_4():
    x, y = load_digits(return_X_y=True)
    return x[y <= 4]


def benign_cells():
    x, y = load_breast_cancer(return_X_y=True)
    return x[y == 1]


@pytest.mark.parametrize("normal", [digits_0_to_4, benign_cells])
def test_alarms_on_re_split_real_data_follow_their_exact_law(normal):
    """Exact by exchangeability of a random split, whatever the data and however poor the model."""
    rng = np.random.default_rng(6)
    x = rng.permutation(normal())
    fit, pool = x[: len(x) // 3], x[len(x) // 3 :]
    scale = np.where(fit.std(0) > 0, fit.std(0), 1.0)
    scores = np.unique(np.square((pool - fit.mean(0)) / scale).sum(1))  # a tie would make alarms rarer than the law
    assert len(scores) > 0.98 * len(pool)

    n, m = 99, len(scores) - 99
    k = marginal_rank(0.05, n)
    counts = []
    for _ in range(4000):
        split = rng.permutation(scores)
        counts.append(int(Calibration.fit(split[:n], tie_rtol=0).threshold(0.05).flag(split[n:]).sum()))
    counts = np.array(counts)
    law = stats.betabinom(m, k, n + 1 - k)
    assert chi_square(counts, law) > P_MIN
    assert abs(counts.mean() - m * 0.05) <= SIGMAS * law.std() / math.sqrt(len(counts))


def test_calibrating_on_rows_that_fitted_the_model_would_break_the_law():
    """The test above can tell: with the fitting rows as calibration a model that memorises alarms far too often."""
    rng = np.random.default_rng(7)
    x = rng.permutation(benign_cells())
    fit, fresh = x[:150], x[150:]

    def nearest(rows, own):
        distances = np.sort(np.linalg.norm(rows[:, None] - fit[None], axis=2), axis=1)
        return distances[:, 1 if own else 0] * (0.5 if own else 1)

    leaky = Calibration.fit(nearest(fit, own=True)).threshold(0.05)
    assert leaky.flag(nearest(fresh, own=False)).mean() > 0.1


# ---- extreme and invalid scores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tie_rtol", [0.0, TIE_RTOL, 0.1])
@pytest.mark.parametrize(
    ("score", "p_value", "flagged"),
    [
        (math.nan, math.nan, True),
        (math.inf, 1 / 100, True),
        (-math.inf, 1.0, False),
        (1e308, 1 / 100, True),
        (-1e308, 1.0, False),
        (sys.float_info.max, 1 / 100, True),
        (-sys.float_info.max, 1.0, False),
    ],
)
def test_an_extreme_score_is_decided_as_its_order_says(score, p_value, flagged, tie_rtol):
    calibration = Calibration.fit(np.arange(1.0, 100.0), tie_rtol=tie_rtol)
    np.testing.assert_array_equal(calibration.p_values([score]), [p_value])
    assert calibration.threshold(0.05).flag([score]).tolist() == [flagged]


@pytest.mark.parametrize("kind", [{}, {"kind": "pac", "delta": 0.1}])
def test_a_nan_score_is_flagged_and_leaves_its_neighbours_alone(kind):
    calibration = Calibration.fit(np.arange(1.0, 100.0))
    scores = np.array([0.0, math.nan, 200.0, math.nan])
    assert calibration.threshold(0.05, **kind).flag(scores).tolist() == [False, True, True, True]
    assert calibration.ranks(scores).tolist() == [100, 0, 1, 0]
    assert np.isnan(calibration.p_values(scores)).tolist() == [False, True, False, True]


@pytest.mark.parametrize("tie_rtol", [0.0, TIE_RTOL])
def test_negative_zero_is_zero(tie_rtol):
    for held_out in ([0.0, 1.0, 2.0], [-0.0, 1.0, 2.0]):
        calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
        assert calibration.p_values([-0.0]).tolist() == calibration.p_values([0.0]).tolist() == [1.0]


def test_denormal_scores_are_told_apart():
    tiny = 5e-324
    calibration = Calibration.fit([tiny, 2 * tiny, 3 * tiny], tie_rtol=0)
    assert calibration.p_values([0.0, tiny, 2 * tiny, 4 * tiny]).tolist() == [1.0, 1.0, 0.75, 0.25]


def test_a_denormal_score_ties_with_zero_scores_only_by_their_scale():
    assert Calibration.fit(np.zeros(9)).p_values([5e-324]).tolist() == [0.1]
    assert Calibration.fit(np.linspace(0, 1, 9)).p_values([5e-324]).tolist() == [1.0]


@pytest.mark.parametrize("tie_rtol", [0.0, TIE_RTOL])
def test_the_largest_floats_can_calibrate(tie_rtol):
    held_out = np.array([1.2e308, 1.4e308, 1.5e308, 1.7e308])
    calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
    assert calibration.p_values([1e308, 1.79e308]).tolist() == [1.0, 0.2]
    assert calibration.threshold(0.2).flag([1e308, 1.79e308]).tolist() == [False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_calibration_score_that_is_not_finite_is_refused_with_its_row(bad):
    scores = np.arange(10.0)
    scores[[3, 7]] = bad
    with pytest.raises(NonFiniteScoreError, match=r"2 of 10 .*first at row 3") as caught:
        Calibration.fit(scores)
    assert isinstance(caught.value, DeepadError)
    assert isinstance(caught.value, ValueError)


def test_calibration_without_scores_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Calibration.fit([])


@pytest.mark.parametrize("tie_rtol", [-1e-9, 0.11, math.nan, math.inf])
def test_a_tolerance_of_ties_that_is_none_is_refused(tie_rtol):
    with pytest.raises(ValueError, match="tie_rtol"):
        Calibration.fit([1.0], tie_rtol=tie_rtol)


@pytest.mark.parametrize("constant", [0.0, -3.5, 7.25, 1e300, 5e-324])
def test_equal_calibration_scores_are_reported_and_only_a_higher_score_is_flagged(constant):
    with pytest.warns(UserWarning, match="all 99 calibration scores equal"):
        calibration = Calibration.fit(np.full(99, constant), tie_rtol=0)
    assert calibration.degenerate
    higher, lower = math.nextafter(constant, math.inf), math.nextafter(constant, -math.inf)
    assert calibration.p_values([lower, constant, higher]).tolist() == [1.0, 1.0, 0.01]
    threshold = calibration.threshold(0.05)
    assert threshold.value == constant
    assert threshold.flag([lower, constant, higher]).tolist() == [False, False, True]
    assert not Calibration.fit([1.0, 2.0]).degenerate


# ---- what is accepted ----------------------------------------------------------------------------------------------

NUMPY_DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8", ">i4"]
TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64
]  # fmt: skip


def with_gaps(scores):
    wide = np.full(2 * len(scores), np.nan)
    wide[::2] = scores
    return wide[::2]


def read_only(scores):
    scores = scores.copy()
    scores.flags.writeable = False
    return scores


LAYOUTS = {
    "list": lambda scores: scores.tolist(),
    "tuple": lambda scores: tuple(scores.tolist()),
    "column": lambda scores: scores[:, None],
    "reversed twice": lambda scores: scores[::-1].copy()[::-1],
    "with gaps": with_gaps,
    "read-only": read_only,
    "tensor with gradient": lambda scores: torch.tensor(scores, requires_grad=True),
    "strided tensor": lambda scores: torch.from_numpy(scores).repeat_interleave(2)[::2],
}


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numbers_of_every_width_calibrate_alike(dtype):
    scores = np.array([0, 1, 1, 0, 1])
    assert as_scores(scores.astype(dtype)).tolist() == scores.tolist()
    assert as_scores(scores.astype(dtype)).dtype == np.float64
    assert Calibration.fit(scores.astype(dtype)).p_values(scores.astype(dtype)).tolist() == [1, 4 / 6, 4 / 6, 1, 4 / 6]


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_tensors_of_every_width_calibrate_alike(dtype):
    scores = torch.tensor([0, 1, 1, 0, 1], dtype=dtype)
    assert as_scores(scores).dtype == np.float64
    assert Calibration.fit(scores).p_values(scores).tolist() == [1, 4 / 6, 4 / 6, 1, 4 / 6]
    assert Calibration.fit(scores).threshold(0.5).flag(scores.float() + 1).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_is_read_and_left_as_it_was(layout):
    scores = np.random.default_rng(8).normal(size=31)
    given = LAYOUTS[layout](scores)
    calibration = Calibration.fit(given)
    assert calibration.scores.tolist() == sorted(scores.tolist())
    assert calibration.ranks(given).tolist() == Calibration.fit(scores).ranks(scores).tolist()
    left = given.detach().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    assert left.reshape(-1).tolist() == scores.tolist()


def test_a_cast_is_always_a_copy():
    scores = np.arange(3.0)
    assert not np.shares_memory(as_scores(scores), scores)
    tensor = torch.arange(3.0, dtype=torch.float64)
    assert not np.shares_memory(as_scores(tensor), tensor.numpy())


NO_NUMBERS = {
    "object": np.array([1, 2.5], dtype=object),
    "none": [1.0, None],
    "complex": np.array([1 + 1j]),
    "complex tensor": torch.tensor([1 + 1j]),
    "text": ["1.0"],
    "bytes": np.array([b"1"]),
    "dates": np.array(["2020-01-01"], dtype="M8[D]"),
    "masked": np.ma.masked_array([1.0, 2.0], mask=[False, True]),
}
NO_VECTORS = {
    "scalar": 1.0,
    "two columns": np.ones((3, 2)),
    "row": np.ones((1, 3)),
    "cube": np.ones((3, 1, 1)),
    "ragged": [[1.0], [2.0, 3.0]],
}


@pytest.mark.parametrize("scores", NO_NUMBERS.values(), ids=NO_NUMBERS.keys())
def test_what_is_no_real_number_is_refused(scores):
    calibration = Calibration.fit([1.0, 2.0])
    for entry in (Calibration.fit, calibration.p_values, calibration.ranks, calibration.threshold(0.5).flag):
        with pytest.raises(TypeError, match="scores"):
            entry(scores)


@pytest.mark.parametrize("scores", NO_VECTORS.values(), ids=NO_VECTORS.keys())
def test_what_is_not_one_number_a_sample_is_refused(scores):
    calibration = Calibration.fit([1.0, 2.0])
    for entry in (Calibration.fit, calibration.p_values, calibration.ranks, calibration.threshold(0.5).flag):
        with pytest.raises(ValueError, match="shape"):
            entry(scores)


def test_no_scores_have_no_p_values():
    calibration = Calibration.fit([1.0, 2.0])
    assert calibration.p_values([]).shape == calibration.ranks([]).shape == (0,)
    assert calibration.threshold(0.5).flag([]).shape == (0,)


# ---- it never changes ----------------------------------------------------------------------------------------------


def test_a_calibration_cannot_be_changed():
    calibration = Calibration.fit([3.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        calibration.scores[0] = 9.0
    for name in ("scores", "tie_rtol", "scorer_id", "scale"):
        with pytest.raises(AttributeError):
            setattr(calibration, name, 0.0)
    with pytest.raises(AttributeError):
        calibration.threshold(0.5).value = 0.0


@pytest.mark.parametrize("given", [np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)])
def test_a_calibration_keeps_its_own_scores(given):
    calibration = Calibration.fit(given)
    given[0] = 99.0
    assert calibration.scores.tolist() == [1.0, 2.0, 3.0]


def test_calibrating_and_judging_leave_the_global_random_state_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    Calibration.fit(np.arange(50.0)).p_values([1.0])
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_calibrating_does_not_import_torch():
    code = "import sys, deepad.scoring.conformal as c; c.Calibration.fit([1.0]).p_values([2.0]); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "deepad.scoring.conformal" in run.stdout.split()
    assert not {"torch", "pytorch_lightning"} & set(run.stdout.split())
