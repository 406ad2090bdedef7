"""Tiers: nested, under one promise, and none that can never fire."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from deepad.errors import InsufficientCalibrationError
from deepad.scoring.conformal import Calibration
from deepad.scoring.severity import SeverityPolicy, name_tiers

SIGMAS = 4.5
LEVELS = {"warning": 0.05, "critical": 0.02, "emergency": 0.01}


def test_tiers_are_nested_and_each_score_has_the_most_severe_it_passes():
    calibration = Calibration.fit(np.random.default_rng(0).normal(size=2000))
    policy = SeverityPolicy(LEVELS)
    thresholds = policy.thresholds(calibration)
    values = [threshold.value for threshold in thresholds]
    assert values == sorted(values)
    scores = np.linspace(-1, 5, 400)
    expected = ["" if not (s > values[0]) else list(LEVELS)[sum(s > v for v in values) - 1] for s in scores]
    exact = Calibration.fit(calibration.scores, tie_rtol=0)
    assert policy.tiers(exact, scores) == expected
    assert {"", *LEVELS} == set(expected)
    for mild, severe in pairwise(thresholds):
        assert (severe.flag(scores) <= mild.flag(scores)).all()


@pytest.mark.parametrize("kind", ["simultaneous", "pac"])
def test_all_tiers_keep_their_levels_at_once_with_the_probability_promised(kind):
    rng, delta, n, replicas = np.random.default_rng(1), 0.1, 1000, 3000
    policy = SeverityPolicy(LEVELS, kind, delta)
    ranks = [threshold.k for threshold in policy.thresholds(Calibration.fit(rng.normal(size=n)))]
    draws = np.sort(rng.uniform(size=(replicas, n)), axis=1)  # the rate of a threshold at u is 1 - u
    broken = np.zeros(replicas, bool)
    for k, level in zip(ranks, LEVELS.values(), strict=True):
        broken |= 1 - draws[:, n - k] > level
    assert broken.mean() <= delta + SIGMAS * math.sqrt(delta * (1 - delta) / replicas)
    one_too_many = np.zeros(replicas, bool)
    for k, level in zip(ranks, LEVELS.values(), strict=True):
        one_too_many |= 1 - draws[:, n - k - 8] > level
    assert one_too_many.mean() > delta  # the test can tell


def test_marginal_tiers_are_bands_of_the_p_value():
    calibration = Calibration.fit(np.random.default_rng(2).normal(size=500))
    policy = SeverityPolicy(LEVELS, "marginal")
    assert policy.delta is None
    scores = np.random.default_rng(3).normal(size=1000) * 2
    names = policy.tiers(calibration, scores)
    for p, name in zip(calibration.p_values(scores), names, strict=True):
        assert name == next((tier for tier, level in reversed(LEVELS.items()) if p <= level), "")


def test_the_envelope_asks_for_more_than_one_threshold_would():
    calibration = Calibration.fit(np.random.default_rng(4).normal(size=2000))
    for level, tier in zip(LEVELS.values(), SeverityPolicy(LEVELS).thresholds(calibration), strict=True):
        assert tier.value >= calibration.threshold(level, kind="pac", delta=0.05).value
        assert tier.guarantee.kind == "simultaneous"
        assert tier.guarantee.attained <= level


def test_a_tier_that_can_never_fire_is_refused_by_name():
    calibration = Calibration.fit(np.arange(200.0))
    with pytest.raises(InsufficientCalibrationError, match=r"tier 'critical': alpha=0\.001 .*at least 999") as no:
        SeverityPolicy({"warning": 0.05, "critical": 0.001}, "marginal").thresholds(calibration)
    assert (no.value.n, no.value.needed) == (200, 999)
    assert no.value.options


def test_a_score_that_is_nan_is_no_tier_but_invalid():
    calibration = Calibration.fit(np.arange(200.0))
    assert SeverityPolicy({"warning": 0.05}, "marginal").tiers(calibration, [math.nan, 0.0, 1e9]) == [
        "invalid",
        "",
        "warning",
    ]


@pytest.mark.parametrize(
    "levels",
    [
        {},
        [("warning", 0.1)],
        {"warning": 0.01, "critical": 0.05},
        {"warning": 0.05, "critical": 0.05},
        {"warning": 0.0},
        {"warning": 1.0},
        {"": 0.1},
        {"invalid": 0.1},
        {" warning": 0.1},
        {"warn\ning": 0.1},
        {3: 0.1},
    ],
)
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(ValueError, match=r"tiers? |level"):
        SeverityPolicy(levels)


def test_levels_are_read_as_people_write_them():
    assert SeverityPolicy.parse("warning=1e-2, critical=1e-3") == {"warning": 0.01, "critical": 0.001}
    for wrong in ("warning", "warning=", "warning=high", "a=0.1,a=0.01", ""):
        with pytest.raises(ValueError, match="tier"):
            SeverityPolicy.parse(wrong)


def test_the_levels_of_a_policy_cannot_be_changed():
    levels = dict(LEVELS)
    policy = SeverityPolicy(levels)
    levels["warning"] = 0.5
    assert policy.levels["warning"] == 0.05
    with pytest.raises(TypeError):
        policy.levels["warning"] = 0.5


def test_names_of_tiers():
    assert name_tiers(("warning", "critical"), np.array([0, 1, 2, -1], np.int8)) == [
        "",
        "warning",
        "critical",
        "invalid",
    ]


def test_pac_divides_its_risk_among_the_tiers():
    calibration = Calibration.fit(np.arange(2000.0))
    thresholds = SeverityPolicy(LEVELS, "pac", 0.06).thresholds(calibration)
    assert [t.guarantee.delta for t in thresholds] == [pytest.approx(0.02)] * 3
    for level, threshold in zip(LEVELS.values(), thresholds, strict=True):
        assert stats.beta.cdf(level, threshold.k, 2000 + 1 - threshold.k) >= 1 - 0.02
