"""Ranks and what they promise, against exact rationals, exact laws and simulation."""

import json
import math
import re
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
from conftest import within
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.errors import DeepadError, InsufficientCalibrationError
from deepad.scoring.conformal import Calibration
from deepad.scoring.envelope import envelope_bounds
from deepad.scoring.guarantee import ASSUMPTIONS, Guarantee, GuaranteeKind
from deepad.scoring.promise import block_guarantee, guaranteed_rank, required_n
from deepad.scoring.ranks import block_rank, marginal_rank, pac_rank, simultaneous_rank

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=200)

PAC_RANKS = [
    (58, 0.05, 0.05, 0),
    (59, 0.05, 0.05, 1),
    (93, 0.05, 0.05, 2),
    (500, 0.05, 0.05, 17),
    (1000, 0.05, 0.05, 39),
    (298, 0.01, 0.05, 0),
    (299, 0.01, 0.05, 1),
    (1000, 0.01, 0.05, 5),
    (10_000, 0.01, 0.05, 84),
    (10_000, 0.001, 0.05, 5),
]
DELTAS = (None, 0.1, 0.05, 0.01)
REQUIRED = {
    0.05: (19, 45, 59, 90),
    0.01: (99, 230, 299, 459),
    0.001: (999, 2302, 2995, 4603),
    0.0001: (9999, 23025, 29956, 46050),
}
REQUIRED_CELLS = [
    (alpha, delta, n) for alpha, row in REQUIRED.items() for delta, n in zip(DELTAS, row, strict=True)
]  # fmt: skip


PROMISES = [{}] + [{"kind": kind, "delta": d} for kind in ("pac", "simultaneous") for d in (0.5, 0.1, 0.05, 1e-3, 1e-6)]
every_promise = pytest.mark.parametrize("how", PROMISES, ids=lambda how: "-".join(map(str, how.values())) or "marginal")


def kind_of(delta):
    return {} if delta is None else {"kind": "pac", "delta": delta}


def refusal(alpha, n, **how):
    with pytest.raises(InsufficientCalibrationError) as caught:
        guaranteed_rank(alpha, n, **how)
    return caught.value


# ---- ranks ---------------------------------------------------------------------------------------------------------


def test_the_rank_equals_the_exact_rational_one_on_a_grid():
    sizes = {*range(60), 99, 100, 199, 999, 1000, 4999, 5000}
    sizes |= set(np.random.default_rng(0).integers(60, 5000, 200).tolist())
    wrong = [
        (i, n) for n in sorted(sizes) for i in range(1, 1000)
        if marginal_rank(i / 1000, n) != math.floor(Fraction(i, 1000) * (n + 1))
    ]  # fmt: skip
    assert wrong == []


def test_the_rank_is_not_lost_to_a_rounded_product():
    assert math.floor(0.29 * (99 + 1)) == 28  # what floats say
    assert marginal_rank(0.29, 99) == 29 == Fraction(29, 100) * 100


@exhaustive
@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(0, 200))
@example(0.29, 99)
@example(math.nextafter(0.29, 0), 99)
@example(math.nextafter(0.29, 1), 99)
def test_the_rank_is_the_largest_whose_p_value_is_at_most_alpha(alpha, n):
    p_values = [k / (n + 1) for k in range(1, n + 2)]
    assert marginal_rank(alpha, n) == sum(p <= alpha for p in p_values)


@exhaustive
@given(st.integers(1, 10**6), st.data())
def test_a_level_that_is_a_p_value_gives_its_own_rank(n, data):
    k = data.draw(st.integers(1, n))
    level = k / (n + 1)
    assert marginal_rank(level, n) == k
    assert marginal_rank(math.nextafter(level, 0), n) == k - 1


@pytest.mark.parametrize(("n", "alpha", "delta", "k"), PAC_RANKS)
def test_the_pac_rank_has_its_published_values(n, alpha, delta, k):
    assert pac_rank(alpha, n, delta) == k


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.5])
def test_the_pac_rank_equals_a_linear_search_over_the_binomial_tail(alpha, delta):
    for n in (1, 2, 10, 59, 100, 300, 777):
        # P(Bin(n, alpha) >= k) falls with k; where it ties with 1 - delta to rounding, both answers are right
        tail = stats.binom.sf(np.arange(1, n + 1) - 1, n, alpha)
        low, high = ((tail >= 1 - delta + slack).sum() for slack in (1e-12, -1e-12))
        assert low <= pac_rank(alpha, n, delta) <= high


