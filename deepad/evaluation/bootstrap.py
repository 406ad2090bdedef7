"""How far a metric could have come out otherwise: percentile intervals by bootstrap.

Normal samples and anomalies are drawn with replacement, each class apart so that the prevalence stays, and the metric
is computed of every draw; the interval lies between quantiles of these. Two models are compared on the same draws,
which removes the noise that they share: two intervals that overlap do not say that the models cannot be told apart.

The interval is about other test samples like these. It knows nothing of other training seeds, of other data sets
(`paired_means` does), or of samples that depend on each other: of the steps of a series it is far too narrow.

It fails where a class is small: a resample of few anomalies repeats them and invents none. With fewer than about 10
the interval is clearly too narrow. One of AUROC that should hold 95 % of the time holds 79 % with 5 anomalies, 87 %
with 10, 92 % with 20 and 94 % with 50; one of average precision 91 % with 20, and where it fails it lies too high, as
average precision of few anomalies does (a Gaussian example, `tests/evaluation/test_bootstrap.py`). Fewer than 2 of a
class are refused. If all anomalies score above all normal samples the interval is the single point 1: it says nothing.

A draw is the number of times that each row was drawn. With the scores sorted once, sums of these counts up to each
distinct score of an anomaly are all that either metric needs, ties included; integers, so AUROC is exact.

Source: Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13 (percentile interval); Bertail,
Clémençon, Vayatis, *On bootstrapping the ROC curve*, 2008.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError
from deepad.evaluation.ranking import labelled

Metric = Literal["auroc", "average_precision"]
Counts = NDArray[np.int64]

CELLS = 2**21
"""Counts of a class held at a time (16 MB): memory does not grow with the number of draws."""


@dataclass(frozen=True)
class Interval:
    """A number with the range that a bootstrap gives it.

    Attributes:
        value: of the data as they are.
        low: lower end.
        high: upper end.
        level: how often such ranges should hold the true value, in (0, 1).
    """

    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(
    y: ArrayLike,
    score: ArrayLike,
    metric: Metric = "auroc",
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """A metric of N scores with its interval; the order of the rows does not matter.

    Args:
        y: labels (N,), 1 = anomaly, 0 = normal, at least 2 of each.
        score: (N,), higher is more anomalous.
        metric: `"auroc"` or `"average_precision"`.
        level: in (0, 1).
        draws: number of resamples.
        seed: of the resamples.

    Raises:
        InputError: labels or scores that `ranking.labelled` refuses, or fewer than 2 of a class.
        ValueError: an unknown metric, a level outside (0, 1), or too few draws for it.
    """
    anomaly, rank = labelled(y, score, fewest=2)
    return _resampled(anomaly, (rank,), metric, level, draws, seed)


def intervals(y: ArrayLike, score: ArrayLike, *, draws: int = 1000) -> dict[Metric, Interval]:
    """Both metrics of N scores with their intervals; none where fewer than 2 of a class have a score.

    Args:
        y: labels (N,), 1 = anomaly, 0 = normal.
        score: (N,), higher is more anomalous; NaN is left out.
        draws: number of resamples.
    """
    labels, scores = np.asarray(y), np.asarray(score)
    judged = ~np.isnan(scores)
    if np.bincount(labels[judged], minlength=2).min() < 2:
        return {}
    return {metric: interval(labels[judged], scores[judged], metric, draws=draws) for metric in get_args(Metric)}


def paired_difference(
    y: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    metric: Metric = "auroc",
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """metric(a) - metric(b) of two models on the same N samples, with its interval from the same resampled rows.

    If 0 lies outside, these test samples tell the models apart; not that another training run would.

    Args:
        y: labels (N,), at least 2 of each class.
        score_a: (N,) of the one model.
        score_b: (N,) of the other, row by row.
        metric: `"auroc"` or `"average_precision"`.
        level: in (0, 1).
        draws: number of resamples.
        seed: of the resamples.

    Raises:
        InputError: labels or scores that `ranking.labelled` refuses, or fewer than 2 of a class.
        ValueError: an unknown metric, a level outside (0, 1), or too few draws for it.
    """
    anomaly, rank_a = labelled(y, score_a, fewest=2)
    _, rank_b = labelled(y, score_b, fewest=2)
    return _resampled(anomaly, (rank_a, rank_b), metric, level, draws, seed)


def paired_means(a: ArrayLike, b: ArrayLike, *, level: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
    """mean(a) - mean(b) over S data sets, with its interval from resampled data sets.

    Of fewer than about 10 data sets the interval is too narrow: `leaderboard.pairs` has an exact test.

    Args:
        a: values (S,) of one metric for the one model, a data set each.
        b: values (S,) for the other, on the same data sets.
        level: in (0, 1).
        draws: number of resamples.
        seed: of the resamples.

    Raises:
        InputError: values of different or other shapes, not finite, or of fewer than 2 data sets.
        ValueError: a level outside (0, 1), or too few draws for it.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise InputError(
            f"got values of shapes {first.shape} and {second.shape}: give both as (S,), one a data set, of 2 or more"
        )
    if bad := int((~np.isfinite(first) | ~np.isfinite(second)).sum()):
        raise InputError(f"{bad} of {len(first)} data sets have a value that is not finite: leave them out of both")
    _check(level, draws)
    gaps = np.sort(first - second)
    drawn = [counts @ gaps / len(gaps) for (counts,) in _resamples((len(gaps),), draws, seed)]
    return _percentile(float(gaps.mean()), np.concatenate(drawn), level)


