"""Rules of thumb, against their textbook definitions, the laws they miss, and what a certificate proves about them."""

import json
import math
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import LocalOutlierFactor

from deepad.errors import DeepadError, InputError
from deepad.scoring.conformal import Calibration, Threshold
from deepad.scoring.rules import (
    IQR,
    MAD,
    RULES,
    CertifiedThreshold,
    Contamination,
    ControlLimits,
    Percentile,
    Sigma,
    certified,
    parse_rule,
)

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=100)

every_rule = pytest.mark.parametrize("rule", [rule() for rule in RULES], ids=str)
SPREADS = (Sigma, IQR, MAD, ControlLimits)


def clean(n, seed=0):
    """Skewed scores of normal samples."""
    return np.random.default_rng(seed).chisquare(2, n)


@cache
def grid(law, n=300_000):
    """A sample without luck: the quantiles in the middle of n equal shares."""
    return LAWS[law].ppf((np.arange(n) + 0.5) / n)


# ---- the rules and their definitions -------------------------------------------------------------------------------


def median(values):
    values, middle = sorted(values), len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def naive_sigma(values, k):
    mean = math.fsum(values) / len(values)
    return mean + k * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def naive_iqr(values, k):
    low, high = np.percentile(values, [25, 75])
    return high + k * (high - low)


def naive_mad(values, k):
    """The score x with 0.6745 (x - median) / MAD = k."""
    middle = median(values)
    return middle + k * median([abs(v - middle) for v in values]) / 0.6745


def naive_control_limit(values, k):
    steps = [abs(b - a) for a, b in pairwise(values)]
    return math.fsum(values) / len(values) + k * math.fsum(steps) / len(steps) / 1.128


def naive_percentile(values, q):
    share = Fraction(str(q)) / 100
    return next(v for v in sorted(values) if Fraction(sum(w <= v for w in values), len(values)) >= share)


def naive_contamination(values, c):
    return np.percentile(values, 100 * (1 - c))  # what PyOD writes


NAIVE = {
    Sigma: (naive_sigma, (0.5, 3, 6)),
    IQR: (naive_iqr, (1.5, 3, 0.1)),
    MAD: (naive_mad, (3.5, 2, 10)),
    ControlLimits: (naive_control_limit, (3, 2.66)),
    Percentile: (naive_percentile, (95, 99, 50, 12.5, 99.9)),
    Contamination: (naive_contamination, (0.05, 0.1, 0.5, 0.013)),
}
DEFINITIONS = [(rule, naive, number) for rule, (naive, numbers) in NAIVE.items() for number in numbers]


def enough(rule, sizes):
    return [n for n in sizes if n >= rule.fewest]


@pytest.mark.parametrize(("rule", "naive", "number"), DEFINITIONS)
def test_a_rule_equals_its_definition(rule, naive, number):
    for n in enough(rule(number), [10, 11, 12, 13, 100, 1000, 1001]):
        values = clean(n, seed=n).tolist()
        assert rule(number).value(values) == pytest.approx(naive(values, number), rel=1e-12)


@pytest.mark.parametrize("c", [0.01, 0.05, 0.1, 0.3])
def test_a_contamination_is_that_of_scikit_learn(c):
    factors = LocalOutlierFactor(contamination=c).fit(np.random.default_rng(12).normal(size=(300, 2)))
    assert Contamination(c).value(-factors.negative_outlier_factor_) == pytest.approx(-factors.offset_, rel=1e-12)


def test_every_rule_has_a_definition_here():
    assert set(NAIVE) == set(RULES)


@pytest.mark.parametrize("q", [0.1, 29, 50, 57, 95, 99, 99.9, 99.99])
def test_a_percentile_leaves_the_share_above_it_that_it_says_and_no_more(q):
    for n in enough(Percentile(q), [100, 200, 999, 1000, 10_000]):
        value = Percentile(q).value(np.random.default_rng(1).permutation(n))
        assert value == math.ceil(Fraction(str(q)) / 100 * n) - 1  # the scores are 0..n-1