def naive_envelope(n, delta):
    """The bounds of the simultaneous envelope by sums of logarithms, one rank at a time."""
    h = max(1, n // 2)
    logs = [math.fsum(math.log(i - j) - math.log(n - j) for j in range(h)) for i in range(n, h - 1, -1)]
    return np.array([1 - math.exp((math.log(delta) + log) / h) for log in logs] + [1.0] * (h - 1))


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 45, 100, 301])
def test_the_simultaneous_rank_equals_a_linear_search_over_the_envelope(n, delta):
    bounds = naive_envelope(n, delta)
    for alpha in (0.001, 0.01, 0.05, 0.1, 0.3, 0.6, 0.9, 0.99):
        low, high = ((bounds <= alpha + slack).sum() for slack in (-1e-12, 1e-12))
        assert low <= simultaneous_rank(alpha, n, delta) <= high
    for k in (1, n // 3 + 1):
        at = float(envelope_bounds(n, delta, k))
        assert simultaneous_rank(at, n, delta) >= k > simultaneous_rank(at - 1e-9, n, delta)


@exhaustive
@given(st.floats(1e-3, 0.9), st.integers(1, 3000), st.floats(1e-3, 0.3))
def test_a_stronger_promise_never_has_a_lower_threshold(alpha, n, delta):
    assert simultaneous_rank(alpha, n, delta) <= pac_rank(alpha, n, delta) <= marginal_rank(alpha, n)


def test_the_block_rank_equals_the_exact_rational_one_on_a_grid():
    wrong = []
    for slots in (1, 2, 5, 24):
        for blocks in (1, 2, 9, 20, 39, 99):
            for i in range(1, 1000 * slots, 7 * slots):
                exact = math.floor(Fraction(i, 1000) * (blocks + 1)) + 1 - slots
                if block_rank(i / 1000, blocks, slots) != min(max(exact, 0), blocks * slots):
                    wrong.append((i, blocks, slots))
    assert wrong == []


def test_the_block_rank_of_single_slots_is_the_marginal_one():
    for n in (1, 19, 99, 500):
        assert [block_rank(i / 1000, n, 1) for i in range(1, 1000)] == [
            marginal_rank(i / 1000, n) for i in range(1, 1000)
        ]


# ---- how many scores are needed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "delta", "n"), REQUIRED_CELLS)
def test_the_required_number_of_scores_has_its_published_values(alpha, delta, n):
    assert required_n(alpha, **kind_of(delta)) == n


@every_promise
@pytest.mark.parametrize("alpha", [1e-7, 1.1085843432430005e-06, 1e-5, 0.0123, 0.05, 1 / 3, 0.5, 0.75, 0.999])
def test_one_score_less_than_required_is_refused_and_the_required_number_suffices(alpha, how):
    n = required_n(alpha, **how)
    k, _ = guaranteed_rank(alpha, n, **how)
    assert k == 1 or (k > 1 and how.get("kind") == "simultaneous")  # whose bounds step at even n only
    if n > 1:
        assert refusal(alpha, n - 1, **how).needed == n


@pytest.mark.parametrize("delta", DELTAS[1:])
@pytest.mark.parametrize("alpha", REQUIRED)
def test_all_thresholds_at_once_need_twice_the_scores_of_a_single_one(alpha, delta):
    assert required_n(alpha, kind="simultaneous", delta=delta) == 2 * required_n(alpha, kind="pac", delta=delta)


@pytest.mark.parametrize("alpha", [1e-12, 2.1817705849268814e-29, 1.0316313754778766e-38, 1.1e-300])
@every_promise
def test_a_hopelessly_small_level_is_refused_at_once(alpha, how):
    with within(5):
        assert refusal(alpha, 200, **how).needed > 1e11


# ---- what the promise is worth -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "alpha", "delta"), [cell[:3] for cell in PAC_RANKS if cell[3]])
def test_a_pac_threshold_exceeds_alpha_with_probability_at_most_delta_and_the_next_rank_does_not(n, alpha, delta):
    k, guarantee = guaranteed_rank(alpha, n, kind="pac", delta=delta)
    assert stats.beta.sf(alpha, k, n + 1 - k) <= delta < stats.beta.sf(alpha, k + 1, n - k)
    assert guarantee.attained <= alpha
    np.testing.assert_allclose(stats.beta.sf(guarantee.attained, k, n + 1 - k), delta, rtol=1e-9)


@pytest.mark.parametrize(("n", "alpha", "delta"), [(100, 0.05, 0.05), (500, 0.05, 0.05), (300, 0.01, 0.1)])
def test_simulated_pac_thresholds_exceed_alpha_as_often_as_the_beta_law_says(n, alpha, delta):
    replicas = 4000
    draws = np.random.default_rng(1).random((replicas, n))  # uniform scores: the false-alarm rate of t is 1 - t
    rates = np.array([
        1 - Calibration.fit(draw, tie_rtol=0).threshold(alpha, kind="pac", delta=delta).value for draw in draws
    ])  # fmt: skip
    k, guarantee = guaranteed_rank(alpha, n, kind="pac", delta=delta)
    for level, exact in [(alpha, stats.beta.sf(alpha, k, n + 1 - k)), (guarantee.attained, delta)]:
        noise = SIGMAS * math.sqrt(exact * (1 - exact) / replicas)
        assert abs((rates > level).mean() - exact) <= noise
        assert exact <= delta + 1e-9


@exhaustive
@given(st.floats(1e-3, 0.9), st.integers(1, 3000), st.sampled_from([None, 0.01, 0.1, 0.5]))
def test_the_attained_level_never_exceeds_the_level_asked_for(alpha, n, delta):
    try:
        k, guarantee = guaranteed_rank(alpha, n, **kind_of(delta))
    except InsufficientCalibrationError:
        return
    assert 0 < guarantee.attained <= alpha == guarantee.alpha
    assert (guarantee.k, guarantee.n, guarantee.delta) == (k, n, delta)
    if delta is None:
        assert guarantee.attained == k / (n + 1)


@exhaustive
@given(st.floats(1e-3, 0.9), st.integers(1, 2000), st.floats(1e-3, 0.5), st.floats(0, 0.4))
def test_a_surer_pac_promise_never_has_a_lower_threshold(alpha, n, delta, less_sure):
    assert pac_rank(alpha, n, delta) <= pac_rank(alpha, n, delta + less_sure)
    assert pac_rank(alpha, n, delta) <= pac_rank(alpha, n + 1, delta) <= pac_rank(alpha, n, delta) + 1


def test_tiers_of_one_envelope_hold_together_and_tiers_of_their_own_do_not():
    replicas, delta, levels = 4000, 0.1, (0.3, 0.2, 0.1, 0.05)
    n = required_n(levels[-1], kind="simultaneous", delta=delta)
    rates = 1 - np.sort(np.random.default_rng(3).random((replicas, n)))[:, ::-1]  # uniform scores
    broken = {}
    for kind in ("simultaneous", "pac"):
        ranks = [guaranteed_rank(level, n, kind=kind, delta=delta)[0] for level in levels]
        assert ranks == sorted(ranks, reverse=True)
        broken[kind] = (rates[:, np.array(ranks) - 1] > levels).any(axis=1).mean()
    noise = SIGMAS * math.sqrt(delta * (1 - delta) / replicas)
    assert broken["simultaneous"] <= delta + noise
    assert broken["pac"] > delta + noise


@exhaustive
@given(st.floats(1e-3, 0.9), st.integers(1, 3000), st.sampled_from([0.01, 0.1, 0.5]))
def test_a_simultaneous_promise_attains_the_bound_of_its_rank(alpha, n, delta):
    try:
        k, guarantee = guaranteed_rank(alpha, n, kind="simultaneous", delta=delta)
    except InsufficientCalibrationError:
        return
    assert guarantee.attained == min(alpha, envelope_bounds(n, delta, k))
    assert guarantee.assumptions == ASSUMPTIONS["simultaneous"]
    assert (guarantee.kind, guarantee.k, guarantee.n, guarantee.delta) == ("simultaneous", k, n, delta)


# ---- blocks --------------------------------------------------------------------------------------------------------

BUDGETS = [(0.05, 1), (0.4, 4), (1.0, 4), (2.5, 24), (0.999, 7)]


@pytest.mark.parametrize(("budget", "slots"), BUDGETS)
@pytest.mark.parametrize("blocks", [19, 20, 39, 99, 1000])
def test_the_expected_alarms_of_a_block_are_within_the_budget_whether_slots_are_equal_or_independent(
    budget, slots, blocks
):
    with suppress(InsufficientCalibrationError):
        guarantee = block_guarantee(budget, blocks, slots, "day")
        k, n = guarantee.k, blocks * slots
        independent = Fraction(slots * k, n + 1)  # each slot is above the k-th largest of n with probability k/(n+1)
        together = Fraction(slots * -(-k // slots), blocks + 1)  # a block is above as a whole, or as a whole not
        assert max(independent, together) <= Fraction(guarantee.attained) * (1 + Fraction(1, 10**15))
        assert guarantee.attained <= budget < (k + slots) / (blocks + 1)
        assert (guarantee.n, guarantee.slots, guarantee.unit) == (n, slots, "day")


def test_a_threshold_for_blocks_without_room_for_the_new_one_would_exceed_the_budget():
    budget, blocks, slots = 0.4, 39, 4
    careless = math.floor(budget * (blocks + 1))
    assert slots * careless / (blocks * slots + 1) > budget
    assert block_rank(budget, blocks, slots) == careless - slots + 1


@pytest.mark.parametrize(("budget", "slots"), [*BUDGETS, (0.6, 24), (0.36, 27), (0.3, 6), (1e-9, 3), (11.5, 12)])
def test_too_few_blocks_are_refused_with_the_smallest_number_that_would_do(budget, slots):
    needed = next(b for b in range(1, 10**4) if slots / (b + 1) <= budget) if budget > 1e-3 else None
    if needed == 1:
        assert block_guarantee(budget, 1, slots, "day").k >= 1
        return
    with pytest.raises(InsufficientCalibrationError) as caught:
        block_guarantee(budget, 1, slots, "day")
    error = caught.value
    assert error.n == 1
    assert needed in (None, error.needed)
    assert block_guarantee(budget, error.needed, slots, "day").k >= 1
    with pytest.raises(InsufficientCalibrationError, match=f"needs at least {error.needed} normal blocks, got"):
        block_guarantee(budget, error.needed - 1, slots, "day")


@pytest.mark.parametrize("blocks", [1, 2, 6, 13, 199])
@pytest.mark.parametrize("slots", [1, 3, 7, 96])
def test_the_budget_that_a_refusal_advises_works_and_is_the_best_but_for_rounding(blocks, slots):
    with pytest.raises(InsufficientCalibrationError) as caught:
        block_guarantee(1e-4, blocks, slots, "day")
    advised = float(re.search(r"a budget >= ([\d.e-]+)", str(caught.value))[1])
    assert block_guarantee(advised, blocks, slots, "day").k == 1
    assert advised <= slots / (blocks + 1) * 1.011
    assert ("longer slots" in caught.value.options) == (slots > 1)


@pytest.mark.parametrize("budget", [0, -1, 4, 5.5, math.nan, math.inf])
def test_a_budget_outside_the_slots_of_a_block_is_refused(budget):
    with pytest.raises(ValueError, match="strictly between 0 and the 4 slots of a shift"):
        block_guarantee(budget, 100, 4, "shift")


# ---- words ---------------------------------------------------------------------------------------------------------


def told(words):
    """The level in the words, as a number."""
    share = re.search(r"at most ([\d.e-]+)( %)?", words)
    return float(share[1]) / (100 if share[2] else 1)


@pytest.mark.parametrize("attained", [1e-9, 0.0012345678, 0.04999999, 0.05, 0.123449, 0.5, 0.99999499, 1.0])
@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-5, 1e-14])
@pytest.mark.parametrize("kind", GuaranteeKind)
def test_the_words_of_no_kind_promise_more_than_it_holds(kind, delta, attained):
    stated_delta = delta if kind in ("pac", "simultaneous") else None
    guarantee = Guarantee(kind, 0.5, attained, 700, 7, stated_delta, ASSUMPTIONS[kind])
    words = str(guarantee)
    assert "\n" not in words
    assert words.startswith("no guarantee") == (kind in ("model", "none"))
    if kind in ("budget", "none"):
        assert "at most" not in words
        return
    assert attained <= told(words) * (1 + 1e-12)
    if stated_delta:
        sure = re.search(r"with probability (1 - [\d.e-]+|[\d.e-]+) over", words)[1]
        unlucky = Fraction(sure[4:]) if sure.startswith("1 - ") else 1 - Fraction(sure)
        assert Fraction(delta) <= unlucky * (1 + Fraction(1, 10**12))
        assert ("every threshold at once" in words) == (kind == "simultaneous")


@pytest.mark.parametrize("attained", [0.0012345678, 0.123449, 0.99996, 1.23449, 17.00004])
def test_the_words_about_blocks_never_understate_the_alarms(attained):
    guarantee = Guarantee(GuaranteeKind.BLOCK, 20.0, attained, 240, 1, None, ASSUMPTIONS["block"], 24, "day")
    assert attained <= told(str(guarantee)) <= attained * 1.0011
    assert "each of its 24 slots" in str(guarantee)
    assert "the 10 calibrated on" in str(guarantee)


def test_a_threshold_without_a_rank_says_why_it_has_no_guarantee():
    guarantee = Guarantee(GuaranteeKind.NONE, 0.01, 0.3, 100, 0, None, ("a heuristic", "nothing holds"))
    assert str(guarantee) == "no guarantee: a heuristic; nothing holds (asked: 0.01)"


def test_a_guarantee_says_what_it_is_in_words_and_in_plain_values():
    for delta in (None, 0.1):
        _, guarantee = guaranteed_rank(0.05, 200, **kind_of(delta))
        plain = guarantee.to_dict()
        assert json.loads(json.dumps(plain)) == plain
        assert plain["kind"] == ("marginal" if delta is None else "pac")
        assert any("fixed before calibration" in assumption for assumption in plain["assumptions"])
        assert "200 calibration samples" in str(guarantee)
        assert "0.05" in str(guarantee)


# ---- how many alarms to expect -------------------------------------------------------------------------------------


def beta_binomial(m, a, b):
    """P(V = v) for v = 0..m, from the definition."""
    lgamma, log = math.lgamma, []
    for v in range(m + 1):
        choose = lgamma(m + 1) - lgamma(v + 1) - lgamma(m - v + 1)
        ratio = lgamma(v + a) + lgamma(m - v + b) - lgamma(m + a + b) - lgamma(a) - lgamma(b) + lgamma(a + b)
        log.append(choose + ratio)
    return np.exp(log)


@pytest.mark.parametrize(("n", "expected"), [(999, (46, 174)), (9999, (74, 129))])
def test_the_range_of_future_alarms_has_its_published_values(n, expected):
    assert guaranteed_rank(0.01, n)[1].future_alarms(10_000) == expected


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("alpha", "n", "m"), [(0.05, 199, 1000), (0.01, 99, 1), (0.5, 1, 7), (0.3, 50, 400)])
def test_the_range_of_future_alarms_leaves_out_at_most_half_the_rest_on_each_side(alpha, n, m, level):
    k, guarantee = guaranteed_rank(alpha, n)
    low, high = guarantee.future_alarms(m, level=level)
    law = beta_binomial(m, k, n + 1 - k)
    rest = (1 - level) / 2
    assert law[:low].sum() <= rest + 1e-9 < law[: low + 1].sum() + 2e-9
    assert law[high + 1 :].sum() <= rest + 1e-9 < law[high:].sum() + 2e-9


