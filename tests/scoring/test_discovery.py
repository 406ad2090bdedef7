"""Selections from a batch, against SciPy, exact rationals and the false discovery rates they promise."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.errors import ResolutionError
from deepad.scoring.conformal import Calibration
from deepad.scoring.discovery import METHODS, select_fdr

pytestmark = pytest.mark.filterwarnings("ignore:with .* calibration scores at least:UserWarning")  # often on purpose

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=200)
LEVELS = (0.01, 0.05, 0.1, 0.2, 0.29, 0.3, 0.5)


def as_p(ranks, n):
    return np.asarray(ranks) / (n + 1)


def twin(ranks, q, n, method):
    """The selected, one rational comparison after the other, in O(m^2); q is the decimal that was written."""
    m = len(ranks)
    level = Fraction(str(q))
    if method == "by":
        level /= sum(Fraction(1, i) for i in range(1, m + 1))
    if method == "storey":
        middle = (n + 1) // 2
        level /= Fraction(1 + sum(r >= middle for r in ranks)) / (m * (1 - Fraction(middle, n + 1)))
    best = 0
    for r in ranks:
        i = sum(other <= r for other in ranks)
        if Fraction(r, n + 1) <= level * i / m:
            best = max(best, r)
    return [r <= best for r in ranks]


def random_batches(count):
    """Ranks with ties and with boundaries that are met exactly: many levels and sizes are short decimals."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        n = int(rng.choice([9, 19, 99, 199, 999, rng.integers(2, 500)]))
        m = int(rng.choice([1, 2, 5, 10, 20, 50, rng.integers(1, 80)]))
        skew = rng.choice([1.0, 2.0, 6.0])
        yield np.ceil((n + 1) * rng.random(m) ** skew).astype(int), float(rng.choice(LEVELS)), n


def simulate(method, *, n, m, normals, q, replicas, seed=0, shift=3.0):
    """Mean and standard error of the false discovery proportion, and mean share of anomalies found."""
    rng = np.random.default_rng(seed)
    false, found = np.empty(replicas), np.empty(replicas)
    for i in range(replicas):
        calibration = Calibration.fit(rng.normal(size=n), tie_rtol=0)
        scores = rng.normal(size=m) + shift * (np.arange(m) >= normals)
        mask = select_fdr(calibration.p_values(scores), q, n_calibration=n, method=method).mask
        false[i] = mask[:normals].sum() / max(1, mask.sum())
        found[i] = mask[normals:].mean() if normals < m else 0
    return false.mean(), false.std() / math.sqrt(replicas), found.mean()


# ---- the procedure -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bh", "by"])
def test_selections_equal_those_of_scipy_where_no_boundary_is_met(method):
    compared = 0
    for ranks, q, n in random_batches(1000):
        p = as_p(ranks, n)
        adjusted = stats.false_discovery_control(p, method=method)
        try:
            mask = select_fdr(p, q, n_calibration=n, method=method).mask
        except ResolutionError:
            assert (adjusted > q).all()
            continue
        clear = np.abs(adjusted - q) > 1e-12
        assert mask[clear].tolist() == (adjusted <= q)[clear].tolist()
        compared += 1
    assert compared > 500


@pytest.mark.parametrize("method", METHODS)
def test_selections_equal_exact_rationals_everywhere(method):
    compared, boundaries = 0, 0
    for ranks, q, n in random_batches(1000):
        try:
            mask = select_fdr(as_p(ranks, n), q, n_calibration=n, method=method).mask
        except ResolutionError:
            assert method == "storey" or not any(twin(ranks.tolist(), q, n, method))
            continue
        assert mask.tolist() == twin(ranks.tolist(), q, n, method), (ranks.tolist(), q, n)
        compared += 1
        if method != "storey":
            boundaries += (np.abs(stats.false_discovery_control(as_p(ranks, n), method=method) - q) < 1e-12).any()
    assert compared > 500
    assert method == "storey" or boundaries > 5


def test_a_level_met_exactly_selects_although_floats_disagree():
    met, lost = 0, 0
    for n in (9, 19, 99, 199, 999):
        for q in LEVELS:
            for m in range(1, 30):
                rank = Fraction(str(q)) * (n + 1) / m
                if rank.denominator == 1 and rank >= 1:
                    p = as_p([int(rank)] + [n + 1] * (m - 1), n)
                    assert select_fdr(p, q, n_calibration=n).mask.tolist() == [True] + [False] * (m - 1)
                    met, lost = met + 1, lost + (p[0] * m > q)
    assert met > 50
    assert lost > 0  # of these a product of floats would have lost some
    assert select_fdr([0.1, 1.0], 0.3, n_calibration=9, method="by").mask.tolist() == [True, False]  # 0.1 * 2 * 1.5


