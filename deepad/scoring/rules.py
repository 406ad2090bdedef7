"""Threshold rules of thumb (three sigma, IQR, MAD, percentile, control limits), with the rate each is proved to have.

| rule            | upper limit                                          | flags, if its premise holds           |
|-----------------|------------------------------------------------------|---------------------------------------|
| `Sigma`         | mean + k sd                                          | 0.135 % of Gaussian scores (k = 3)    |
| `IQR`           | q75 + k (q75 - q25), Tukey's upper fence             | 0.349 % of Gaussian scores (k = 1.5)  |
| `MAD`           | median + k MAD / 0.6745, the modified z-score        | 0.0233 % of Gaussian scores (k = 3.5) |
| `ControlLimits` | mean + k (mean moving range) / 1.128, of individuals | 0.135 % of Gaussian scores (k = 3)    |
| `Percentile`    | smallest score with q % of the scores at or below it | 100 - q % of scores like those it saw |
| `Contamination` | quantile 1 - c, as scikit-learn and PyOD set it      | c of scores like those it saw         |

Anomaly scores are not Gaussian. Of clean scores that are chi-squared with one degree of freedom (the squared error of
one channel), three sigma flags 2.2 %, Tukey's fence 7.6 % and the modified z-score 10.5 %. A contamination is a
prevalence, not a false-alarm rate: that share of clean rows is flagged too, whether or not there is any anomaly. A
percentile of training scores is too low a threshold, because a model knows its training rows.

So no rule is used alone: `certified` puts the bounds beside it that held-out normal scores prove. If they are wide, or
above the rate that was wanted, use `Calibration.threshold`, which starts from that rate.

Quartiles, medians and `Contamination` interpolate linearly between order statistics (type 7 of Hyndman & Fan), as box
plots and scikit-learn do; `Percentile` is an order statistic (type 1). Levels are read as the decimals they were
written as, so that 99.9 % of 1000 scores are 999.

Source: Tukey, *Exploratory Data Analysis*, 1977; Iglewicz & Hoaglin, *How to Detect and Handle Outliers*, 1993;
Shewhart, *Economic Control of Quality of Manufactured Product*, 1931; Montgomery, *Introduction to Statistical Quality
Control*, on individuals; Hyndman & Fan, *Sample quantiles in statistical packages*, 1996.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from deepad.errors import InputError
from deepad.scoring.conformal import Calibration, Scores, Threshold, as_scores, lower_for_ties
from deepad.scoring.envelope import Certificate, certify
from deepad.scoring.guarantee import Guarantee, GuaranteeKind

FEWEST = 10
"""Scores a spread is estimated from: of fewer, the standard deviation is off by a quarter and more (one sigma)."""

GAUSSIAN = "scores are Gaussian with the mean and spread of those it was set on"
ALIKE = "new normal scores are distributed as those it was set on"


class Rule(ABC):
    """A rule that sets an upper limit from scores; its one number is given at construction.

    Raises:
        TypeError: the number is none.
        ValueError: the number is out of its range.
    """

    name: ClassVar[str]
    most: ClassVar[float]
    premise: ClassVar[str] = GAUSSIAN
    ordered: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number = self._number
        if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
            raise TypeError(f"{self.name} takes a number in (0, {self.most:g}], got {number!r}")
        if not 0 < number <= self.most or not 0 < self.nominal < 1:
            raise ValueError(f"{self.name} takes a number in (0, {self.most:g}], got {number!r}")

    def __str__(self) -> str:
        return f"{self.name}:{float(self._number)!r}".removesuffix(".0")

    @property
    def _number(self) -> float:
        (number,) = vars(self).values()
        return number  # type: ignore[no-any-return]

    @property
    def nominal(self) -> float:
        """The share of normal samples it flags if its premise holds, in (0, 1)."""
        return float(ndtr(-self._number))

    @property
    def fewest(self) -> int:
        """Number of scores it needs."""
        return FEWEST

    def value(self, scores: ArrayLike) -> float:
        """The upper limit set by scores (n,), for `ControlLimits` in order of time.

        Raises:
            InputError: too few scores, a score that is not finite, or no spread.
            TypeError: scores that are not real numbers.
            ValueError: more than one column.
        """
        values = as_scores(scores)
        if len(values) < self.fewest:
            raise InputError(f"{self} needs at least {self.fewest} scores, got {len(values)}: give it more of them")
        if bad := int((~np.isfinite(values)).sum()):
            raise InputError(f"{bad} of {len(values)} scores are NaN or infinite: set {self} on clean normal rows")
        if values.min() == values.max():
            raise InputError(f"all {len(values)} scores equal {values[0]:.6g}: {self} needs scores that vary")
        with np.errstate(over="ignore", invalid="ignore"):  # sorted, so that sums do not depend on the order
            value = self._limit(values if self.ordered else np.sort(values))
        if not np.isfinite(value):
            raise InputError(f"the scores are too large for {self}, whose limit overflows: scale or take logarithms")
        return value

    @abstractmethod
    def _limit(self, values: Scores) -> float: ...


@dataclass(frozen=True)
class Sigma(Rule):
    """Mean plus k standard deviations (of a sample, n - 1 in the denominator)."""

    k: float = 3.0
    name, most = "sigma", 20.0

    def _limit(self, values: Scores) -> float:
        return float(values.mean()) + self.k * _spread(self, values, float(values.std(ddof=1)))


@dataclass(frozen=True)
class IQR(Rule):
    """Tukey's upper fence: the upper quartile plus k times the range between the quartiles."""

    k: float = 1.5
    name, most = "iqr", 20.0

    @property
    def nominal(self) -> float:  # noqa: D102
        quartile = float(ndtri(0.75))
        return float(ndtr(-quartile * (1 + 2 * self.k)))

    def _limit(self, values: Scores) -> float:
        low, high = _quantile(values, Fraction(1, 4)), _quantile(values, Fraction(3, 4))
        return high + self.k * _spread(self, values, high - low)


