"""The envelope and certificates, against an exact boundary-crossing recursion, exact laws and simulation."""

import json
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.scoring.conformal import Calibration
from deepad.scoring.envelope import certify, confidence, envelope_bounds, percent, round_up

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=300)


def stays_above(floors):
    """P(U_(i) >= floors[i] for all i) of n sorted uniforms, floors ascending.

    The count of uniforms below each floor, as a Poisson process of rate n of which n points fall into (0, 1): step from
    floor to floor and drop the paths with i or more points below the i-th floor. All terms are positive.
    """
    n = len(floors)
    count, before = np.array([1.0]), 0.0
    for i, floor in enumerate(floors):
        count = np.convolve(count, stats.poisson.pmf(np.arange(i + 1), n * (floor - before)))[: i + 1]
        before = floor
    rest = stats.poisson.pmf(n - np.arange(n), n * (1 - before))
    return float(count @ rest / stats.poisson.pmf(n, n))


def naive_bounds(n, delta):
    """The bounds by their definition, with exact products."""
    h = max(1, n // 2)
    a = [0.0] * n
    for i in range(h, n + 1):
        product = math.prod(Fraction(i - j, n - j) for j in range(h))
        a[i - 1] = float(Fraction(delta) * product) ** (1 / h)
    return np.array([1 - a[n - k] for k in range(1, n + 1)])


# ---- the envelope --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "distance", "expected"), [(50, 0.15, 0.9047963012), (200, 0.08, 0.9267742426), (1000, 0.04, 0.9603277765)]
)
def test_the_recursion_gives_the_law_of_the_one_sided_kolmogorov_distance(n, distance, expected):
    joint = stays_above(np.maximum(0, np.arange(1, n + 1) / n - distance))
    assert joint == pytest.approx(stats.ksone.cdf(distance, n), abs=1e-9)
    assert joint == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("delta", [0.5, 0.1, 0.05, 0.001])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 50, 51, 200])
def test_all_bounds_hold_at_once_with_probability_one_minus_delta_exactly(n, delta):
    floors = 1 - envelope_bounds(n, delta)[::-1]
    assert stays_above(floors) == pytest.approx(1 - delta, abs=1e-9)


def test_all_bounds_hold_at_once_for_many_scores():
    assert stays_above(1 - envelope_bounds(1000, 0.05)[::-1]) == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize("shift", [1, -1])
def test_bounds_of_the_neighbouring_rank_have_another_probability(shift):
    bounds = envelope_bounds(200, 0.05)
    shifted = np.append(bounds[1:], 1.0) if shift == 1 else np.append(0.0, bounds[:-1])
    assert abs(stays_above(1 - shifted[::-1]) - 0.95) > 0.005


@pytest.mark.parametrize(
    ("n", "delta", "k", "bound"),
    [(1000, 0.05, 1, 0.0059735515163496), (1000, 0.05, 10, 0.0183699098927291), (50, 0.1, 1, 0.0879891606440903),
     (50, 0.1, 10, 0.3137929028014829)],
)  # fmt: skip
def test_the_bounds_have_the_values_of_forty_digit_arithmetic(n, delta, k, bound):
    assert envelope_bounds(n, delta, k) == pytest.approx(bound, rel=1e-11)
    assert envelope_bounds(n, delta)[k - 1] == envelope_bounds(n, delta, k)


@pytest.mark.parametrize("delta", [0.9, 0.1, 0.001])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20, 61, 150])
def test_the_bounds_equal_their_definition_in_exact_products(n, delta):
    bounds = envelope_bounds(n, delta)
    np.testing.assert_allclose(bounds, naive_bounds(n, delta), rtol=1e-11, atol=1e-14)
    assert (np.diff(bounds) >= 0).all()
    assert (bounds > 0).all()
    assert (bounds <= 1).all()