@pytest.mark.parametrize(
    "how", [{}, {"kind": "pac", "delta": 0.1}, {"kind": "simultaneous", "delta": 0.1}], ids=["marginal", "pac", "all"]
)
def test_simulated_alarms_fall_into_their_range_as_often_as_it_says(how):
    replicas, n, m, alpha, level = 4000, 199, 1000, 0.05, 0.95
    rng = np.random.default_rng(2)
    _, guarantee = guaranteed_rank(alpha, n, **how)
    low, high = guarantee.future_alarms(m, level=level)
    inside = 0
    for _ in range(replicas):
        threshold = Calibration.fit(rng.random(n), tie_rtol=0).threshold(alpha, **how)
        inside += low <= rng.binomial(m, 1 - threshold.value) <= high
    share = beta_binomial(m, guarantee.k, n + 1 - guarantee.k)[low : high + 1].sum()
    assert level <= share
    assert abs(inside / replicas - share) <= SIGMAS * math.sqrt(share * (1 - share) / replicas)


def test_the_range_of_alarmed_blocks_is_that_of_samples_if_a_block_has_one_slot_and_unknown_if_it_has_more():
    blocks = block_guarantee(0.05, 199, 1, "day")
    assert blocks.future_alarms(500) == guaranteed_rank(0.05, 199)[1].future_alarms(500)
    assert block_guarantee(0.5, 199, 4, "day").future_alarms(500) is None


