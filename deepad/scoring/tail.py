"""Thresholds beyond what ranks can reach: a generalised Pareto tail fitted to the largest calibration scores.

Of n scores let t be the empirical quantile of level 0.98, and Y = S - t the N peaks above it. Peaks above a high level
of most distributions nearly follow P(Y > y) = (1 + gamma y/sigma)^(-1/gamma), so that the score exceeded with
probability alpha < N/n is about

    z = t + sigma/gamma (r^(-gamma) - 1),   r = alpha n/N,   and t - sigma ln r for gamma = 0.

| method | estimate                                                                                               |
|--------|--------------------------------------------------------------------------------------------------------|
| `pwm`  | moments a_0 = mean Y and a_1 = sum_j Y_(j) (N - j)/(N (N - 1)), Y ascending, weighted by probability:   |
|        | gamma = 2 - a_0/(a_0 - 2 a_1), sigma = 2 a_0 a_1/(a_0 - 2 a_1)                                          |
| `mle`  | likelihood, profiled over theta = gamma/sigma, of shapes gamma >= -1 (below, it is unbounded)           |

No promise follows: kind `model`. Simulated for `pwm` with 5000 independent scores, 100 peaks and alpha = 1e-4, Gaussian
to Pareto tails: z itself is exceeded 0.1 to 6 times as often as asked (central 90 %), and `upper`, the 95 % limit of
a parametric bootstrap, is exceeded too often in 7 to 16 % of cases, not 5 %. That is an order of magnitude. With scores
that depend on each other (AR(1), correlation 0.95) the limit fails in 40 %.

Whatever speaks against the fit refuses it, all reasons at once. This caution has a price: of sound independent samples
about one in six is refused too, of only 2500 scores one in three. And each check sees no more than it looks for: the
dependence of peaks shows only in scores that are in order of time.

Source: Pickands, *Statistical inference using extreme order statistics*, 1975; Hosking & Wallis, *Parameter and
quantile estimation for the generalized Pareto distribution*, 1987 (`pwm`); Grimshaw, *Computing maximum likelihood
estimates for the generalized Pareto distribution*, 1993 (`mle`); Choulakian & Stephens, *Goodness-of-fit tests for the
generalized Pareto distribution*, 2001; Ferro & Segers, *Inference for clusters of extreme values*, 2003 (extremal
index); Siffer, Fouque, Termier, Largouet, *Anomaly detection in streams with extreme value theory*, 2017, equation 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import NonFiniteScoreError, TailFitError
from deepad.scoring.conformal import Scores, as_scores
from deepad.scoring.guarantee import ASSUMPTIONS, Guarantee, GuaranteeKind, check_level

Method = Literal["pwm", "mle"]

DRAWS = 200  # of the parametric bootstrap
LEVELS = (0.95, 0.98, 0.99)  # whose shapes must agree,
FEWEST_COMPARED = 20  # where there are as many peaks
FEWEST_PEAKS, MOST_TIES, MOST_SHAPE, MOST_SPREAD = 50, 0.05, 0.5, 0.3
LEAST_EXTREMAL_INDEX, LEAST_FIT = 0.8, 0.05
REACH = 50  # nothing is said of levels below 1/(50 n)


@dataclass(frozen=True)
class TailModel:
    """A fitted tail of normal scores. Immutable; made by `TailModel.fit`.

    Attributes:
        start: level above which scores are peaks, itself a score; in the unit of the scores.
        gamma: shape of the tail; 0 is exponential, above it heavy, below it bounded.
        sigma: scale of the peaks, > 0, in the unit of the scores.
        n: number of scores.
        n_peaks: number of peaks, the scores above `start`.
        method: `"pwm"` or `"mle"`.
        diagnostics: what the fit was checked by: `gammas` (shape by level), `extremal_index` (None if the scores have
            no order), `tie_share` and `cramer_von_mises_p`.
    """

    start: float
    gamma: float
    sigma: float
    n: int
    n_peaks: int
    method: Method
    diagnostics: Mapping[str, Any] = field(hash=False, compare=False)

    @classmethod
    def fit(
        cls, scores: ArrayLike, *, quantile: float = 0.98, method: Method = "pwm", ordered: bool = True
    ) -> "TailModel":
        """Fit the tail of the scores (n,) of normal samples that no fitting, tuning or model choice has seen.

        Args:
            scores: in order of time, because clusters of peaks are looked for; else `ordered=False`.
            quantile: level above which scores are peaks, in (0, 1); the default needs 2500 scores.
            method: `"pwm"` (closed form) or `"mle"`, see the module docstring.
            ordered: False if the samples are independent and their order says nothing. Sorted scores look dependent.

        Raises:
            TailFitError: the tail cannot be extrapolated; `reasons` has everything that was found.
            NonFiniteScoreError: a score is NaN or infinite.
            ValueError: no scores, or arguments out of range.
            TypeError: scores that are not real numbers.
        """
        values, level = _checked(scores), check_level("quantile", quantile)
        if method not in get_args(Method):
            raise ValueError(f"method must be 'pwm' or 'mle', got {method!r}")
        ascending = np.sort(values)
        start, peaks = _peaks(ascending, level)
        index = _extremal_index(np.flatnonzero(values > start), len(values)) if ordered and len(peaks) > 2 else None
        reasons = _against_values(peaks, index)
        if not _can_be_fitted(peaks):
            raise _refusal(len(values), reasons)
        gamma, sigma = _estimate(peaks, method)
        gammas = {level: gamma}
        for other in LEVELS:
            above = _peaks(ascending, other)[1]
            if len(above) >= FEWEST_COMPARED and _can_be_fitted(above):
                gammas[other] = _estimate(above, method)[0]
        fit = _p_of_fit(peaks, gamma, sigma, method)
        if reasons := reasons + _against_fit(gamma, gammas, fit):
            raise _refusal(len(values), reasons)
        checks = {"extremal_index": index, "tie_share": _tie_share(peaks), "cramer_von_mises_p": fit}
        return cls(start, gamma, sigma, len(values), len(peaks), method, {"gammas": gammas, **checks})

    def __str__(self) -> str:
        return (
            f"generalised Pareto tail of {self.n_peaks} peaks of {self.n} scores above {self.start:.6g}: "
            f"shape {self.gamma:.3g}, scale {self.sigma:.6g} ({self.method})"
        )

    def quantile(self, alpha: float) -> float:
        """The score that a normal sample exceeds with probability `alpha`, if the tail is as fitted.

        Raises:
            TailFitError: `alpha` is below 1/(50 n).
            ValueError: `alpha` is not in (0, 1), or so large that the tail does not reach down to it.
        """
        return self.start + float(_excess(self.gamma, self.sigma, self._depth(alpha)))

    def upper(self, alpha: float, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0) -> float:
        """Upper limit of `quantile(alpha)`: the quantile `confidence` of those of tails refitted to simulated peaks.

        Args:
            alpha: level, in [1/(50 n), n_peaks/n).
            confidence: nominal; the limit fails somewhat more often, see the module docstring.
            draws: simulated sets of peaks, more than confidence/(1 - confidence) of them.
            seed: of the simulation; the same seed gives the same limit.

        Raises:
            TailFitError: `alpha` is below 1/(50 n).
            ValueError: arguments out of range.
        """
        depth, confidence = self._depth(alpha), check_level("confidence", confidence)
        rank = math.ceil(_decimal(confidence) * (draws + 1))
        if draws < rank:
            raise ValueError(
                f"confidence={confidence:g} needs more draws than {draws}: use {math.ceil(1 / (1 - confidence))}"
            )
        tails = [(gamma, sigma) for gamma, sigma, _ in _redrawn(self.gamma, self.n_peaks, self.method, draws, seed)]
        gammas, sigmas = np.array(tails).T
        limits = np.sort(_excess(gammas, sigmas, depth))
        return self.start + self.sigma * float(limits[rank - 1])

    def guarantee(self, alpha: float, *, confidence: float = 0.95) -> Guarantee:
        """What `upper` promises at this level: kind `model`, that is nothing but what the tail says.

        Raises:
            TailFitError: `alpha` is below 1/(50 n).
            ValueError: arguments out of range.
        """
        self._depth(alpha)
        limit = f"the threshold is an upper limit of nominal confidence {check_level('confidence', confidence):g}"
        unseen = ("calibration scores came in no order, so clusters of peaks were not looked for",)
        assumptions = (*ASSUMPTIONS["model"], *(unseen if self.diagnostics["extremal_index"] is None else ()), limit)
        return Guarantee(GuaranteeKind.MODEL, float(alpha), float(alpha), self.n, 0, None, assumptions)

    def _depth(self, alpha: float) -> float:
        """-ln r: how far below the share of peaks the level lies."""
        share = check_level("alpha", alpha) * self.n / self.n_peaks
        if share >= 1:
            raise ValueError(
                f"alpha={alpha:g} lies below the tail, which starts at {self.n_peaks / self.n:.4g}: use ranks "
                "(kind='marginal' or 'pac'), or a lower quantile"
            )
        if alpha < (least := 1 / (REACH * self.n)):
            raise _refusal(self.n, [f"alpha={alpha:g} is below 1/({REACH} n) = {least:.3g}"])
        return -math.log(share)


def _checked(scores: ArrayLike) -> Scores:
    values = as_scores(scores, "calibration scores")
    if len(values) == 0:
        raise ValueError("a tail needs normal scores, got none")
    if bad := int((~np.isfinite(values)).sum()):
        raise NonFiniteScoreError(
            f"{bad} of {len(values)} calibration scores are NaN or infinite: calibrate on clean normal rows"
        )
    return values


def _peaks(values: Scores, level: float) -> tuple[float, Scores]:
    """The smallest of ascending values with a share `level` at or below it, and what exceeds it, ascending."""
    start = values[math.ceil(_decimal(level) * len(values)) - 1]
    with np.errstate(over="ignore"):
        return float(start), values[values > start] - start


def _decimal(number: float) -> Fraction:
    """The decimal that was written, exactly: 0.98 of 5000 is 4900, and 0.95 of 200 draws is no 191st by rounding."""
    return Fraction(repr(float(number)))


def _can_be_fitted(peaks: Scores) -> bool:
    return len(peaks) > 2 and peaks[0] < peaks[-1] < np.inf


def _tie_share(peaks: Scores) -> float:
    """Share of the peaks that equal an earlier one."""
    return 1 - len(np.unique(peaks)) / len(peaks)


def _against_values(peaks: Scores, index: float | None) -> list[str]:
    if len(peaks) and peaks[-1] == np.inf:
        return ["differences of scores are too large for floats: scale the scores"]
    reasons = []
    if len(peaks) < FEWEST_PEAKS:
        reasons.append(f"{len(peaks)} peaks < {FEWEST_PEAKS}: give more scores")
    if len(peaks) and (share := _tie_share(peaks)) > MOST_TIES:
        reasons.append(f"{share:.1%} of the peaks are ties, more than {MOST_TIES:.0%}: the scores are discrete")
    if len(peaks) == 0 or (len(peaks) > 1 and peaks[-2] == peaks[-1]):
        reasons.append("the largest score occurs more than once: the scores are bounded or saturate")
    if index is not None and index < LEAST_EXTREMAL_INDEX:
        reasons.append(
            f"extremal index {index:.2f} < {LEAST_EXTREMAL_INDEX}: peaks come in clusters; take one maximum of each, "
            "or ordered=False for independent samples that are in no order of time"
        )
    return reasons


def _against_fit(gamma: float, gammas: Mapping[float, float], fit: float) -> list[str]:
    reasons = []
    if abs(gamma) > MOST_SHAPE:
        what = "bounded scores" if gamma < 0 else "a tail too heavy to extrapolate; take logarithms of the scores"
        reasons.append(f"shape {gamma:.2f} is outside [-{MOST_SHAPE}, {MOST_SHAPE}]: {what}")
    if max(gammas.values()) - min(gammas.values()) > MOST_SPREAD:
        shapes = ", ".join(f"{shape:.2f} above {level:g}" for level, shape in gammas.items())
        reasons.append(f"the shape depends on the level ({shapes})")
    if fit < LEAST_FIT:
        reasons.append(f"the peaks do not follow the fitted tail (Cramer-von Mises p={fit:.3f} < {LEAST_FIT})")
    return reasons


def _refusal(n: int, reasons: list[str]) -> TailFitError:
    return TailFitError(
        f"the tail of {n} calibration scores cannot be extrapolated: {'; '.join(reasons)}. Use a larger alpha that "
        "ranks can reach, or more independent normal data",
        reasons=tuple(reasons),
    )


def _extremal_index(times: NDArray[np.int64], n: int) -> float:
    """Intervals estimator of 1 over the mean size of a cluster of peaks, in (0, 1], with standard error 1/sqrt(N).

    Time is closed to a circle, so that the gap around a single cluster counts.
    """
    gaps = np.diff(times, append=times[0] + n).astype(np.float64)
    if gaps.max() > 2:
        return float(min(1.0, 2 * (gaps - 1).sum() ** 2 / (len(gaps) * ((gaps - 1) * (gaps - 2)).sum())))
    return float(min(1.0, 2 * gaps.sum() ** 2 / (len(gaps) * (gaps**2).sum())))


def _estimate(peaks: Scores, method: str) -> tuple[float, float]:
    """Shape and scale of ascending peaks that are not all equal."""
    top = peaks[-1]
    y = peaks / top  # so that the sum cannot overflow
    a0 = y.mean()
    if method == "pwm":
        N = len(y)
        a1 = float(y @ np.arange(N - 1, -1, -1)) / (N * (N - 1))
        spread = a0 - 2 * a1
        return float(2 - a0 / spread), float(2 * a0 * a1 / spread * top)
    y = y / a0
    theta = _most_likely(y)
    gamma = float(np.log1p(theta * y).mean())
    return gamma, (gamma / theta if theta else 1.0) * float(a0) * float(top)


def _most_likely(y: Scores) -> float:
    """Maximum in theta of the profile log-likelihood -(ln sigma + gamma + 1), where gamma = mean ln(1 + theta y).

    On a grid of v, where theta max(y) = e^v - 1 (v = 0 is the exponential tail), then by bisection of the slope, which
    is sharper than comparing likelihoods, flat as they are near the largest. The peaks have mean 1.
    """
    step = 0.5
    grid = np.arange(-40, 41) * step
    thetas = np.expm1(grid) / y[-1]
    gammas = np.log1p(np.outer(thetas, y)).mean(axis=1)
    sigmas = np.divide(gammas, thetas, out=np.ones_like(gammas), where=thetas != 0)
    best = grid[np.argmax(np.where(gammas >= -1, -np.log(sigmas) - gammas, -np.inf))]
    low, high = best - step, best + step
    for _ in range(50):
        middle = (low + high) / 2
        theta = math.expm1(middle) / y[-1]
        low, high = (middle, high) if _slope(theta, y) > 0 else (low, middle)
    return float(math.expm1((low + high) / 2) / y[-1])


def _slope(theta: float, y: Scores) -> float:
    """Derivative of the profile log-likelihood in theta, over N."""
    if abs(theta) < 1e-8:  # its limit, where the quotients below would cancel
        return float((y**2).mean() / 2 - 1)
    gamma, inner = np.log1p(theta * y).mean(), (y / (1 + theta * y)).mean()
    return float(1 / theta - inner / gamma - inner)


def _excess(gamma: Any, sigma: Any, depth: Any) -> Any:
    """Peak exceeded with probability exp(-depth)."""
    shape = np.where(gamma == 0, 1.0, gamma)
    return sigma * np.where(gamma == 0, depth, np.expm1(shape * depth) / shape)


def _distance(peaks: Scores, gamma: float, sigma: float) -> float:
    """Cramer-von Mises distance of ascending peaks from a tail."""
    N = len(peaks)
    with np.errstate(divide="ignore"):  # beyond the end of a bounded tail: -inf
        depth = np.log1p(np.maximum(gamma * peaks / sigma, -1.0)) / gamma if gamma else peaks / sigma
    u = -np.expm1(-depth)
    return float(((u - (np.arange(N) + 0.5) / N) ** 2).sum() + 1 / (12 * N))


def _redrawn(gamma: float, n_peaks: int, method: str, draws: int, seed: int) -> list[tuple[float, float, float]]:
    """Shape, scale and distance of tails refitted to peaks that are drawn from a tail of scale 1."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        peaks = np.sort(_excess(gamma, 1.0, rng.exponential(size=n_peaks)))
        refitted = _estimate(peaks, method)
        drawn.append((*refitted, _distance(peaks, *refitted)))
    return drawn


def _p_of_fit(peaks: Scores, gamma: float, sigma: float, method: str) -> float:
    """Parametric bootstrap p-value of the distance: the tables of Choulakian & Stephens are for `mle` alone."""
    seen = _distance(peaks, gamma, sigma)
    redrawn = _redrawn(gamma, len(peaks), method, DRAWS, seed=0)
    return (1 + sum(distance >= seen for *_, distance in redrawn)) / (DRAWS + 1)