@pytest.mark.parametrize("c", [0.001, 0.01, 0.05, 0.1, 0.29, 0.3, 0.5])
def test_a_contamination_puts_its_share_of_the_scores_above_whatever_they_are(c):
    for n in enough(Contamination(c), [101, 1000, 1001, 10_001]):
        scores = np.random.default_rng(2).permutation(n).astype(float)
        assert (scores > Contamination(c).value(scores)).sum() == math.ceil(Fraction(str(c)) * (n - 1))


@every_rule
@exhaustive
@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.integers(0, 10**6))
def test_a_rule_follows_the_unit_of_the_scores(rule, unit, shift, seed):
    scores = clean(60, seed)
    moved = rule.value(unit * (scores + shift))
    assert moved == pytest.approx(unit * (rule.value(scores) + shift), rel=1e-9, abs=1e-9 * unit * (1 + abs(shift)))


@every_rule
def test_only_control_limits_depend_on_the_order_of_the_scores(rule):
    scores = clean(200)
    other = rule.value(scores[np.random.default_rng(3).permutation(200)])
    assert (other == pytest.approx(rule.value(scores), rel=1e-12)) != rule.ordered


@every_rule
def test_a_rule_leaves_the_scores_as_they_are(rule):
    scores = clean(200)
    scores.flags.writeable = False
    assert rule.value(scores) == rule.value(scores.tolist())
    np.testing.assert_array_equal(scores, clean(200))


def test_slow_drift_does_not_widen_control_limits_and_smooth_scores_make_them_too_narrow():
    noise = np.random.default_rng(4).normal(size=5000)
    drift = noise + np.linspace(0, 6, 5000)
    assert ControlLimits().value(drift) - drift.mean() == pytest.approx(
        ControlLimits().value(noise), rel=0.02, abs=0.02
    )
    walk = np.convolve(noise, np.ones(50) / math.sqrt(50), mode="valid")  # of variance 1 as well
    assert (walk > ControlLimits().value(walk)).mean() > 0.1


# ---- what they flag of clean scores ---------------------------------------------------------------------------------

LAWS = {"gauss": stats.norm(), "chi2_1": stats.chi2(1), "chi2_5": stats.chi2(5), "lognormal": stats.lognorm(1)}
FLAGGED = {  # percent of clean scores, of infinitely many
    Sigma(3): {"chi2_1": (2.20, 0.005), "chi2_5": (1.28, 0.005), "lognormal": (1.81, 0.005)},
    IQR(1.5): {"chi2_1": (7.6, 0.05), "chi2_5": (2.8, 0.05), "lognormal": (7.8, 0.05)},
    MAD(3.5): {"chi2_1": (10.5, 0.05), "chi2_5": (1.4, 0.05), "lognormal": (7.9, 0.05)},
}


@pytest.mark.parametrize("law", [law for law in LAWS if law != "gauss"])
@pytest.mark.parametrize("rule", FLAGGED, ids=str)
def test_a_gaussian_rule_flags_its_published_share_of_skewed_scores(rule, law):
    share, half_a_digit = FLAGGED[rule][law]
    flagged = 100 * LAWS[law].sf(rule.value(grid(law)))
    assert abs(flagged - share) <= half_a_digit + 1e-3
    assert flagged > 100 * rule.nominal


@pytest.mark.parametrize("rule", [Sigma(3), Sigma(1), IQR(1.5), IQR(3), MAD(3.5), MAD(2), ControlLimits(3)], ids=str)
def test_the_nominal_rate_is_what_a_gaussian_rule_flags_of_gaussian_scores(rule):
    scores = np.random.default_rng(5).permutation(grid("gauss"))
    assert stats.norm.sf(rule.value(scores)) == pytest.approx(rule.nominal, rel=0.02)


@pytest.mark.parametrize(
    ("rule", "nominal"), [(Percentile(95), 0.05), (Percentile(99.9), 0.001), (Contamination(), 0.05)]
)
@pytest.mark.parametrize("law", LAWS)
def test_the_nominal_rate_of_a_share_is_that_share_for_any_scores(rule, nominal, law):
    assert rule.nominal == nominal
    assert LAWS[law].sf(rule.value(grid(law))) == pytest.approx(nominal, rel=1e-2)


