"""A steady workload: a level that moves until a given share of samples raises an alarm, true or false.

With the level a_1 = alpha, a sample of p-value p_t is flagged where p_t <= a_t, and then

    a_{t+1} = a_t + gamma (alpha - 1{flagged}).

Never flagged where a_t <= 0, always where a_t >= 1, so that a_t stays within [-gamma, 1 + gamma] and

    |share of alarms among T samples - alpha| <= (max(alpha, 1 - alpha) + gamma) / (gamma T)

for *every* sequence of p-values: nothing is assumed, of the data or of the model. That is also all it says.

It is no detection at a false-alarm rate. The share of *alarms* is held, and in an outage nearly every sample is one:
the level falls to 0 within about alpha / gamma samples, and from then on the outage is flagged no more often than
normal operation was. For false alarms take a threshold (`deepad.scoring.conformal`), for drift `deepad.scoring.drift`.
A budget suits a desk that can look at so many samples a day, and to which the most suspicious of late are enough.

With `feedback="labels"` only samples confirmed as normal move the level. Then the inequality holds for the share of
false alarms among the confirmed, and an outage stays flagged. It says nothing of samples that nobody confirmed, and it
needs each label before the next sample is decided.

Source: Gibbs & Candès, *Adaptive conformal inference under distribution shift*, 2021, proposition 4.1.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.scoring.conformal import as_scores
from deepad.scoring.guarantee import ASSUMPTIONS, Guarantee, GuaranteeKind, check_level

Feedback = Literal["none", "labels"]
NORMAL, ANOMALY, UNKNOWN = 0, 1, -1


@dataclass
class AlertBudget:
    """Flags a given share of all samples in the long run, whatever they are: a workload, not a false-alarm rate.

    `dataclasses.asdict` gives its whole state as plain values, and `AlertBudget(**state)` continues from it.

    Attributes:
        alpha: share of samples to flag, in (0, 1).
        gamma: how far one sample moves the level, in (0, 1): large ones adapt fast and leave the level noisy.
        feedback: `"none"`, all samples move the level, or `"labels"`, those confirmed as normal.
        counted: samples that have moved the level.
        alarms: those of them that were flagged.
        invalid: samples without a p-value (NaN), which are flagged and count neither as alarms nor otherwise.
    """

    alpha: float
    gamma: float = 0.005
    feedback: Feedback = "none"
    counted: int = 0
    alarms: int = 0
    invalid: int = 0

    def __post_init__(self) -> None:
        self.alpha, self.gamma = check_level("alpha", self.alpha), check_level("gamma", self.gamma)
        if self.feedback not in get_args(Feedback):
            raise ValueError(f"feedback must be one of {get_args(Feedback)}, got {self.feedback!r}")
        counters = (self.counted, self.alarms, self.invalid)
        if any(type(count) is not int or count < 0 for count in counters) or self.alarms > self.counted:
            raise ValueError(f"counted, alarms and invalid must be counts, alarms <= counted, got {counters}")

    @property
    def level(self) -> float:
        """The level a_t of the next sample, in [-gamma, 1 + gamma]."""
        return self.alpha + self.gamma * (self.alpha * self.counted - self.alarms)  # from counts: errors do not add up

    @property
    def guarantee(self) -> Guarantee:
        """What is promised: a long-run share of alarms, and nothing about what they are."""
        unit = "sample" if self.feedback == "none" else "sample confirmed as normal"
        return Guarantee(GuaranteeKind.BUDGET, self.alpha, self.alpha, 0, 0, None, ASSUMPTIONS["budget"], unit=unit)

    def bound(self, steps: int) -> float:
        """Largest distance of the share of alarms among the first `steps` counted samples from `alpha`.

        Above 1, where it says nothing, for fewer than about 1 / gamma samples.

        Raises:
            ValueError: fewer than one step.
        """
        if type(steps) is not int or steps < 1:
            raise ValueError(f"steps must be a number of samples, at least 1, got {steps!r}")
        return (max(self.alpha, 1 - self.alpha) + self.gamma) / (self.gamma * steps)

    def update(self, p_values: ArrayLike, labels: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Flag the next samples (M,), in order, each at the level its predecessors left; NaN is flagged.

        Args:
            p_values: (M,) in [0, 1], or NaN.
            labels: with `feedback="labels"`: (M,) of 0 confirmed as normal, 1 confirmed as an anomaly, -1 not known. A
                label never changes the decision of its own sample.

        Raises:
            ValueError: p-values outside [0, 1], or labels that do not go with them or with the feedback.
        """
        p = as_scores(p_values, "p_values")
        if (outside := p[(p < 0) | (p > 1)]).size:
            raise ValueError(
                f"p_values must lie in [0, 1], got {outside[0]:.6g}: pass those of a calibration, no scores"
            )
        counts = self._counting(labels, len(p))
        self.invalid += int(np.isnan(p).sum())
        flagged = np.isnan(p)
        for t in np.flatnonzero(~flagged).tolist():
            level = self.level
            flagged[t] = level > 0 and p[t] <= level
            if counts[t]:
                self.counted += 1
                self.alarms += int(flagged[t])
        return flagged

    def _counting(self, labels: ArrayLike | None, m: int) -> NDArray[np.bool_]:
        """Which samples may move the level."""
        if self.feedback == "none":
            if labels is not None:
                raise ValueError("labels do not move this budget: make it with feedback='labels', or leave them out")
            return np.ones(m, np.bool_)
        if labels is None:
            raise ValueError("feedback='labels' needs labels: 0 normal, 1 anomaly, -1 not known")
        known = as_scores(labels, "labels")
        if len(known) != m or not np.isin(known, (NORMAL, ANOMALY, UNKNOWN)).all():
            raise ValueError(f"labels must be {m} values of 0 normal, 1 anomaly, -1 not known, one for each p-value")
        return np.asarray(known == NORMAL)
