"""What is done to the scores of a series before they are calibrated, causally and in any chunking with the same bits.

`Persistence` waits for m of the last w scores. `RollingStandardize` takes level and spread out of them, so that a
frozen threshold outlasts a slow drift:

    z_t = (s_t - median) / (median - q_low)        of the W scores before s_t

Calibrate z on a stretch that is processed in the same way, then freeze the threshold. The spread is that of the lower
half: while an outage is the smaller part of a window, its share shifts both quantiles a little, and how high its scores
are does not matter. Every finite score enters the window, flagged or not. A window that leaves out what was flagged may
never come back from a new level, and flags ever more; there is no parameter for it.

Assumption: level and spread of normal scores change little within W steps, and their shape does not change. It fails

- in outages longer than about W / 2: they become the new normal, and the return from one looks like a fall;
- where the shape of the distribution changes: only level and spread are corrected;
- for slow anomalies: without labels, one that lasts and a drift cannot be told apart.

The q-quantile of W scores is their order statistic number round(q (W - 1)), counted from 0; nothing is interpolated.

Source: the detrending of Siffer, Fouque, Termier, Largouët, *Anomaly detection in streams with extreme value theory*,
2017 (DSPOT), with robust statistics in the place of the mean.
"""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.scoring.conformal import Scores, as_scores

WIDEST = 1_000_000
"""Most scores of a window; the time of a step grows with them, slowly up to about 100 000."""
FLOOR = 1e-9
"""Least spread relative to the median: below what scores in float32 can resolve, so that only equal scores meet it."""
LAST = 100_000
"""Most steps of a window of persistence."""
_PIECE = 1 << 20  # scores that a persistence looks at in one go
_LARGEST, _LEAST = np.finfo(np.float64).max, np.finfo(np.float64).tiny


@dataclass(frozen=True)
class RollingStandardize:
    """Scores relative to the `window` scores before each; see the module docstring.

    Attributes:
        window: scores that a score is compared with, at least 3.
        q_low: quantile whose distance to the median is the unit, in (0, 0.5).

    Raises:
        ValueError: an attribute outside its range, or a window so short that both quantiles are one score.
    """

    window: int = 1000
    q_low: float = 0.1

    def __post_init__(self) -> None:
        if type(self.window) is not int or not 3 <= self.window <= WIDEST:
            raise ValueError(f"the window must be a whole number of steps in 3..{WIDEST}, got {self.window!r}")
        if not isinstance(self.q_low, float) or not 0 < self.q_low < 0.5:
            raise ValueError(f"q_low must be a number strictly between 0 and 0.5, got {self.q_low!r}")
        low, middle = self.places
        if low == middle:
            raise ValueError(
                f"in a window of {self.window} steps the quantile {self.q_low} is the median: use a longer window or a "
                "smaller quantile"
            )

    @property
    def places(self) -> tuple[int, int]:
        """Which of the sorted scores of a window, counted from 0, are the lower quantile and the median."""
        return round(self.q_low * (self.window - 1)), round(0.5 * (self.window - 1))

    def __call__(self, scores: ArrayLike) -> Scores:
        """Standardised scores (N,) of the scores (N,) of one unbroken stretch, in units of the lower spread.

        NaN for the first `window` finite scores (nothing to compare with), and for a NaN score (a step that was not
        scored), which does not enter the window. An infinite score (a model that failed) stays what it is, always, and
        does not enter either: whether it does cannot depend on any threshold.
        """
        return self.begin().push(scores)

    def begin(self) -> "StandardizeState":
        """For the scores of one unbroken stretch as they come."""
        return StandardizeState(self)

    def from_state(self, state: dict[str, Any]) -> "StandardizeState":
        """Go on where `to_state` was called, with the same bits.

        Raises:
            ValueError: not a state, or one of a longer window.
        """
        if not isinstance(state, dict) or state.keys() != {"window"}:
            raise ValueError("this is no state of a rolling window: it has one array, 'window'")
        held = as_scores(state["window"], "the window")
        if len(held) > self.window or not np.isfinite(held).all():
            raise ValueError(f"the state of a window holds at most {self.window} finite scores, got {len(held)} scores")
        begun = self.begin()
        begun.push(held)
        return begun