# ---- refusals -------------------------------------------------------------------------------------------------------


@every_rule
def test_too_few_scores_are_refused_and_enough_are_not(rule):
    assert math.isfinite(rule.value(clean(rule.fewest)))
    for n in (0, 1, rule.fewest - 1):
        with pytest.raises(InputError, match=f"{rule} needs at least {rule.fewest} scores, got {n}"):
            rule.value(clean(n))


@pytest.mark.parametrize(("q", "fewest"), [(95, 20), (99, 100), (99.9, 1000), (50, 2), (5, 2), (97, 34)])
def test_a_percentile_is_refused_where_it_would_be_the_largest_score(q, fewest):
    assert Percentile(q).fewest == fewest
    assert Percentile(q).value(np.arange(fewest)) < fewest - 1
    if fewest > 2:
        assert naive_percentile(range(fewest - 1), q) == fewest - 2  # the largest of 0..fewest-2


@every_rule
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(rule, bad):
    scores = clean(100)
    scores[[3, 7]] = bad
    with pytest.raises(InputError, match="2 of 100 scores are NaN or infinite"):
        rule.value(scores)


@every_rule
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e300])
def test_scores_without_spread_are_refused(rule, constant):
    with pytest.raises(InputError, match="all 100 scores equal"):
        rule.value(np.full(100, constant))


@pytest.mark.parametrize("rule", [IQR(), MAD()], ids=str)
def test_a_spread_of_zero_is_refused_where_most_scores_are_equal(rule):
    with pytest.raises(InputError, match="finds no spread in 100 scores"):
        rule.value(np.r_[np.zeros(80), np.arange(20.0)])


def test_a_spread_lost_to_underflow_is_refused():
    with pytest.raises(InputError, match="finds no spread"):
        Sigma().value(1e-200 * clean(100))


@pytest.mark.parametrize("rule", [rule() for rule in SPREADS], ids=str)
def test_a_limit_that_overflows_is_refused(rule):
    with pytest.raises(InputError, match="overflows"):
        rule.value(1.7e308 * np.random.default_rng(6).uniform(-1, 1, 100))


@pytest.mark.parametrize("way", [1, -1])
def test_control_limits_of_sorted_scores_are_refused(way):
    with pytest.raises(InputError, match="in order of time, these are sorted"):
        ControlLimits().value(np.sort(clean(100))[::way])


@every_rule
@pytest.mark.parametrize("bad", [np.zeros(20) * 1j, np.array(["a"] * 20), np.zeros((20, 2))])
def test_scores_that_are_no_vector_of_numbers_are_refused(rule, bad):
    with pytest.raises((TypeError, ValueError), match="scores must be"):
        rule.value(bad)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf, -math.inf, 101])
def test_a_number_outside_the_range_of_a_rule_is_refused(rule, number):
    with pytest.raises(ValueError, match=rf"{rule.name} takes a number in \(0, "):
        rule(number)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("number", ["3", None, True, [3], 3j])
def test_what_is_no_number_is_refused(rule, number):
    with pytest.raises(TypeError, match=f"{rule.name} takes a number"):
        rule(number)


# ---- certificates ---------------------------------------------------------------------------------------------------


@every_rule
@pytest.mark.parametrize("delta", [0.05, 0.01])
def test_the_certificate_is_that_of_the_threshold_on_the_calibration(rule, delta):
    fit, held_out = clean(400, 7), clean(300, 8)
    threshold = certified(rule, Calibration.fit(held_out, tie_rtol=0), fit_scores=fit, delta=delta)
    above = int((held_out > rule.value(fit)).sum())
    certificate = threshold.certificate
    assert (threshold.value, certificate.value, certificate.above) == (rule.value(fit), rule.value(fit), above)
    assert (certificate.n, certificate.delta, certificate.chosen_on) == (300, delta, "other")
    assert stats.binom.cdf(above, 300, certificate.upper) == pytest.approx(delta, rel=1e-8)
    assert stats.binom.sf(above - 1, 300, certificate.lower) == pytest.approx(delta, rel=1e-8)
    assert threshold.flag(held_out).sum() == above


