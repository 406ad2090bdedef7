"""Volume under the surface: areas under ROC and precision-recall curves that forgive alarms close to an event.

With a buffer of w steps a normal step at a distance of k <= w // 2 from an event is anomalous to the degree

    l = sqrt(1 - k / w),        1 in the event and where the buffers of two events meet, 0 elsewhere.

Of N steps, P of them anomalous, F are flagged (score >= t), A of these anomalous. With B, the sum of l over flagged
steps of buffers,

    TP = A + B,    P' = P + B / 2,    recall = min(TP / P', 1) * existence,
    FPR = (F - TP) / (N - P'),        precision = TP / F,

where existence is the share of events with a flagged step in them or in their buffer; events whose buffers meet count
as one. Thresholds t are scores, evenly spaced by rank. The ROC area is the trapezoid; that of precision and recall is
the sum of precision times the recall gained. The volume is the mean of the areas over buffers of 0, 1, ..., W steps.
Recall never falls as more is flagged, although P' rises: (A + B) / (P + B / 2) rises with A and, as A <= P, with B.

Assumes that labels may be off by about half a buffer, and no more. What to keep in mind:

- Chance is not 1/2. Random scores hit buffers as often as anything else, so that their `roc` rises with the length of
  buffers beside that of events: 0.50 at W = 0, but 0.69 for events of 50 steps with W = 125 (`tests/evaluation/
  test_vus.py`). Their `pr` rises above the prevalence in the same way. Compare with random scores, never with 1/2.
- Events weigh by their length (TP), and `pr` depends on the prevalence, as average precision does.
- Other versions have other values: 0.92 where this one has 1, for scores that are the labels. The definition above is
  that of the TSB-AD leaderboard (`vus` 0.0.6); earlier ones take half the sum of P and of all l as P', and trapezoids
  for both areas.

A step without a score (NaN) keeps its place in time and counts nowhere; an event of such steps alone is left out.

Source: Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin, *Volume under the surface: a new accuracy evaluation
measure for time-series anomaly detection*, 2022; Boniol et al., *VUS: effective and efficient accuracy measures for
time-series anomaly detection*, 2025; Liu & Paparrizos, *The elephant in the room: towards a reliable time-series
anomaly detection benchmark*, 2024 (TSB-AD and its `buffer_from`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from deepad.errors import InputError
from deepad.evaluation.ranking import labelled
from deepad.evaluation.spans import Spans, amount, spans, steps_of

BUFFER = 125
"""Buffer of a series in which no cycle is found."""
_SHORTEST, _LONGEST, _LAGS, _STEPS = 3, 300, 400, 20_000
_FAR = 2**40  # steps, farther than any event


class Areas(NamedTuple):
    """Areas in [0, 1] under the curve of FPR and recall, and of recall and precision."""

    roc: float
    pr: float


def vus(score: ArrayLike, y: ArrayLike, buffer: int, thresholds: int = 250) -> Areas:
    """VUS-ROC and VUS-PR of N steps: mean areas over buffers of 0, 1, ..., `buffer` steps, in a time of about N W.

    Args:
        score: (N,), higher is more anomalous; only the order counts. NaN where there is none.
        y: labels (N,), 1 = anomaly, 0 = normal.
        buffer: W, the largest of the buffers; see `buffer_from`.
        thresholds: how many scores are thresholds; all of them if there are no more.

    Raises:
        InputError: labels that are not 0 or 1, scores that are no real numbers, other lengths, or one class only.
        ValueError: a buffer below 0, or fewer than two thresholds.
    """
    return _areas(score, y, range(_whole("buffer", buffer, 0) + 1), thresholds)


def range_auc(score: ArrayLike, y: ArrayLike, buffer: int, thresholds: int = 250) -> Areas:
    """The two areas for one buffer; arguments and errors are those of `vus`."""
    return _areas(score, y, [_whole("buffer", buffer, 0)], thresholds)


def buffer_from(series: ArrayLike) -> int:
    """The buffer that TSB-AD takes for a series (N,), or the first channel of (N, C): its cycle in steps, or 125.

    The cycle is the lag of the highest local maximum of the autocorrelation of the first 20 000 steps, at lags 4 to
    399. Where there is none, or it is not at 6 to 303, the buffer is 125.

    Raises:
        InputError: not one or two axes, no step, or a value that is no finite number.
    """
    x = np.asarray(series)
    if x.ndim not in (1, 2) or x.size == 0 or x.dtype.kind not in "fiub":
        raise InputError(f"got {x.dtype} of shape {x.shape}: give a series of numbers, (N,) or (N, C), N >= 1")
    x = x.reshape(len(x), -1)[:_STEPS, 0].astype(np.float64)
    if not np.isfinite(x).all():
        raise InputError(f"{int((~np.isfinite(x)).sum())} values of the first channel are not finite: fill them first")
    if np.ptp(x) == 0:
        return BUFFER
    from statsmodels.tsa.stattools import acf  # slow to import

    correlation = acf(x, nlags=_LAGS, fft=True)[_SHORTEST:]
    peaks = 1 + np.flatnonzero((correlation[1:-1] > correlation[:-2]) & (correlation[1:-1] > correlation[2:]))
    if not len(peaks):
        return BUFFER
    highest = int(peaks[np.argmax(correlation[peaks])])
    return highest + _SHORTEST if _SHORTEST <= highest <= _LONGEST else BUFFER  # TSB-AD compares before it adds


def _areas(score: ArrayLike, y: ArrayLike, buffers: Sequence[int], thresholds: int) -> Areas:
    """Mean areas over the buffers, one of them at a time."""
    anomaly, scores, scored = steps_of(y, score)
    _, rank = labelled(anomaly[scored], scores[scored])
    chosen = np.linspace(0, len(rank) - 1, _whole("thresholds", thresholds, 2)).astype(np.int64)
    levels = np.sort(rank)[::-1][chosen]
    passed = np.full(len(scores) + 1, len(levels))  # the first threshold that flags a step; no step is at the end
    passed[:-1][scored] = np.searchsorted(-levels, -rank)
    events = spans(anomaly)
    events = events[amount(events, scored) > 0]
    curves = _Curves(passed, anomaly, events, len(levels), buffers[-1] // 2)
    areas = [curves.areas(buffer) for buffer in buffers]
    return Areas(*(float(mean) for mean in np.mean(areas, axis=0)))


class _Curves:
    """Curves of one series; what does not depend on the buffer is computed once.

    Args:
        passed: (N + 1,) number of the first threshold that flags a step, `levels` for none.
        anomaly: (N,).
        events: (E, 2), each with a scored step.
        levels: number of thresholds.
        reach: half the largest buffer.
    """

    def __init__(self, passed: NDArray[np.int64], anomaly: NDArray[np.bool_], events: Spans, levels: int, reach: int):
        self.passed, self.events, self.levels = passed, events, levels
        scored = passed[:-1] < levels
        self.flagged = self._up_to(passed[:-1][scored])
        self.hits = self._up_to(passed[:-1][scored & anomaly])
        normal = np.flatnonzero(scored & ~anomaly)
        before = np.searchsorted(events[:, 0], normal)  # events before each normal step
        ends = np.concatenate([[-_FAR, -_FAR], events[:, 1] - 1])
        begins = np.concatenate([events[:, 0], [_FAR, _FAR]])
        sides = [normal - ends[before + 1], normal - ends[before], begins[before] - normal, begins[before + 1] - normal]
        near, second = np.sort(sides, axis=0)[:2]
        order = np.argsort(near, kind="stable")[: int((near <= reach).sum())]
        self.near, self.second, self.buffered = near[order], second[order], passed[normal[order]]

    def areas(self, buffer: int) -> tuple[float, float]:
        reach, n, positives = buffer // 2, self.flagged[-1], self.hits[-1]
        m = np.searchsorted(self.near, reach, "right")
        # a second event near makes it 1: each gives sqrt(1/2) at least
        degree = np.where(self.second[:m] <= reach, 1.0, np.sqrt(1 - self.near[:m] / max(buffer, 1)))
        forgiven = self._up_to(self.buffered[:m], degree)
        found, total = self.hits + forgiven, positives + forgiven / 2
        recall = np.minimum(found / total, 1) * self._existence(reach)
        fpr, precision = (self.flagged - found) / (n - total), found / self.flagged
        roc = trapezoid(np.concatenate([[0], recall, [1]]), np.concatenate([[0], fpr, [1]]))
        return float(roc), float((np.diff(recall, prepend=0) * precision).sum())

    def _existence(self, reach: int) -> NDArray[np.float64]:
        """Share of groups of events with anything flagged in them or their buffers, at each threshold."""
        begin, end = self.events[:, 0] - reach, self.events[:, 1] + reach
        apart = begin[1:] >= end[:-1]
        groups = np.stack([begin[np.append(True, apart)], end[np.append(apart, True)]], 1)
        first = np.minimum.reduceat(self.passed, np.clip(groups, 0, len(self.passed) - 1).ravel())[::2]
        return self._up_to(first) / len(groups)

    def _up_to(self, passed: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """How many of these steps, or what weight of them, each threshold flags."""
        return np.cumsum(np.bincount(passed, weights, minlength=self.levels)).astype(np.float64)


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
