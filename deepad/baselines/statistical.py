"""Rules for one variable at a time, the oldest of all: how far is a value from the middle, in units of the spread?

    ZScore           z_d = |x_d - mean_d| / sd_d
    ModifiedZScore   z_d = |x_d - median_d| / (1.4826 MAD_d)
    IQRDistance      z_d = max(Q1_d - x_d, x_d - Q3_d) / (Q3_d - Q1_d)          Tukey's inner fence is z_d = 1.5

    score(x) = max_d z_d

Windows (T, C) have one middle and one spread for each channel, all else one for each value.

Assumption: an anomaly is extreme in a single variable. Combinations of usual values that never occur together are not
seen, nor are values in a gap between two modes. How often a normal sample is beyond "3 sigma" is for the calibration to
say, not for the rule: see `deepad.scoring.rules`.

Source: Shewhart, *Economic control of quality of manufactured product*, 1931; Iglewicz, Hoaglin, *How to detect and
handle outliers*, 1993 (the modified z-score); Tukey, *Exploratory data analysis*, 1977 (fences).
"""

from abc import ABC, abstractmethod

import numpy as np

from deepad.baselines.base import Baseline, Rows, standard_scaling

NORMAL_MAD = 1.482602218505602
"""Standard deviation of a normal variable over the median of its absolute deviations, 1 / Phi^-1(3/4)."""


class _LargestOf(Baseline, ABC):
    """The largest of some standardised distances of the values of a row."""

    fitted = {"low": "D", "high": "D", "spread": "positive D"}
    expects = "the mean"

    def _fit(self, x: Rows) -> None:
        columns = x.reshape(-1, self.shape[-1]) if len(self.shape) == 2 else x
        repeat = x.shape[1] // columns.shape[1]
        self.low_, self.high_, self.spread_ = (np.tile(part, repeat) for part in self._learn(columns))

    @abstractmethod
    def _learn(self, columns: Rows) -> tuple[Rows, Rows, Rows]:
        """From where downwards, from where upwards and in which unit distances are measured, (D,) each."""

    def _distances(self, x: Rows) -> Rows:
        return np.asarray(np.maximum(self.low_ - x, x - self.high_) / self.spread_)

    def _score(self, x: Rows) -> Rows:
        return np.asarray(self._distances(x).max(1))

    def _contributions(self, x: Rows) -> Rows:
        z, parts = self._distances(x), np.zeros(x.shape)
        largest = z.argmax(1)
        rows = np.arange(len(x))
        parts[rows, largest] = z[rows, largest]
        return parts

    def _expected(self, x: Rows) -> Rows:
        return np.clip(x, self.low_, self.high_)


class ZScore(_LargestOf):
    """Largest distance to the mean in standard deviations, >= 0."""

    def _learn(self, columns: Rows) -> tuple[Rows, Rows, Rows]:
        mean, spread = standard_scaling(columns)
        return mean, mean, spread


class ModifiedZScore(_LargestOf):
    """Largest distance to the median in units of the median absolute deviation, which a few outliers do not move, >= 0.

    Where more than half of the values coincide that deviation is 0 and the standard deviation is the unit.
    """

    expects = "the median"

    def _learn(self, columns: Rows) -> tuple[Rows, Rows, Rows]:
        median = np.median(columns, axis=0)
        return median, median, _spread(NORMAL_MAD * np.median(np.abs(columns - median), axis=0), columns)


class IQRDistance(_LargestOf):
    """Largest distance beyond the quartiles in interquartile ranges; negative where all values lie between them.

    Where the quartiles coincide the standard deviation is the unit.
    """

    expects = "the nearest quartile"

    def _learn(self, columns: Rows) -> tuple[Rows, Rows, Rows]:
        low, high = np.quantile(columns, [0.25, 0.75], axis=0)
        return low, high, _spread(high - low, columns)


def _spread(found: Rows, columns: Rows) -> Rows:
    """The spread that was found; where it is 0 the standard deviation, and 1 for what never varies."""
    return np.where(found > 0, found, standard_scaling(columns)[1])