@dataclass(frozen=True)
class MAD(Rule):
    """The score whose modified z-score is k: median plus k times the median absolute deviation over 0.6745."""

    k: float = 3.5
    name, most = "mad", 20.0

    def _limit(self, values: Scores) -> float:
        median = _quantile(values, Fraction(1, 2))
        deviation = _quantile(np.sort(np.abs(values - median)), Fraction(1, 2))
        return median + self.k * _spread(self, values, deviation) / 0.6745


@dataclass(frozen=True)
class ControlLimits(Rule):
    """Upper limit of Shewhart's chart for individuals: its sigma is the mean moving range of two over 1.128.

    It sees steps between neighbours only, so slow drift does not widen it. Scores that follow their neighbours (any
    smooth series) have short steps: the limit is then too low.
    """

    k: float = 3.0
    name, most, ordered = "spc", 20.0, True

    def _limit(self, values: Scores) -> float:
        steps = np.diff(values)
        spread = _spread(self, values, float(np.abs(steps).mean()))
        if (steps >= 0).all() or (steps <= 0).all():
            raise InputError(f"{self} needs scores in order of time, these are sorted: give them as they were recorded")
        return float(values.mean()) + self.k * spread / 1.128


@dataclass(frozen=True)
class Percentile(Rule):
    """The smallest score that has at least q percent of the scores at or below it."""

    q: float = 95.0
    name, most, premise = "percentile", 99.9999, ALIKE

    @property
    def nominal(self) -> float:  # noqa: D102
        return float(1 - _decimal(self.q) / 100)

    @property
    def fewest(self) -> int:
        """With fewer scores than this the percentile is the largest of them, whatever that is."""
        return max(2, math.ceil(1 / (1 - _decimal(self.q) / 100)))

    def _limit(self, values: Scores) -> float:
        rank = math.ceil(_decimal(self.q) / 100 * len(values))
        return float(values[rank - 1])


@dataclass(frozen=True)
class Contamination(Rule):
    """The quantile 1 - c of the scores: about the fraction c of them lies above, anomalies or not."""

    c: float = 0.05
    name, most, premise = "contamination", 0.5, ALIKE

    @property
    def nominal(self) -> float:  # noqa: D102
        return float(self.c)

    @property
    def fewest(self) -> int:
        """With fewer scores than this the fraction is less than one of them."""
        return math.ceil(1 / _decimal(self.c))

    def _limit(self, values: Scores) -> float:
        return _quantile(values, 1 - _decimal(self.c))


