"""Bounds on the false-alarm rate of every threshold at once, and the certificate of any one threshold.

Let V_(k) be the false-alarm rate of "flag above the k-th largest of n calibration scores". With h = n // 2 and

    a_i = (delta * prod_{j<h} (i - j)/(n - j))^(1/h)  for i >= h,  0 below,      b_k = 1 - a_{n+1-k},

P(V_(k) <= b_k for all k) = 1 - delta, exactly for continuous scores that are independent draws. Whoever looks at more
than one threshold (tiers, sliders, a curve) needs this envelope; a bound for one threshold does not hold for the best
of many.

A threshold that came from elsewhere (three sigma, a percentile, a colleague) is given the range that the calibration
scores prove: x of n lie above it, and the range is that of Clopper and Pearson. If the threshold was chosen by looking
at the same calibration scores, only the envelope holds.

Source: Bates, Candès, Lei, Romano, Sesia, *Testing for outliers with conformal p-values*, 2023, section 3 (generalised
Simes inequality); Clopper & Pearson, *The use of confidence or fiducial limits*, 1934.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaln

ChosenOn = Literal["other", "calibration"]


def envelope_bounds(n: int, delta: float, k: Any = None) -> NDArray[np.float64]:
    """Bounds b_k, one for each rank k asked for (1..n, all of them if not given); 1 where nothing can be said.

    Args:
        n: number of calibration scores, at least 1.
        delta: allowed probability that any bound is violated, in (0, 1).
        k: ranks, counted from the largest score.
    """
    h = max(1, n // 2)
    i = n + 1 - np.asarray(np.arange(1, n + 1) if k is None else k)
    reached = np.maximum(i, h)  # below h the product is 0
    # paired so that they cancel exactly for k = 1: the terms are of size n log n, which would swallow log(delta)
    product = (gammaln(reached + 1) - gammaln(n + 1)) - (gammaln(reached - h + 1) - gammaln(n - h + 1))
    return np.where(i >= h, -np.expm1((np.log(delta) + product) / h), 1.0)


@dataclass(frozen=True)
class Certificate:
    """What calibration scores prove about a threshold that came from elsewhere.

    Attributes:
        value: the threshold, in the unit of the scores.
        above: calibration scores above it.
        n: calibration scores.
        lower: bound from below on its false-alarm rate, at confidence 1 - delta; 0 if it was chosen on the calibration.
        upper: bound from above, at confidence 1 - delta.
        delta: allowed probability that one of the two bounds does not hold, each.
        chosen_on: `"other"` scores, or the `"calibration"` scores themselves.
    """

    value: float
    above: int
    n: int
    lower: float
    upper: float
    delta: float
    chosen_on: ChosenOn

    def __str__(self) -> str:
        seen = f"{self.above} of {self.n} calibration samples lie above {self.value:.6g}"
        upper, sure = percent(self.upper), confidence(self.delta)
        if self.chosen_on == "calibration":
            return (
                f"{seen}, where it was chosen: at most {upper} of normal samples are flagged, with probability {sure}"
            )
        lower = f"{_rounded(self.lower, 4, -1) * 100:.10g} %"
        return f"{seen}: between {lower} and {upper} of normal samples are flagged, each bound with probability {sure}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def certify(value: float, above: int, n: int, *, delta: float, chosen_on: ChosenOn = "other") -> Certificate:
    """Bounds on the false-alarm rate of a threshold above which `above` of `n` calibration scores lie."""
    if chosen_on not in ("other", "calibration"):
        raise ValueError(f"chosen_on must be 'other' or 'calibration', got {chosen_on!r}")
    if chosen_on == "calibration":
        upper = float(envelope_bounds(n, delta, above + 1)) if above < n else 1.0
        return Certificate(value, above, n, 0.0, upper, delta, chosen_on)
    lower = float(betaincinv(above, n - above + 1, delta)) if above else 0.0
    upper = float(betaincinv(above + 1, n - above, 1 - delta)) if above < n else 1.0
    return Certificate(value, above, n, lower, upper, delta, chosen_on)


def percent(level: float) -> str:
    """A level as a percentage of four significant digits that does not understate it."""
    return f"{round_up(level, 4) * 100:.10g} %"


def confidence(delta: float) -> str:
    """The probability 1 - delta in words that do not overstate it."""
    unlucky = round_up(delta, 4)
    return f"{1 - unlucky:.12g}" if unlucky > 1e-9 else f"1 - {unlucky:.4g}"


def round_up(value: float, digits: int = 3) -> float:
    """The smallest number of so many significant digits that is not below; of its distance to 1 in (1/2, 1)."""
    return _rounded(value, digits, 1)


def _rounded(value: float, digits: int, way: Literal[1, -1]) -> float:
    """Round up (1) or down (-1): the nearest decimal, or its neighbour where that lies on the wrong side as a float."""
    leading = Decimal(min(value, 1 - value) if value < 1 else value)
    if not leading:
        return value
    step = Decimal(1).scaleb(leading.adjusted() - digits + 1)
    nearest = Decimal(value).quantize(step)
    return float(nearest + way * step if (float(nearest) - value) * way < 0 else nearest)
