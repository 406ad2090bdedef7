"""What a threshold promises, as data: kind, level, sample size and the assumptions it rests on.

Two promises about normal data are made here, both from `n` held-out normal scores and integer ranks, and `none` says
that there is none:

* `marginal`: P(a new normal sample is flagged) <= alpha, averaged over calibration draws.
  Source: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005 (conformal prediction).
* `pac`: with probability >= 1 - delta over the calibration draw, the false-alarm rate of this threshold is <= alpha.
  Source: Wilks, *Determination of sample sizes for setting tolerance limits*, 1941; Vovk, *Conditional validity of
  inductive conformal predictors*, 2012.
* `none`: the threshold has the rank that `marginal` would give it, but the scores depend on each other (steps or
  overlapping windows of a series), so the level is nominal: nothing follows from n alone.

Neither says how likely a flagged sample is to be an anomaly: that needs the prevalence.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv

from deepad.errors import InsufficientCalibrationError

ASSUMPTIONS = {
    "marginal": ("calibration and new normal samples are exchangeable", "the scorer was fixed before calibration"),
    "pac": ("calibration and new normal samples are i.i.d.", "the scorer was fixed before calibration"),
    "none": ("calibration scores depend on each other: the level asked for is nominal, not promised",),
}


SMALLEST = 1e-300
"""No level below this is taken: the arithmetic of the next larger ones would overflow."""


class GuaranteeKind(StrEnum):
    """The kind of promise, see the module docstring."""

    MARGINAL = "marginal"
    PAC = "pac"
    NONE = "none"


@dataclass(frozen=True)
class Guarantee:
    """The promise a threshold carries.

    Attributes:
        kind: what is promised.
        alpha: false-alarm rate asked for, in (0, 1).
        attained: the level that holds, <= alpha: for `marginal` the exact mean false-alarm rate k/(n+1) of continuous
            scores, for `pac` the exact upper bound at confidence 1 - delta; for `none` the share k/(n+1) aimed at,
            which holds for nothing but the calibration scores.
        n: number of calibration scores.
        k: rank of the threshold among them, counted from the largest.
        delta: probability of an unlucky calibration draw that `pac` allows, None for the other kinds.
        assumptions: what must hold for the promise to hold.
    """

    kind: GuaranteeKind
    alpha: float
    attained: float
    n: int
    k: int
    delta: float | None
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == GuaranteeKind.NONE:
            return (
                f"no guarantee: the {self.n} calibration scores depend on each other; the threshold is number "
                f"{self.k} of them from the top (asked: {self.alpha:.4g})"
            )
        if self.delta is not None:
            return (
                f"with probability {1 - self.delta:.4g} over the {self.n} calibration samples, at most "
                f"{_percent(self.attained)} of new normal samples are flagged (asked: {self.alpha:.4g})"
            )
        return (
            f"a new normal sample is flagged with probability at most {_percent(self.attained)}, "
            f"averaged over draws of the {self.n} calibration samples (asked: {self.alpha:.4g})"
        )

    def future_alarms(self, m: int, *, level: float = 0.95) -> tuple[int, int] | None:
        """Central range of the number of false alarms among the next `m` normal samples; None for kind `none`.

        The count is BetaBinomial(m, k, n + 1 - k) for continuous scores, over calibration draw and new samples.
        A count above the range says that the data have drifted or that the assumptions do not hold.
        Source: Marques, *On the universal distribution of the coverage in split conformal prediction*, 2023.

        Raises:
            ValueError: `m` below 1 or `level` outside (0, 1).
        """
        from scipy.stats import betabinom  # half a second to import: only who asks pays

        if m < 1:
            raise ValueError(f"m must be at least 1 sample, got {m}")
        if self.kind == GuaranteeKind.NONE:
            return None
        law = betabinom(m, self.k, self.n + 1 - self.k)
        tail = (1 - check_level("level", level)) / 2
        return int(law.ppf(tail)), int(law.ppf(1 - tail))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "kind": self.kind.value, "assumptions": list(self.assumptions)}


def check_level(name: str, value: float) -> float:
    """Return a probability strictly between 0 and 1 as a float.

    Raises:
        TypeError: `value` is not a number.
        ValueError: `value` is not inside (0, 1).
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise TypeError(f"{name} must be a number in (0, 1), got {value!r}")
    if not SMALLEST < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def marginal_rank(alpha: float, n: int) -> int:
    """Largest integer k with k/(n+1) <= alpha, 0 if there is none.

    The division is rounded once and then compared, so that *p <= alpha* and *rank <= k* agree bit for bit;
    `floor(alpha * (n + 1))` rounds the product instead and is off by one for example at alpha=0.29, n=99.
    """
    return _largest(lambda k: k / (n + 1) <= alpha, n + 1)


