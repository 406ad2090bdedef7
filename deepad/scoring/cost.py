"""Thresholds from money, or from labelled anomalies.

Without labels two things can be said of a false-alarm rate alpha, with costs c_FP of a false alarm and c_FN of a missed
anomaly, and the prevalence pi, the share of anomalies among the samples that will be scored:

- a budget B for false alarms among N samples a period is kept by alpha <= B/(c_FP N): `alpha_for_cost`;
- above alpha = pi/(1 - pi) c_FN/c_FP alarms lose money even if they miss nothing: `break_even_alpha`.

With the scores of m labelled anomalies beside those of n normal samples, the threshold t can be chosen by what it does,

    C(t) = c_FP (1 - pi) FPR(t) + c_FN pi FNR(t)   money a sample (`choose_by_cost`), or
    F1(t) = 2 pi T/(pi T + (1 - pi) F + pi)        where T = 1 - FNR(t), F = FPR(t) (`choose_by_f1`),

over the normal scores, where FPR above the k-th largest is estimated as k/(n + 1), its mean, and FNR as a share. What a
chosen threshold shows on the scores that chose it is too good. Two things are honest: bounds that hold for all
thresholds at once, on *both* sides, since t was chosen by looking at both (the envelope of `deepad.scoring.envelope`
for normal scores, and for anomalies counted from below, at delta/2 each; Clopper and Pearson's bound fails here); and a
report on scores that did not choose it (`report`), where Clopper and Pearson's bounds hold.

It fails where the labelled anomalies are not like those to come, and where the prevalence is wrong: that of a labelled
test set is usually far too high. F1 counts samples as they are, never whole segments for one hit in them ("point
adjustment"), by which random scores look excellent.

Where a model gives posterior probabilities, not scores, no search is needed: `elkan_threshold`.

Source: Elkan, *The foundations of cost-sensitive learning*, 2001; Bates, Candès, Lei, Romano, Sesia, *Testing for
outliers with conformal p-values*, 2023 (envelope); Kim, Choi, Choi, Lee, Yoon, *Towards a rigorous evaluation of
time-series anomaly detection*, 2022 (point adjustment).
"""

import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import DataLeakError, NonFiniteScoreError
from deepad.scoring.conformal import Scores, as_scores
from deepad.scoring.envelope import Certificate, ChosenOn, certify, confidence, percent
from deepad.scoring.guarantee import check_level


def alpha_for_cost(budget: float, *, cost_false_alarm: float, n_per_period: float) -> float:
    """False-alarm rate at which false alarms are expected to cost `budget` a period; above 1 if it pays for any rate.

    Budget and cost in money, and the number of samples scored in a period, all > 0.

    Raises:
        ValueError: an argument is not positive and finite.
    """
    price = _positive("cost_false_alarm", cost_false_alarm) * _positive("n_per_period", n_per_period)
    return _positive("budget", budget) / price


def break_even_alpha(*, cost_false_alarm: float, cost_missed: float, prevalence: float) -> float:
    """False-alarm rate above which alarms lose money even if they miss no anomaly; above 1 if none does.

    Costs in money, > 0, and the share of anomalies among the samples to be scored, in (0, 1).

    Raises:
        ValueError: an argument is out of range.
    """
    costs = Costs(cost_false_alarm, cost_missed, prevalence)
    return costs.never / costs.always


def elkan_threshold(*, cost_false_alarm: float, cost_missed: float) -> float:
    """Posterior probability of an anomaly from which flagging costs less, in (0, 1); a score or p-value is none.

    Raises:
        ValueError: a cost is not positive and finite.
    """
    false_alarm = _positive("cost_false_alarm", cost_false_alarm)
    return false_alarm / (false_alarm + _positive("cost_missed", cost_missed))


@dataclass(frozen=True)
class AffordableAlpha:
    """The false-alarm rates that a budget and the break-even allow; made by `affordable_alpha`.

    Attributes:
        by_budget: rate that uses up the budget.
        by_break_even: rate above which alarms lose money.
    """

    by_budget: float
    by_break_even: float

    @property
    def alpha(self) -> float:
        """The smaller one, in (0, 1)."""
        return min(self.by_budget, self.by_break_even)

    def __str__(self) -> str:
        return (
            f"alpha <= {self.alpha:.4g}: false alarms use up the budget at {self.by_budget:.4g} and lose money above "
            f"{self.by_break_even:.4g}, even if no anomaly is missed"
        )