def _resampled(
    anomaly: NDArray[np.bool_], ranks: tuple[Counts, ...], metric: Metric, level: float, draws: int, seed: int
) -> Interval:
    """Interval of the metric of one model, or of the difference of two."""
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    _check(level, draws)
    order = np.lexsort(ranks[::-1])  # rows in an order of their own: that in which they came must not matter
    anomaly = anomaly[order]
    places = [_Places(rank[order][~anomaly], rank[order][anomaly]) for rank in ranks]

    def difference(normals: Counts, anomalies: Counts) -> NDArray[np.float64]:
        values = [place.metric(metric, normals, anomalies) for place in places]
        return values[0] if len(values) == 1 else values[0] - values[1]

    sizes = (int((~anomaly).sum()), int(anomaly.sum()))
    once = difference(np.ones((1, sizes[0]), np.int64), np.ones((1, sizes[1]), np.int64))
    drawn = [difference(normals, anomalies) for normals, anomalies in _resamples(sizes, draws, seed)]
    return _percentile(float(once[0]), np.concatenate(drawn), level)


class _Places:
    """Where the anomalies of one model lie among its normal samples: sorted once, used for all draws.

    Args:
        normal: ranks (n,) of the normal samples.
        anomaly: ranks (m,) of the anomalies.
    """

    def __init__(self, normal: Counts, anomaly: Counts) -> None:
        self.normals, self.anomalies = np.argsort(normal, kind="stable"), np.argsort(anomaly, kind="stable")
        values, self.starts = np.unique(anomaly[self.anomalies], return_index=True)
        self.below = np.searchsorted(normal[self.normals], values, "left")
        self.up_to = np.searchsorted(normal[self.normals], values, "right")

    def metric(self, name: Metric, normals: Counts, anomalies: Counts) -> NDArray[np.float64]:
        """Metric (B,) of B draws in which the rows were drawn so many times: (B, n) normal samples, (B, m) anomalies.

        Sums run over the distinct scores of anomalies, in ascending order.
        """
        (draws, n), m = normals.shape, anomalies.shape[1]
        hits = np.add.reduceat(np.take(anomalies, self.anomalies, axis=1), self.starts, axis=1)
        sums = np.zeros((draws, n + 1), np.int64)
        np.cumsum(np.take(normals, self.normals, axis=1), axis=1, out=sums[:, 1:])
        below = np.take(sums, self.below, axis=1)
        if name == "auroc":
            halves = (hits * (below + np.take(sums, self.up_to, axis=1))).sum(axis=1)
            return np.asarray(halves / (2 * n * m))
        found = hits[:, ::-1].cumsum(axis=1)[:, ::-1]
        flagged = np.maximum(found + n - below, 1)  # a score that nothing drawn reaches adds 0
        return np.asarray((hits * (found / flagged)).sum(axis=1) / m)


def _resamples(sizes: tuple[int, ...], draws: int, seed: int) -> Iterator[list[Counts]]:
    """How often each row of each class was drawn, (B, size) a class, B draws at a time whatever their number."""
    streams = np.random.default_rng(seed).spawn(len(sizes))
    batch = max(1, CELLS // max(sizes))
    for start in range(0, draws, batch):
        rows = min(batch, draws - start)
        yield [_counts(stream, size, rows) for stream, size in zip(streams, sizes, strict=True)]


def _counts(stream: np.random.Generator, size: int, draws: int) -> Counts:
    """Multinomial counts (draws, size); counting drawn rows is three times as fast as numpy's `multinomial`."""
    chosen = stream.integers(size, size=(draws, size))
    chosen += np.arange(draws)[:, None] * size
    return np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size)


def _percentile(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def _check(level: float, draws: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    fewest = math.ceil(round(2 / (1 - level), 6))
    if draws < fewest:
        raise ValueError(f"draws={draws} is too few for level={level:g}: use at least {fewest}")