@pytest.mark.parametrize("n", [10, 999, 10**5, 10**7, 10**9])
def test_the_first_bound_is_exact_for_any_number_of_scores(n):
    assert envelope_bounds(n, 0.05, 1) == pytest.approx(-math.expm1(math.log(0.05) / (n // 2)), rel=1e-14)


@exhaustive
@given(st.integers(1, 500), st.floats(1e-6, 0.5), st.floats(0, 0.4))
def test_a_surer_envelope_is_never_lower_and_never_below_the_bound_for_one_threshold(n, delta, less_sure):
    bounds = envelope_bounds(n, delta)
    assert (bounds >= envelope_bounds(n, delta + less_sure)).all()
    k = np.arange(1, n + 1)
    assert (bounds >= stats.beta.ppf(1 - delta, k, n + 1 - k) - 1e-9).all()


@pytest.mark.parametrize(("n", "delta"), [(60, 0.2), (201, 0.05), (600, 0.1)])
def test_simulated_false_alarm_rates_leave_the_envelope_as_often_as_delta_says(n, delta):
    replicas = 4000
    draws = np.random.default_rng(10).random((replicas, n))  # uniform scores: the false-alarm rate of t is 1 - t
    bounds = Calibration.fit(draws[0], tie_rtol=0).envelope(delta)
    rates = 1 - np.sort(draws)[:, ::-1]
    violated = (rates > bounds).any(axis=1).mean()
    assert abs(violated - delta) <= SIGMAS * math.sqrt(delta * (1 - delta) / replicas)


# ---- certificates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("above", "n", "upper"), [(0, 300, 0.0099360819), (3, 1000, 0.0077352447)])
def test_a_certificate_has_its_published_values(above, n, upper):
    assert certify(1.0, above, n, delta=0.05).upper == pytest.approx(upper, abs=5e-11)


@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-4])
@pytest.mark.parametrize("n", [1, 2, 30, 500])
def test_a_certificate_bounds_the_rate_where_what_was_seen_has_probability_delta(n, delta):
    for above in {0, 1, n // 2, n - 1, n}:
        certificate = certify(1.0, above, n, delta=delta)
        if above < n:
            assert stats.binom.cdf(above, n, certificate.upper) == pytest.approx(delta, rel=1e-8)
        else:
            assert certificate.upper == 1.0
        if above:
            assert stats.binom.sf(above - 1, n, certificate.lower) == pytest.approx(delta, rel=1e-8)
        else:
            assert certificate.lower == 0.0
        assert 0 <= certificate.lower < certificate.upper <= 1


@pytest.mark.parametrize(("n", "delta"), [(20, 0.1), (200, 0.05), (1000, 0.01)])
def test_each_bound_holds_for_every_rate_at_least_as_often_as_it_says(n, delta):
    seen = [certify(1.0, above, n, delta=delta) for above in range(n + 1)]
    lower, upper = (np.array([getattr(c, side) for c in seen]) for side in ("lower", "upper"))
    tightest = 1.0
    for rate in np.linspace(0.001, 0.999, 301):
        law = stats.binom.pmf(np.arange(n + 1), n, rate)
        held = law[rate <= upper].sum(), law[lower <= rate].sum()
        assert min(held) >= 1 - delta - 1e-12
        tightest = min(tightest, *held)
    assert tightest <= 1 - delta + 0.01  # and not by bounds that are too wide


def test_bounds_hold_for_thresholds_from_an_independent_sample_as_often_as_they_say():
    replicas, n, delta = 4000, 150, 0.1
    rng = np.random.default_rng(11)
    held = np.zeros(2)
    for _ in range(replicas):
        value = np.sort(rng.random(40))[rng.integers(30, 40)]
        certificate = Calibration.fit(rng.random(n), tie_rtol=0).certify(value, delta=delta)
        held += 1 - value <= certificate.upper, certificate.lower <= 1 - value
    assert (held / replicas >= 1 - delta - SIGMAS * math.sqrt(delta * (1 - delta) / replicas)).all()


def worst_choice(scores, delta, chosen_on):
    """Whether the worst of all order statistics, picked by someone who knows the truth, breaks its bound."""
    calibration = Calibration.fit(scores, tie_rtol=0)
    certificates = [calibration.certify(value, delta=delta, chosen_on=chosen_on) for value in calibration.scores]
    return any(1 - c.value > c.upper for c in certificates)


def test_a_threshold_picked_adversarially_among_the_calibration_scores_breaks_its_bound_as_often_as_delta_says():
    replicas, n, delta = 3000, 12, 0.1
    draws = np.random.default_rng(12).random((replicas, n))
    broken = np.mean([worst_choice(draw, delta, "calibration") for draw in draws])
    assert abs(broken - delta) <= SIGMAS * math.sqrt(delta * (1 - delta) / replicas)
    careless = np.mean([worst_choice(draw, delta, "other") for draw in draws[:500]])
    assert careless > 2 * delta  # what the envelope is there for


def test_equal_scores_are_not_above_a_threshold_and_bounds_hold_for_atoms():
    calibration = Calibration.fit([1.0, 2.0, 2.0, 3.0], tie_rtol=0)
    assert [calibration.certify(v).above for v in (0.0, 1.0, 1.5, 2.0, 3.0, 9.0)] == [4, 3, 3, 1, 0, 0]
    replicas, delta = 2000, 0.1
    draws = np.random.default_rng(13).integers(0, 6, (replicas, 30)).astype(float)
    rates = dict(zip(range(6), (5 - np.arange(6)) / 6, strict=True))
    broken = 0
    for draw in draws:
        fitted = Calibration.fit(draw, tie_rtol=0)
        broken += any(rates[v] > fitted.certify(v, delta=delta, chosen_on="calibration").upper for v in range(6))
    assert broken / replicas <= delta + SIGMAS * math.sqrt(delta * (1 - delta) / replicas)


def test_a_threshold_chosen_on_the_calibration_is_bounded_by_the_envelope_alone():
    calibration = Calibration.fit(np.arange(200.0))
    envelope = calibration.envelope(0.1)
    for k in (1, 2, 17, 101, 200):
        certificate = calibration.certify(200.0 - k, delta=0.1, chosen_on="calibration")
        assert (certificate.above, certificate.lower) == (k - 1, 0.0)
        assert certificate.upper == envelope[k - 1] > calibration.certify(200.0 - k, delta=0.1).upper * (k < 102)
    below_all = calibration.certify(-1.0, chosen_on="calibration")
    assert (below_all.above, below_all.upper) == (200, 1.0)


def test_an_unknown_origin_of_a_threshold_is_refused():
    with pytest.raises(ValueError, match="chosen_on must be 'other' or 'calibration', got 'train'"):
        certify(1.0, 3, 10, delta=0.05, chosen_on="train")


# ---- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen_on", ["other", "calibration"])
@pytest.mark.parametrize("delta", [0.3, 1 / 3, 0.05, 1e-5, 1e-12])
@pytest.mark.parametrize("n", [1, 30, 1000, 10**7])
def test_the_words_of_a_certificate_never_promise_more_than_it_holds(n, delta, chosen_on):
    for above in {0, 1, n // 100, n // 2, n - 1, n}:
        certificate = certify(2.5, above, n, delta=delta, chosen_on=chosen_on)
        words = str(certificate)
        assert "\n" not in words
        assert f"{above} of {n} calibration samples" in words
        shares = [float(share) / 100 for share in re.findall(r"([\d.e-]+) %", words)]
        assert certificate.upper <= shares[-1] * (1 + 1e-9)
        assert len(shares) == (1 if chosen_on == "calibration" else 2)
        assert shares[0] <= certificate.lower * (1 + 1e-9) or chosen_on == "calibration"
        assert sureness(words) <= Fraction(1) - Fraction(delta) * (1 - Fraction(1, 10**9))
        assert json.loads(json.dumps(certificate.to_dict()))["chosen_on"] == chosen_on


def sureness(words):
    stated = re.search(r"with probability (1 - [\d.e-]+|[\d.e-]+)", words)[1]
    return 1 - Fraction(stated[4:]) if stated.startswith("1 - ") else Fraction(stated)


@exhaustive
@given(st.floats(1e-300, 1e6), st.integers(1, 6))
def test_rounding_up_is_never_below_and_less_than_one_unit_above(value, digits):
    rounded = round_up(value, digits)
    assert rounded >= value
    leading = min(value, 1 - value) if value < 1 else value
    if leading:
        unit = 10.0 ** (math.floor(math.log10(leading)) - digits + 1)
        assert rounded - value <= unit * (1 + 1e-6)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.05, 0.05), (0.0501, 0.0501), (0.05011, 0.0502), (1.0, 1.0), (0.99999, 0.99999), (2.3456, 2.35), (0.29, 0.29)],
)
def test_rounding_up_keeps_short_decimals(value, rounded):
    assert round_up(value) == rounded


def test_shares_and_probabilities_are_told_in_short():
    assert percent(0.05) == "5 %"
    assert percent(0.0123456) == "1.235 %"
    assert percent(1.0) == "100 %"
    assert [confidence(delta) for delta in (0.05, 1 / 3, 1e-5, 2e-13)] == ["0.95", "0.6666", "0.99999", "1 - 2e-13"]