@exhaustive
@given(st.integers(1, 60), st.data(), st.sampled_from(METHODS), st.floats(0.01, 0.9))
def test_what_is_selected_are_the_smallest_p_values_in_any_order(n, data, method, q):
    ranks = np.array(data.draw(st.lists(st.integers(1, n + 1), min_size=1, max_size=30)))
    order = np.array(data.draw(st.permutations(range(len(ranks)))))
    try:
        selection = select_fdr(as_p(ranks, n), q, n_calibration=n, method=method)
    except ResolutionError:
        return
    shuffled = select_fdr(as_p(ranks[order], n), q, n_calibration=n, method=method)
    assert shuffled.mask.tolist() == selection.mask[order].tolist()
    if selection.mask.any():
        assert selection.mask.tolist() == (as_p(ranks, n) <= selection.threshold).tolist()
        assert selection.mask.sum() >= selection.min_batch
    else:
        assert selection.threshold is None
    stricter = select_fdr(as_p(ranks, n), min(0.95, q * 1.05), n_calibration=n, method=method)
    assert (stricter.mask >= selection.mask).all()


# ---- what is promised ----------------------------------------------------------------------------------------------


def test_the_false_discovery_rate_is_that_of_the_theory_where_nothing_is_lost_to_rounding():
    # q (n+1)/m = 1 is whole: the rate is then exactly q times the share of normal samples
    rate, error, found = simulate("bh", n=1999, m=200, normals=180, q=0.1, replicas=6000)
    assert abs(rate - 0.09) <= SIGMAS * error
    assert error < 0.0012
    assert found > 0.5


@pytest.mark.parametrize(
    ("n", "m", "normals", "q"), [(1000, 200, 180, 0.1), (99, 40, 40, 0.3), (199, 50, 25, 0.2), (49, 20, 10, 0.5)]
)
@pytest.mark.parametrize("method", METHODS)
def test_the_false_discovery_rate_is_kept(method, n, m, normals, q):
    rate, error, _ = simulate(method, n=n, m=m, normals=normals, q=q, replicas=2000, seed=1)
    bound = q if method == "storey" else q * normals / m
    assert rate <= bound + SIGMAS * max(error, math.sqrt(0.01 / 2000))


def test_an_adapted_level_keeps_its_promise_for_few_scores_and_large_batches():
    # the plain estimate, the share of p > 1/2 over 1/2, reaches 0.33 with five scores where the promise is 0.5
    for n, m, normals, q in [(9, 50, 50, 0.3), (19, 200, 150, 0.2), (5, 300, 290, 0.5)]:
        rate, error, _ = simulate("storey", n=n, m=m, normals=normals, q=q, replicas=2000, seed=2)
        assert rate <= q + SIGMAS * error


def test_adapting_to_many_anomalies_finds_more_and_distrusting_dependence_less():
    found = {method: simulate(method, n=999, m=100, normals=50, q=0.1, replicas=500, seed=3)[2] for method in METHODS}
    assert found["by"] + 0.1 < found["bh"]
    assert found["bh"] + 0.02 < found["storey"]


def test_flagging_at_q_itself_does_not_keep_the_false_discovery_rate():
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(300):
        calibration = Calibration.fit(rng.normal(size=1000), tie_rtol=0)
        p = calibration.p_values(rng.normal(size=200) + 3.0 * (np.arange(200) >= 180))
        shares.append((p[:180] <= 0.1).sum() / max(1, (p <= 0.1).sum()))
    assert np.mean(shares) > 0.3