@pytest.mark.parametrize("kind", ["cross", "budget", "model", "none"])
def test_alarms_under_a_promise_without_a_law_have_no_range(kind):
    assert Guarantee(GuaranteeKind(kind), 0.05, 0.05, 100, 5, None, ASSUMPTIONS[kind]).future_alarms(10) is None


@pytest.mark.parametrize("m", [0, -1])
def test_a_range_for_no_samples_is_refused(m):
    with pytest.raises(ValueError, match="at least 1"):
        guaranteed_rank(0.05, 100)[1].future_alarms(m)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        guaranteed_rank(0.05, 100)[1].future_alarms(10, level=level)


# ---- refusals ------------------------------------------------------------------------------------------------------

ENTRIES = {
    "required_n": required_n,
    "guaranteed_rank": lambda alpha, **how: guaranteed_rank(alpha, 1000, **how),
    "threshold": lambda alpha, **how: Calibration.fit(np.arange(1000.0)).threshold(alpha, **how),
}


@pytest.fixture(params=ENTRIES, name="entry")
def _entry(request):
    return ENTRIES[request.param]


@pytest.mark.parametrize("alpha", [0, 1, 0.0, 1.0, -1, -0.05, 5, math.inf, math.nan])
def test_a_level_outside_0_and_1_is_refused(entry, alpha):
    with pytest.raises(ValueError, match="alpha"):
        entry(alpha)