def affordable_alpha(
    budget: float, *, cost_false_alarm: float, cost_missed: float, prevalence: float, n_per_period: float
) -> AffordableAlpha:
    """The largest false-alarm rate that keeps the budget and does not lose money; arguments as above.

    Raises:
        ValueError: an argument is out of range, or no rate is too expensive.
    """
    found = AffordableAlpha(
        alpha_for_cost(budget, cost_false_alarm=cost_false_alarm, n_per_period=n_per_period),
        break_even_alpha(cost_false_alarm=cost_false_alarm, cost_missed=cost_missed, prevalence=prevalence),
    )
    if found.alpha >= 1:
        raise ValueError(
            f"no false-alarm rate is too expensive (budget allows {found.by_budget:.4g}, break-even is at "
            f"{found.by_break_even:.4g}): check every sample, or correct the costs"
        )
    return found


@dataclass(frozen=True)
class Costs:
    """What mistakes cost: a false alarm and a missed anomaly in money, > 0, and the prevalence in (0, 1)."""

    cost_false_alarm: float
    cost_missed: float
    prevalence: float

    def __post_init__(self) -> None:
        _positive("cost_false_alarm", self.cost_false_alarm)
        _positive("cost_missed", self.cost_missed)
        check_level("prevalence", self.prevalence)

    def of(self, false_alarm_rate: Any, miss_rate: Any) -> Any:
        """Expected cost a sample."""
        return self.always * false_alarm_rate + self.never * miss_rate

    @property
    def never(self) -> float:
        """Cost a sample if nothing is ever flagged."""
        return self.cost_missed * self.prevalence

    @property
    def always(self) -> float:
        """Cost a sample if everything is flagged."""
        return self.cost_false_alarm * (1 - self.prevalence)

    def describe(self, estimate: float, bound: float) -> str:
        """The two numbers in words."""
        least, what = min((self.never, "flagging nothing"), (self.always, "flagging everything"))
        trivial = f"{what} costs {least:.4g}{', no more' if least <= estimate else ''}"
        return f"costs {estimate:.4g} a sample, at most {bound:.4g} ({trivial})"


@dataclass(frozen=True)
class F1:
    """F1, the harmonic mean of precision and recall, at a prevalence in (0, 1)."""

    prevalence: float

    def __post_init__(self) -> None:
        check_level("prevalence", self.prevalence)

    def of(self, false_alarm_rate: Any, miss_rate: Any) -> Any:
        """F1 in [0, 1]."""
        found = self.prevalence * (1 - miss_rate)
        return 2 * found / (found + (1 - self.prevalence) * false_alarm_rate + self.prevalence)

    def describe(self, estimate: float, bound: float) -> str:
        """The two numbers in words."""
        return f"F1 {estimate:.4g}, at least {bound:.4g}, at a prevalence of {self.prevalence:.4g}"


@dataclass(frozen=True)
class Misses:
    """What labelled anomalies prove about a threshold.

    Attributes:
        count: anomalies at or below it.
        n: anomalies.
        upper: bound on the share of such anomalies that it misses, at confidence 1 - delta.
        delta: allowed probability that the bound does not hold.
    """

    count: int
    n: int
    upper: float
    delta: float

    def __str__(self) -> str:
        sure = confidence(self.delta)
        return f"{self.count} of {self.n} anomalies missed, at most {percent(self.upper)} with probability {sure}"