@dataclass(frozen=True)
class CertifiedThreshold(Threshold):
    """The threshold of a rule, with what held-out normal scores prove about it. Made by `certified`.

    Its guarantee is of kind `none`: `alpha` is the nominal rate of the rule, `attained` the certificate's upper bound.

    Attributes:
        rule: what set it.
        certificate: bounds on the share of normal samples that `flag` flags.
    """

    rule: Rule
    certificate: Certificate

    def __str__(self) -> str:
        return f"{self.rule}: {self.certificate}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {"certificate": self.certificate.to_dict(), "guarantee": self.guarantee.to_dict()}
        return {"value": self.value, "rule": str(self.rule), **parts, "tie_rtol": self.tie_rtol, "scale": self.scale}


def certified(
    rule: Rule, calibration: Calibration, *, fit_scores: ArrayLike | None = None, delta: float = 0.05
) -> CertifiedThreshold:
    """Threshold of a rule with the bounds on its false-alarm rate that a calibration proves.

    `flag` lowers a score by the tolerance of ties first: what it flags lies above the threshold, but not the reverse.
    The upper bound counts the calibration scores above, the lower bound those flagged: both hold for what `flag` does.

    Args:
        rule: for example `Sigma(3)`.
        calibration: held-out normal scores, of samples.
        fit_scores: scores (m,) that set the threshold, usually of training rows. If not given, or if they are the
            calibration scores (in order of time, say), the threshold is chosen on the calibration, and only the
            envelope over all thresholds bounds it: that costs some tightness, and there is no lower bound.
        delta: allowed probability that a bound does not hold, in (0, 1).

    Raises:
        InputError: scores the rule cannot use, see `Rule.value`; or no `fit_scores` for a rule that needs their order.
        ValueError: `delta` outside (0, 1), or a calibration of blocks.
    """
    if fit_scores is None and rule.ordered:
        raise InputError(f"{rule} needs scores in order of time, a calibration keeps none: give them as fit_scores")
    given = calibration.scores if fit_scores is None else as_scores(fit_scores, "fit_scores")
    value = rule.value(given)
    same = np.array_equal(np.sort(given), calibration.scores)
    certificate = calibration.certify(value, delta=delta, chosen_on="calibration" if same else "other")
    if not same:
        flagged = int((lower_for_ties(calibration.scores, calibration.tie_rtol, calibration.scale) > value).sum())
        certificate = replace(certificate, lower=certify(value, flagged, calibration.n, delta=delta).lower)
    premises = (f"{rule} is a heuristic: its nominal rate holds only if {rule.premise}",)
    none = Guarantee(GuaranteeKind.NONE, rule.nominal, certificate.upper, calibration.n, 0, None, premises)
    return CertifiedThreshold(value, 0, none, calibration.tie_rtol, calibration.scale, rule, certificate)


RULES: tuple[type[Rule], ...] = (Sigma, IQR, MAD, Percentile, Contamination, ControlLimits)


def parse_rule(text: str) -> Rule:
    """The rule written as `sigma:3` or `3-sigma`, `iqr:1.5`, `mad:3.5`, `percentile:99`, `contamination:0.05`, `spc`.

    Without a number it has its usual one. `str` of a rule is read back as the same rule.

    Raises:
        InputError: anything else.
    """
    written = text.strip().lower()
    name, colon, number = (f"sigma:{written[:-6]}" if written.endswith("-sigma") else written).partition(":")
    known = {rule.name: rule for rule in RULES}
    if name not in known or (colon and not number):
        raise InputError(f"no rule {text!r}: use 3-sigma, {', '.join(str(rule()) for rule in RULES)}")
    try:
        return known[name](*([float(number)] if number else []))
    except ValueError as error:
        raise InputError(f"rule {text!r}: {error}; write it as in {known[name]()}") from None


def _spread(rule: Rule, values: Scores, spread: float) -> float:
    if spread == 0:
        raise InputError(f"{rule} finds no spread in {len(values)} scores: too many are equal, or all are too close")
    return spread


def _decimal(number: float) -> Fraction:
    """The decimal that was written, exactly."""
    return Fraction(repr(float(number)))


def _quantile(values: Scores, share: Fraction) -> float:
    """Linear interpolation between sorted values; the place is exact, so that it hits one where it should."""
    place = share * (len(values) - 1)
    below = math.floor(place)
    low, high = values[[below, min(below + 1, len(values) - 1)]]
    return float(low + float(place - below) * (high - low))