@pytest.mark.parametrize("alpha", ["0.05", True, False, None, [0.05], 0.05j])
def test_a_level_that_is_no_number_is_refused(entry, alpha):
    with pytest.raises(TypeError, match="alpha"):
        entry(alpha)


@pytest.mark.parametrize("kind", ["pac", "simultaneous"])
def test_a_kind_with_delta_is_refused_without_it(entry, kind):
    with pytest.raises(ValueError, match=f"kind='{kind}' needs delta"):
        entry(0.05, kind=kind)


def test_a_kind_without_delta_is_refused_with_it(entry):
    with pytest.raises(ValueError, match=r"delta=0\.1 belongs to kind='pac' or 'simultaneous'"):
        entry(0.05, kind="marginal", delta=0.1)


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan])
def test_a_delta_outside_0_and_1_is_refused(entry, delta):
    with pytest.raises(ValueError, match="delta"):
        entry(0.05, kind="pac", delta=delta)


@pytest.mark.parametrize("kind", ["", "PAC", "quantile", "cross"])
def test_an_unknown_kind_is_refused_with_the_known_ones(entry, kind):
    with pytest.raises(ValueError, match="marginal, pac"):
        entry(0.05, kind=kind)


@pytest.mark.parametrize(
    ("alpha", "n", "delta", "needed"),
    [(0.001, 200, None, 999), (0.01, 98, None, 99), (0.05, 58, 0.05, 59), (0.01, 200, 0.1, 230)],
)
def test_a_refusal_names_what_there_is_and_what_is_needed(alpha, n, delta, needed):
    error = refusal(alpha, n, **kind_of(delta))
    assert isinstance(error, DeepadError)
    assert isinstance(error, ValueError)
    assert (error.n, error.needed) == (n, needed)
    assert f"alpha={alpha:g}" in str(error)
    assert f"at least {needed} calibration scores, got {n}" in str(error)