@dataclass(frozen=True)
class Outcome:
    """What a threshold does to labelled scores. Samples above it are flagged.

    Attributes:
        value: the threshold, in the unit of the scores.
        criterion: what is measured: `Costs` or `F1`.
        estimate: its value; too good if the threshold was chosen on these scores.
        bound: upper bound of a cost, lower bound of F1, which holds with probability 1 - delta.
        false_alarms: bound on the false-alarm rate, with probability 1 - delta/2; says where the threshold was chosen.
        misses: bound on the miss rate, with probability 1 - delta/2.
        delta: allowed probability that `bound` does not hold.
        seen: digests of the scores that it was chosen on.
    """

    value: float
    criterion: Costs | F1
    estimate: float
    bound: float
    false_alarms: Certificate
    misses: Misses
    delta: float
    seen: tuple[str, str] = field(repr=False)

    def __str__(self) -> str:
        where = "too good, it was chosen here" if self.false_alarms.chosen_on == "calibration" else "on other scores"
        told, sure = self.criterion.describe(self.estimate, self.bound), confidence(self.delta)
        parts = f"{self.false_alarms}; {self.misses}"
        return f"threshold {self.value:.6g} ({where}): {told}, bound with probability {sure}; {parts}"

    def flag(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """True where a score (N,) lies above the threshold. A NaN score is never normal: it is flagged."""
        values = as_scores(scores)
        return (values > self.value) | np.isnan(values)


def choose_by_cost(
    normal_scores: ArrayLike,
    anomaly_scores: ArrayLike,
    *,
    cost_false_alarm: float,
    cost_missed: float,
    prevalence: float,
    delta: float = 0.05,
) -> Outcome:
    """The normal score that costs least as a threshold; of equal ones the highest. Report it on other scores.

    Args:
        normal_scores: (n,) of normal samples that no fitting or tuning has seen.
        anomaly_scores: (m,) of labelled anomalies, as they are to be expected.
        cost_false_alarm: money a false alarm.
        cost_missed: money a missed anomaly.
        prevalence: share of anomalies among the samples to be scored, in (0, 1); not that of a labelled test set.
        delta: allowed probability that the bound does not hold, in (0, 1).

    Raises:
        NonFiniteScoreError: a score is NaN or infinite.
        ValueError: no scores of one kind, or arguments out of range.
        TypeError: scores that are not real numbers.
    """
    return _choose(normal_scores, anomaly_scores, Costs(cost_false_alarm, cost_missed, prevalence), delta)


def choose_by_f1(
    normal_scores: ArrayLike, anomaly_scores: ArrayLike, *, prevalence: float, delta: float = 0.05
) -> Outcome:
    """The normal score whose F1 is largest as a threshold; as `choose_by_cost`."""
    return _choose(normal_scores, anomaly_scores, F1(prevalence), delta)


def report(choice: Outcome, normal_scores: ArrayLike, anomaly_scores: ArrayLike, *, delta: float = 0.05) -> Outcome:
    """What a chosen threshold costs, or what F1 it has, on scores (n,) and (m,) of samples that did not choose it.

    Raises:
        DataLeakError: these are the scores that it was chosen on, in whatever order.
        NonFiniteScoreError: a score is NaN or infinite.
        ValueError: no scores of one kind, or `delta` outside (0, 1).
        TypeError: scores that are not real numbers.
    """
    normal, anomalies = _sorted(normal_scores, "normal_scores"), _sorted(anomaly_scores, "anomaly_scores")
    for scores, name in ((normal, "normal"), (anomalies, "anomaly")):
        if _digest(scores) in choice.seen:
            raise DataLeakError(
                f"the threshold was chosen on these {len(scores)} {name} scores, where it looks too good: report it on "
                "scores of other samples"
            )
    above, missed = _counts(normal, anomalies, choice.value)
    measured = float(choice.criterion.of(above / len(normal), missed / len(anomalies)))
    return _outcome(choice.value, choice.criterion, measured, normal, anomalies, delta, "other", choice.seen)


def _choose(normal_scores: ArrayLike, anomaly_scores: ArrayLike, criterion: Costs | F1, delta: float) -> Outcome:
    normal, anomalies = _sorted(normal_scores, "normal_scores"), _sorted(anomaly_scores, "anomaly_scores")
    values = np.unique(normal)[::-1]
    above, missed = _counts(normal, anomalies, values)
    measured = criterion.of((above + 1) / (len(normal) + 1), missed / len(anomalies))
    best = np.argmin(measured) if isinstance(criterion, Costs) else np.argmax(measured)  # the first: the highest
    value, estimate, seen = float(values[best]), float(measured[best]), (_digest(normal), _digest(anomalies))
    return _outcome(value, criterion, estimate, normal, anomalies, delta, "calibration", seen)


def _outcome(
    value: float, criterion: Costs | F1, estimate: float, normal: Scores, anomalies: Scores, delta: float,
    chosen_on: ChosenOn, seen: tuple[str, str],
) -> Outcome:  # fmt: skip
    """With half of delta for each side. A miss is a mirrored anomaly above the mirrored threshold."""
    half = check_level("delta", delta) / 2
    above, missed = (int(count) for count in _counts(normal, anomalies, value))
    false_alarms = certify(value, above, len(normal), delta=half, chosen_on=chosen_on)
    upper = certify(-value, missed, len(anomalies), delta=half, chosen_on=chosen_on).upper
    bound, misses = float(criterion.of(false_alarms.upper, upper)), Misses(missed, len(anomalies), upper, half)
    return Outcome(value, criterion, estimate, bound, false_alarms, misses, float(delta), seen)


def _counts(normal: Scores, anomalies: Scores, values: Any) -> tuple[Any, Any]:
    """Normal scores above, and anomalies not above, each of the thresholds."""
    above = len(normal) - np.searchsorted(normal, values, side="right")
    return above, np.searchsorted(anomalies, values, side="right")


def _sorted(scores: ArrayLike, name: str) -> Scores:
    values = np.sort(as_scores(scores, name))
    if len(values) == 0:
        raise ValueError(f"{name} has no score: both normal and anomalous samples are needed")
    if bad := int((~np.isfinite(values)).sum()):
        raise NonFiniteScoreError(
            f"{bad} of {len(values)} {name} are NaN or infinite: look at what made the model overflow"
        )
    return values + 0.0  # no negative zero, which would have a digest of its own


def _digest(ascending: Scores) -> str:
    return blake2b(ascending.astype("<f8").tobytes(), digest_size=16).hexdigest()


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number above 0, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)