def pac_rank(alpha: float, n: int, delta: float) -> int:
    """Largest k with P(Bin(n, alpha) >= k) >= 1 - delta, 0 if there is none.

    The false-alarm rate of "flag above the k-th largest of n" is Beta(k, n + 1 - k) for continuous scores, and
    P(Beta(k, n + 1 - k) <= alpha) = P(Bin(n, alpha) >= k). Source: Vovk 2012, section 3.
    """
    return _largest(lambda k: bool(betainc(k, n + 1 - k, alpha) >= 1 - delta), n)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """Largest k in 1..most for which a condition holds that fails from some k on; 0 if it holds for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def required_n(alpha: float, *, kind: str = "marginal", delta: float | None = None) -> int:
    """Smallest number of calibration scores from which `alpha` can be guaranteed.

    Raises:
        ValueError: `alpha` or `delta` outside (0, 1), or a `delta` that does not go with the kind.
    """
    alpha, delta = check_level("alpha", alpha), check_delta(kind, delta)
    if delta is None:
        most = math.ceil(1 / Fraction(alpha))
        return _largest(lambda n: 1 / n > alpha, most)  # 1/(n+1) > alpha is what refuses n
    most = math.ceil(Fraction(math.log(delta)) / Fraction(math.log1p(-alpha))) + 2
    return _largest(lambda n: bool(betainc(1, n, alpha) < 1 - delta), most) + 1  # the condition of pac_rank for k = 1


def check_delta(kind: str, delta: float | None) -> float | None:
    """Return delta where the kind needs one and None where it does not.

    Raises:
        ValueError: unknown kind, `pac` without delta, or another kind with one.
    """
    if kind not in ASSUMPTIONS:
        raise ValueError(f"kind must be one of {', '.join(ASSUMPTIONS)}, got {kind!r}")
    if kind == "pac":
        if delta is None:
            raise ValueError("kind='pac' needs delta, the allowed probability of an unlucky calibration set (say 0.05)")
        return check_level("delta", delta)
    if delta is not None:
        raise ValueError(f"delta={delta} belongs to kind='pac'; kind={kind!r} takes none")
    return None


def guaranteed_rank(
    alpha: float, n: int, *, kind: str = "marginal", delta: float | None = None
) -> tuple[int, Guarantee]:
    """Rank k of the threshold (the k-th largest of n scores) and the promise it carries.

    Raises:
        InsufficientCalibrationError: no rank can promise `alpha` from `n` scores; the message says what could.
        ValueError: arguments out of range.
    """
    alpha, delta = check_level("alpha", alpha), check_delta(kind, delta)
    k = marginal_rank(alpha, n) if delta is None else pac_rank(alpha, n, delta)
    if k == 0:
        needed = required_n(alpha, kind=kind, delta=delta)
        best = 1 / (n + 1) if delta is None else -math.expm1(math.log(delta) / n)
        advised = _round_up(best)
        if (
            delta is not None and advised < 1 and not pac_rank(advised, n, delta)
        ):  # a bound met exactly but for rounding
            advised = _round_up(advised * (1 + 1e-9))
        ways = ["more normal data for calibration"]
        if advised < 1:
            ways.insert(0, f"alpha >= {advised}")
        if delta is not None and marginal_rank(alpha, n):
            ways.append("kind='marginal'")
        raise InsufficientCalibrationError(
            f"alpha={alpha:g} ({kind}{'' if delta is None else f', delta={delta:g}'}) needs at least {needed} "
            f"calibration scores, got {n}: use {', or '.join(ways)}",
            n=n,
            needed=needed,
        )
    attained = k / (n + 1) if delta is None else float(betaincinv(k, n + 1 - k, 1 - delta))
    return k, Guarantee(GuaranteeKind(kind), alpha, min(attained, alpha), n, k, delta, ASSUMPTIONS[kind])


def _percent(level: float) -> str:
    """A level as a percentage of four significant digits that does not understate it."""
    return f"{_round_up(level, 4) * 100:.10g} %"


def _round_up(value: float, digits: int = 3) -> float:
    """The smallest number of so many significant digits (of its distance to 1 above one half) that is not below."""
    step = 10.0 ** (math.floor(math.log10(min(value, 1 - value) or 1e-16)) - digits + 1)
    return float(f"{math.ceil(value / step) * step:.15g}")