def best_level(n, kind="marginal", delta=None):
    """The smallest level that n scores can promise."""
    if kind == "marginal":
        return 1 / (n + 1)
    return -math.expm1(math.log(delta) / (n if kind == "pac" else max(1, n // 2)))


@every_promise
def test_the_level_a_refusal_advises_works_and_is_the_best_but_for_rounding(how):
    for n in [*range(1, 31), 99, 100, 199, 200, 500, 999, 1000]:
        message = str(refusal(1e-4, n, **how))
        advised = float(re.search(r"alpha >= ([\d.e-]+)", message)[1])
        assert guaranteed_rank(advised, n, **how)[0] >= 1, message
        assert advised <= best_level(n, **how) * 1.011, message  # three digits


@pytest.mark.parametrize("kind", ["pac", "simultaneous"])
@pytest.mark.parametrize(("alpha", "n"), [(0.05, 30), (0.001, 200), (0.01, 98), (0.2, 3)])
def test_a_refused_promise_advises_a_marginal_one_only_where_that_exists(alpha, n, kind):
    error = refusal(alpha, n, kind=kind, delta=0.05)
    assert ("kind='marginal'" in error.options) == (marginal_rank(alpha, n) > 0)


@every_promise
@pytest.mark.parametrize("n", [0, 1, 19, 150])
def test_a_refusal_lists_its_ways_out_in_the_order_of_its_message(n, how):
    error = refusal(0.001, n, **how)
    assert str(error).endswith(f": use {', or '.join(error.options)}")
    assert "\n" not in str(error)
    assert sum(option.startswith("alpha >= ") for option in error.options) == (n > 0)
    assert "more normal data for calibration" in error.options


@pytest.mark.parametrize("how", [{}, {"kind": "pac", "delta": 0.1}, {"kind": "simultaneous", "delta": 0.1}])
@pytest.mark.parametrize(("alpha", "n"), [(0.001, 200), (0.01, 90)])
def test_following_the_advice_of_more_data_works(alpha, n, how):
    needed = refusal(alpha, n, **how).needed
    k, guarantee = guaranteed_rank(alpha, needed, **how)
    assert k == 1
    assert guarantee.attained <= alpha


@pytest.mark.parametrize("n", [1, 19, 99, 323, 5405, 10**6 - 1])
def test_the_percentage_told_never_understates_the_level(n):
    for alpha in (0.6, 0.05, 0.01, 1e-4, 1e-6):
        with suppress(InsufficientCalibrationError):
            _, guarantee = guaranteed_rank(alpha, n)
            told = float(re.search(r"at most ([\d.e-]+) %", str(guarantee))[1]) / 100
            assert guarantee.attained <= told * (1 + 1e-12)
            assert told <= guarantee.attained * 1.0011


# ---- no promise ----------------------------------------------------------------------------------------------------


@exhaustive
@given(st.floats(1e-3, 0.9), st.integers(1, 3000))
def test_without_a_promise_the_rank_is_the_marginal_one_and_nothing_follows_from_it(alpha, n):
    try:
        k, marginal = guaranteed_rank(alpha, n)
    except InsufficientCalibrationError:
        with pytest.raises(InsufficientCalibrationError, match=r"\(none\) needs at least"):
            guaranteed_rank(alpha, n, kind="none")
        return
    same, nominal = guaranteed_rank(alpha, n, kind="none")
    assert (same, nominal.attained) == (k, marginal.attained)
    assert nominal.future_alarms(100) is None
    assert nominal.delta is None


def test_a_guarantee_that_is_none_says_so():
    _, nominal = guaranteed_rank(0.05, 200, kind="none")
    assert str(nominal).startswith("no guarantee: the 200 calibration scores depend on each other")
    assert "at most" not in str(nominal)
    assert nominal.to_dict()["kind"] == "none"
    assert "not promised" in nominal.assumptions[0]
    with pytest.raises(ValueError, match=r"delta=0\.1 belongs to kind='pac' or 'simultaneous'; kind='none' takes none"):
        guaranteed_rank(0.05, 200, kind="none", delta=0.1)
    with pytest.raises(ValueError, match="at least 1"):
        nominal.future_alarms(0)