# ---- the smallest selection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "q", "least"), [(1000, 200, 0.1, 2), (200, 200, 0.1, 10), (1999, 200, 0.1, 1)])
def test_the_smallest_selection_of_the_examples(n, m, q, least):
    assert select_fdr(np.ones(m), q, n_calibration=n).min_batch == least


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("n", "m", "q"), [(999, 100, 0.05), (99, 100, 0.1), (200, 200, 0.1), (19, 30, 0.29), (9, 4, 0.3)]
)
def test_the_smallest_selection_is_possible_and_none_below_it(method, n, m, q):
    def selected(count):
        p = np.full(m, 1.0)
        p[:count] = 1 / (n + 1)
        return select_fdr(p, q, n_calibration=n, method=method)

    sizes = [(selected(count).mask.sum(), selected(count).min_batch) for count in range(1, m + 1)]
    for count, (size, least) in enumerate(sizes, start=1):
        assert size == (count if count >= least else 0) or (method == "storey" and size == m)
    assert method == "storey" or len({least for _, least in sizes}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_selection_possible_only_in_bulk_is_warned_of_with_the_number_that_would_do(method):
    p, q = np.ones(200), 0.5 if method == "by" else 0.05
    with pytest.warns(UserWarning, match=r"with 100 calibration scores at least \d+ of the 200 samples") as caught:
        select_fdr(p, q, n_calibration=100, method=method)
    needed = int(str(caught[0].message).split(": ")[1].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_fdr(p, q, n_calibration=needed, method=method)
    with pytest.warns(UserWarning, match="of the 200"):
        select_fdr(p, q, n_calibration=needed - 1, method=method)


def test_small_batches_that_single_samples_out_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert select_fdr(np.ones(5), 0.1, n_calibration=99).min_batch == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("q", "n"), [(0.1, 8), (0.05, 18), (0.01, 50)])
def test_what_can_never_select_is_refused_with_the_number_that_could(method, q, n):
    with pytest.raises(ResolutionError, match=rf"q={q:g} can select nothing from a batch of 30 with {n}") as caught:
        select_fdr(np.full(30, 1 / (n + 1)), q, n_calibration=n, method=method)
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    assert method == "by" or needed == math.ceil(1 / Fraction(str(q))) - 1
    enough = select_fdr(np.full(30, 1 / (needed + 1)), q, n_calibration=needed, method=method)
    assert method == "storey" or enough.mask.all()
    with pytest.raises(ResolutionError):
        select_fdr(np.full(30, 1 / needed), q, n_calibration=needed - 1, method=method)


# ---- what could not be scored, and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_invalid_sample_is_no_test_and_not_normal_either(method):
    rng = np.random.default_rng(5)
    p = as_p(np.ceil(1000 * rng.random(60) ** 4), 999)
    holes = np.insert(p, [0, 7, 60], np.nan)
    with_holes, without = (select_fdr(values, 0.2, n_calibration=999, method=method) for values in (holes, p))
    assert with_holes.invalid.nonzero()[0].tolist() == np.isnan(holes).nonzero()[0].tolist()
    assert not without.invalid.any()
    assert with_holes.mask[~with_holes.invalid].tolist() == without.mask.tolist()
    assert not with_holes.mask[with_holes.invalid].any()
    assert without.mask.any()
    assert (with_holes.min_batch, with_holes.pi0, with_holes.threshold) == (
        without.min_batch, without.pi0, without.threshold,
    )  # fmt: skip
    assert "3 more could not be scored" in str(with_holes)
    assert "scored" not in str(without)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("p", [[], [math.nan, math.nan]])
def test_a_batch_without_tests_selects_nothing(method, p):
    selection = select_fdr(p, 0.1, n_calibration=3, method=method)
    assert selection.mask.tolist() == [False] * len(p)
    assert selection.invalid.tolist() == [True] * len(p)
    assert (selection.min_batch, selection.threshold) == (0, None)


@pytest.mark.parametrize("p", [0.0, -0.1, 1.01, 0.123, math.inf, -math.inf, 1e-300])
def test_p_values_of_another_calibration_are_refused(p):
    with pytest.raises(ValueError, match=r"no k/\(n_calibration \+ 1\) with k = 1..100 \(first at row 1"):
        select_fdr([0.5, p], 0.1, n_calibration=99)


@pytest.mark.parametrize("n", [0, -1, 99.0, True, "99", None])
def test_a_number_of_calibration_scores_that_is_none_is_refused(n):
    with pytest.raises(ValueError, match="n_calibration must be"):
        select_fdr([0.5], 0.1, n_calibration=n)


@pytest.mark.parametrize("q", [0, 1, -0.1, 5, math.nan])
def test_a_rate_outside_0_and_1_is_refused(q):
    with pytest.raises(ValueError, match="q must lie"):
        select_fdr([0.5], q, n_calibration=99)


@pytest.mark.parametrize("method", ["", "BH", "fdr_bh", None])
def test_an_unknown_method_is_refused_with_the_known_ones(method):
    with pytest.raises(ValueError, match="bh, by, storey"):
        select_fdr([0.5], 0.1, n_calibration=99, method=method)


def test_a_large_batch_is_selected_from_at_once():
    rng = np.random.default_rng(6)
    n, m = 10**6 - 1, 200_000
    ranks = np.ceil((n + 1) * rng.random(m) ** 2)
    for method in ("bh", "by"):
        adjusted = stats.false_discovery_control(as_p(ranks, n), method=method)
        mask = select_fdr(as_p(ranks, n), 0.9, n_calibration=n, method=method).mask
        assert mask.tolist() == (adjusted <= 0.9).tolist()
        assert 0 < mask.sum() < m