@pytest.mark.parametrize("rule", [rule() for rule in RULES if not rule.ordered], ids=str)
def test_a_rule_set_on_the_calibration_gets_the_envelope_whether_its_scores_are_given_or_not(rule):
    held_out = clean(300)
    calibration = Calibration.fit(held_out)
    threshold = certified(rule, calibration)
    assert threshold == certified(rule, calibration, fit_scores=held_out)
    assert threshold.value == rule.value(held_out)
    certificate = threshold.certificate
    assert (certificate.chosen_on, certificate.lower) == ("calibration", 0.0)
    assert certificate.upper == calibration.envelope(0.05)[certificate.above]
    assert certificate.upper > calibration.certify(threshold.value).upper


def test_control_limits_need_the_scores_in_order_of_time_which_those_of_the_calibration_may_be():
    held_out = clean(300)
    calibration = Calibration.fit(held_out)
    with pytest.raises(InputError, match="give them as fit_scores"):
        certified(ControlLimits(), calibration)
    threshold = certified(ControlLimits(), calibration, fit_scores=held_out)
    assert threshold.value == ControlLimits().value(held_out)
    assert threshold.certificate.chosen_on == "calibration"


@every_rule
def test_the_guarantee_is_none_and_says_that_the_rule_is_a_heuristic(rule):
    threshold = certified(rule, Calibration.fit(clean(300)), fit_scores=clean(400, 9))
    guarantee = threshold.guarantee
    assert (guarantee.kind, guarantee.k, guarantee.n, guarantee.delta) == ("none", 0, 300, None)
    assert (guarantee.alpha, guarantee.attained) == (rule.nominal, threshold.certificate.upper)
    assert f"{rule} is a heuristic" in guarantee.assumptions[0]
    assert str(guarantee).startswith(f"no guarantee: {rule} is a heuristic")
    assert guarantee.future_alarms(100) is None


@every_rule
def test_a_certified_threshold_never_shows_its_value_without_its_bounds(rule):
    threshold = certified(rule, Calibration.fit(clean(300)), fit_scores=clean(400, 9))
    assert str(threshold) == f"{rule}: {threshold.certificate}"
    assert "\n" not in str(threshold)
    plain = threshold.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert parse_rule(plain["rule"]) == rule
    assert plain["certificate"]["upper"] == threshold.certificate.upper
    assert plain["guarantee"]["kind"] == "none"


@exhaustive
@given(st.lists(st.floats(-100, 100) | st.sampled_from([math.nan, math.inf, -math.inf, 3.0]), max_size=20), st.data())
def test_flagging_is_that_of_any_threshold(scores, data):
    held_out = np.round(np.random.default_rng(10).normal(size=50), 1)
    tie_rtol = data.draw(st.sampled_from([0, 1e-5, 0.1]))
    calibration = Calibration.fit(held_out, tie_rtol=tie_rtol)
    threshold = certified(Sigma(data.draw(st.sampled_from([0.5, 3]))), calibration)
    assert isinstance(threshold, CertifiedThreshold)
    same = Threshold(threshold.value, 0, threshold.guarantee, tie_rtol, calibration.scale)
    scores = [*scores, threshold.value, threshold.value * (1 + tie_rtol), math.nextafter(threshold.value, math.inf)]
    flagged = threshold.flag(scores)
    np.testing.assert_array_equal(flagged, same.flag(scores))
    assert flagged[np.isnan(scores)].all()
    assert not flagged[len(scores) - 3]


def test_a_score_that_ties_with_the_threshold_counts_for_the_upper_bound_and_not_for_the_lower():
    held_out = np.r_[np.linspace(0, 9, 90), np.full(10, 10.0 * (1 + 2e-6))]
    threshold = certified(
        Percentile(80), Calibration.fit(held_out, tie_rtol=1e-5), fit_scores=np.arange(5.0, 15, 0.625)
    )
    assert threshold.value == pytest.approx(12.5)
    fit = np.r_[np.full(9, 10.0), 20.0, 0.0]
    threshold = certified(Percentile(80), Calibration.fit(held_out, tie_rtol=1e-5), fit_scores=fit)
    assert threshold.value == 10.0
    assert threshold.flag(held_out).sum() == 0
    certificate = threshold.certificate
    assert certificate.above == 10
    assert certificate.lower == 0.0  # nothing was flagged
    assert stats.binom.cdf(10, 100, certificate.upper) == pytest.approx(0.05, rel=1e-8)