class StandardizeState:
    """The window of one stretch. `push` gives the same bits however the scores are cut into chunks."""

    def __init__(self, rule: RollingStandardize) -> None:
        self.rule = rule
        self._window: deque[float] = deque()
        self._sorted: list[float] = []

    def push(self, scores: ArrayLike) -> Scores:
        """Standardised scores (n,) of the next scores (n,)."""
        values = as_scores(scores)
        finite = np.flatnonzero(np.isfinite(values))
        lows, middles = [], []
        window, ordered, size = self._window, self._sorted, self.rule.window
        low, middle = self.rule.places
        full = max(0, size - len(window))  # the first of these scores that finds a full window
        for score in values[finite[:full]].tolist():
            window.append(score)
            insort(ordered, score)
        for score in values[finite[full:]].tolist():
            lows.append(ordered[low])
            middles.append(ordered[middle])
            del ordered[bisect_left(ordered, window.popleft())]  # of equal ones the oldest, which stands first
            window.append(score)
            insort(ordered, score)
        values[finite[:full]] = np.nan
        values[finite[full:]] = _standardized(values[finite[full:]], np.array(lows), np.array(middles))
        return values

    def __copy__(self) -> "StandardizeState":
        other = StandardizeState(self.rule)
        other._window, other._sorted = self._window.copy(), self._sorted.copy()
        return other

    def to_state(self) -> dict[str, NDArray[np.float64]]:
        """The scores of the window (<= window,), oldest first; `RollingStandardize.from_state` goes on from them."""
        return {"window": np.array(self._window, np.float64)}


def _standardized(scores: Scores, low: Scores, middle: Scores) -> Scores:
    """(s - middle) / (middle - low), finite, and 0 for s = middle, whatever the spread."""
    large = np.maximum(np.abs(scores), np.maximum(np.abs(low), np.abs(middle))) > _LARGEST / 4
    factor = np.where(large, 0.25, 1.0)  # a power of two, so that differences do not overflow
    scores, low, middle = scores * factor, low * factor, middle * factor
    spread = np.maximum(np.maximum(middle - low, FLOOR * np.abs(middle)), _LEAST)
    with np.errstate(over="ignore"):
        return np.clip((scores - middle) / spread, -_LARGEST, _LARGEST)


@dataclass(frozen=True)
class Persistence:
    """An alarm needs m of the last w scores above the threshold: r_t = m-th largest of s_{t-w+1..t}, r_t > t.

    Attributes:
        m: scores that must lie above, in 1..w.
        w: steps that are looked at, the present one included.

    Raises:
        ValueError: an attribute outside its range.
    """

    m: int
    w: int

    def __post_init__(self) -> None:
        require_whole("w", self.w, LAST)
        require_whole("m", self.m, self.w)

    def __call__(self, scores: ArrayLike) -> Scores:
        """r (N,) of the scores (N,) of one unbroken stretch, in their unit.

        A step that was not scored (NaN) is not above anything, and has r = NaN itself; so has a step with fewer than m
        scores in its window. +inf (a model that failed) is above everything.
        """
        return self.begin().push(scores)

    def begin(self) -> "PersistenceState":
        """For the scores of one unbroken stretch as they come."""
        return PersistenceState(self, np.full(self.w - 1, np.nan))

    def from_state(self, state: dict[str, Any]) -> "PersistenceState":
        """Go on where `to_state` was called, with the same bits.

        Raises:
            ValueError: not a state, or one of another window.
        """
        if not isinstance(state, dict) or state.keys() != {"last"} or np.shape(state["last"]) != (self.w - 1,):
            raise ValueError(f"this is no state of a persistence: it has one array 'last' of {self.w - 1} scores")
        return PersistenceState(self, as_scores(state["last"], "the last scores"))


class PersistenceState:
    """The last scores of one stretch. `push` gives the same bits however the scores are cut into chunks."""

    def __init__(self, rule: Persistence, last: Scores) -> None:
        self.rule = rule
        self._last = last

    def push(self, scores: ArrayLike) -> Scores:
        """r (n,) of the next scores (n,)."""
        values, m, w = as_scores(scores), self.rule.m, self.rule.w
        if len(values) == 0:
            return values
        joined = np.concatenate([self._last, values])
        self._last = joined[len(values) :].copy()
        windows, rows = np.lib.stride_tricks.sliding_window_view(joined, w), max(1, _PIECE // w)
        pieces = [windows[start : start + rows] for start in range(0, len(values), rows)]
        # the m-th smallest of -s, in which NaN is sorted last
        reached = np.concatenate([-np.partition(-piece, m - 1, axis=1)[:, m - 1] for piece in pieces])
        return np.where(np.isnan(values), np.nan, reached)

    def to_state(self) -> dict[str, NDArray[np.float64]]:
        """The last w - 1 scores, oldest first; `Persistence.from_state` goes on from them."""
        return {"last": self._last.copy()}


def require_whole(name: str, value: Any, most: int) -> None:
    """Refuse what is no whole number of steps in 1..most."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number of steps in 1..{most}, got {value!r}")