def coverage(rule, fit_of, replicas=1000, n=120, delta=0.1):
    """How often the two bounds hold for what is flagged of chi-squared scores."""
    rng = np.random.default_rng(11)
    held = np.zeros(2)
    for _ in range(replicas):
        held_out = rng.chisquare(2, n)
        threshold = certified(rule, Calibration.fit(held_out), fit_scores=fit_of(held_out, rng), delta=delta)
        rate = math.exp(-threshold.value * (1 + threshold.tie_rtol) / 2)  # what flag flags, but for 1e-10 of it
        held += rate <= threshold.certificate.upper, threshold.certificate.lower <= rate
    return held / replicas, SIGMAS * math.sqrt(delta * (1 - delta) / replicas)


@pytest.mark.parametrize(
    "rule", [Sigma(3), IQR(1.5), MAD(3.5), Percentile(95), Contamination(0.1), ControlLimits()], ids=str
)
def test_both_bounds_hold_as_often_as_they_say_for_a_rule_set_on_other_scores(rule):
    held, noise = coverage(rule, lambda _, rng: rng.chisquare(2, 100))
    assert (held >= 0.9 - noise).all()


@pytest.mark.parametrize("rule", [Sigma(1), IQR(0.5), Percentile(90), Contamination(0.1)], ids=str)
def test_the_bound_holds_for_a_rule_set_on_the_calibration_itself(rule):
    held, noise = coverage(rule, lambda held_out, _: held_out)
    assert held[0] >= 0.9 - noise
    assert held[1] == 1.0


def test_a_calibration_of_blocks_is_refused():
    blocks = Calibration.fit(clean(100), slots=4, unit="day")
    with pytest.raises(ValueError, match="maxima of blocks"):
        certified(Sigma(3), blocks, fit_scores=clean(50))


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan])
def test_a_delta_outside_0_and_1_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        certified(Sigma(3), Calibration.fit(clean(100)), delta=delta)


# ---- rules in words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("3-sigma", Sigma(3)), ("2.5-sigma", Sigma(2.5)), ("sigma:3", Sigma(3)), ("sigma", Sigma(3)),
        ("iqr:1.5", IQR(1.5)), ("IQR", IQR()), ("mad:3.5", MAD(3.5)), (" mad:4 ", MAD(4)), ("spc", ControlLimits(3)),
        ("spc:2", ControlLimits(2)), ("percentile:99", Percentile(99)), ("percentile", Percentile(95)),
        ("contamination:0.05", Contamination(0.05)), ("contamination:1e-3", Contamination(0.001)),
    ],
)  # fmt: skip
def test_a_rule_is_read_from_its_name(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize("rule", RULES)
@exhaustive
@given(st.floats(0, 1, exclude_min=True))
def test_a_rule_is_read_back_from_what_it_is_called(rule, share):
    try:
        made = rule(share * rule.most)
    except ValueError:  # a share that rounds to 0 or 1
        assume(False)
    assert parse_rule(str(made)) == made


@pytest.mark.parametrize(
    "text",
    ["", "3", "sigma:", "-sigma", "gauss", "sigma 3", ":3", "sigmas:3", "ewma:0.2", "percentile:99:1", "sigma:x",
     "sigma:-1", "sigma:nan", "mad:0", "percentile:100", "contamination:0.6", "iqr:inf"],
)  # fmt: skip
def test_what_is_no_rule_is_refused_in_one_line_that_says_how_to_write_it(text):
    with pytest.raises(InputError) as caught:
        parse_rule(text)
    assert isinstance(caught.value, DeepadError)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(text) in message
    assert any(str(rule()) in message for rule in RULES)


def test_an_unknown_rule_is_refused_with_a_list_of_all():
    with pytest.raises(InputError) as caught:
        parse_rule("gauss")
    assert all(str(rule()) in str(caught.value) for rule in RULES)
