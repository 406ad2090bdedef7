"""Figures of how scores rank anomalies above normal samples, and of what the calibrated threshold makes of it.

A curve goes through all thresholds: what scores above t is flagged. Bands are pointwise and by bootstrap: normal
samples and anomalies are drawn with replacement, each class apart, and the curves of the draws are cut at each place of
the horizontal axis. Curves of many samples are thinned to thresholds that part neither class by more than a share of
1/200; the draws of counts between these are then multinomial, which is the same bootstrap at a fraction of the cost.
A band is about other test samples like these. Fewer than about 10 of a class make it too narrow; of fewer than 2 there
is none. Of steps of a series that depend on each other it is far too narrow.

Source: Fawcett, *An introduction to ROC analysis*, 2006; Davis & Goadrich, *The relationship between precision-recall
and ROC curves*, 2006; Bertail, Clémençon, Vayatis, *On bootstrapping the ROC curve*, 2008.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError
from deepad.report.figures.base import (
    ANOMALY,
    LINE,
    NORMAL,
    TEXT,
    Values,
    canvas,
    legend,
    require_both,
    samples,
    short,
)

PARTS = 200
"""A thinned curve takes a step wherever a class has lost one in so many."""
LEVEL = 0.95
GRID = np.linspace(0, 1, 201)
"""Where bands are computed."""


class _Curve(NamedTuple):
    """Counts (..., K) of normal samples and of anomalies above ever lower thresholds, none to all."""

    normals: NDArray[np.int64]
    anomalies: NDArray[np.int64]

    @property
    def false_alarms(self) -> Values:
        return np.asarray(self.normals / self.normals[..., -1:])

    @property
    def recall(self) -> Values:
        return np.asarray(self.anomalies / self.anomalies[..., -1:])

    @property
    def precision(self) -> Values:
        """1 where nothing is flagged."""
        flagged = self.normals + self.anomalies
        return np.where(flagged > 0, self.anomalies / np.maximum(flagged, 1), 1.0)


def roc_curve(
    score: ArrayLike, y: ArrayLike, *, threshold: float | None = None, draws: int = 500, seed: int = 0
) -> Figure:
    """Share of anomalies flagged by share of normal samples flagged, with the 95 % band and the diagonal of chance.

    Args:
        score: (N,), NaN is left out and counted; infinite scores keep their rank.
        y: (N,), 1 = anomaly; both classes are needed.
        threshold: its place on the curve is marked.
        draws: number of resamples of the band.
        seed: of the resamples.

    Raises:
        InputError: what `samples` refuses, or one class only.
    """
    curve, note = _curve(score, y)
    area = float((np.diff(curve.false_alarms) * (curve.recall[1:] + curve.recall[:-1])).sum() / 2)
    figure, axes = canvas(height=4.0)
    axes.plot([0, 1], [0, 1], color=LINE, linestyle=":", linewidth=1.2, label="chance (0.5)")
    _band(axes, curve, _recall_at, draws, seed)
    thin = _thinned(curve)
    axes.plot(thin.false_alarms, thin.recall, color=NORMAL, linewidth=1.6, label=f"area {area:.4f}", clip_on=False)
    if threshold is not None:
        false_alarms, recall, _ = _operating(score, y, threshold)
        _mark(axes, false_alarms, recall, threshold)
    axes.set(xlabel=f"share of normal samples flagged{note}", ylabel="share of anomalies flagged")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    legend(axes)
    return figure


def precision_recall_curve(
    score: ArrayLike, y: ArrayLike, *, threshold: float | None = None, draws: int = 500, seed: int = 0
) -> Figure:
    """Share of anomalies among the flagged by share of anomalies flagged, with the 95 % band and the prevalence.

    The area below the steps is the average precision. It depends on the prevalence of this test set.

    Args:
        score: (N,), NaN is left out and counted; infinite scores keep their rank.
        y: (N,), 1 = anomaly; both classes are needed.
        threshold: its place on the curve is marked, if it flags anything.
        draws: number of resamples of the band.
        seed: of the resamples.

    Raises:
        InputError: what `samples` refuses, or one class only.
    """
    curve, note = _curve(score, y)
    area = float((np.diff(curve.recall) * curve.precision[1:]).sum())
    prevalence = curve.anomalies[-1] / (curve.normals[-1] + curve.anomalies[-1])
    figure, axes = canvas(height=3.6)
    axes.axhline(prevalence, color=LINE, linestyle=":", linewidth=1.2, label=f"chance ({prevalence:.3g})")
    _band(axes, curve, _precision_at, draws, seed)
    thin = _thinned(curve)
    first = thin.precision[1:2]  # holds from 0 on
    axes.plot(thin.recall, np.append(first, thin.precision[1:]), color=NORMAL, linewidth=1.6, drawstyle="steps-pre",
              label=f"average precision {area:.4f}", clip_on=False)  # fmt: skip
    if threshold is not None:
        _, recall, precision = _operating(score, y, threshold)
        _mark(axes, recall, precision, threshold)
    axes.set(xlabel=f"share of anomalies flagged{note}", ylabel="anomalies among the flagged")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    legend(axes)
    return figure


def confusion_matrix(y: ArrayLike, flagged: ArrayLike) -> Figure:
    """How many normal samples and anomalies were flagged, and which share of each.

    Args:
        y: (N,), 1 = anomaly, 0 = normal.
        flagged: (N,), true or false.

    Raises:
        InputError: what `samples` refuses of the flags and labels.
    """
    flags, anomaly, _ = samples(flagged, y)
    if len(flags) != np.size(flagged) or not np.isin(flags, (0, 1)).all():
        raise InputError("flagged must be true or false for each sample, (N,)")
    counts = np.array([[int(((flags == f) & (anomaly == c)).sum()) for f in (0, 1)] for c in (0, 1)])
    totals = counts.sum(1)
    figure, axes = canvas(height=2.6)
    for row, column in np.ndindex(2, 2):
        share = counts[row, column] / max(totals[row], 1)
        colour = NORMAL if row == column else ANOMALY
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=colour, alpha=0.08 + 0.3 * share,
                          linewidth=0)  # fmt: skip
        told = f"{100 * share:.2f} %" if totals[row] else "-"
        axes.text(column, row - 0.14, f"{counts[row, column]}", ha="center", va="center", fontsize=14, color=LINE)
        axes.text(column, row + 0.22, told, ha="center", va="center", fontsize=TEXT, color=LINE)
    axes.set_xticks((0, 1), ("not flagged", "flagged"))
    axes.set_yticks((0, 1), (f"normal\n({totals[0]})", f"anomaly\n({totals[1]})"))
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=TEXT)
    return figure


def _curve(score: ArrayLike, y: ArrayLike) -> tuple[_Curve, str]:
    """The whole curve, and the note on what was left out."""
    values, anomaly, note = samples(score, y, infinite=True)
    require_both(anomaly, "such a curve")
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], anomaly[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    steps = [np.cumsum(~hits)[last], np.cumsum(hits)[last]]
    return _Curve(*(np.concatenate([[0], counts]) for counts in steps)), note


def _thinned(curve: _Curve) -> _Curve:
    """The points of a curve that are drawn: all, or those at shares of either class and at the highest scores."""
    size = len(curve.normals)
    if size <= 2 * PARTS:
        return curve
    places = [np.searchsorted(counts, np.linspace(0, counts[-1], PARTS + 1)) for counts in curve]
    top = np.geomspace(1, size - 1, PARTS // 2).astype(np.int64)
    chosen = np.unique(np.concatenate([*places, top, [0, size - 1]]))
    return _Curve(curve.normals[chosen], curve.anomalies[chosen])


def _band(axes: Axes, curve: _Curve, cut: Callable[[_Curve], Values], draws: int, seed: int) -> None:
    """Where 95 % of the curves of resampled classes lie, place by place."""
    thin = _thinned(curve)
    if min(thin.normals[-1], thin.anomalies[-1]) < 2:
        return
    stream = np.random.default_rng(seed)
    cells = [np.diff(counts) for counts in thin]
    drawn = [stream.multinomial(cell.sum(), cell / cell.sum(), draws).cumsum(1) for cell in cells]
    resampled = _Curve(*(np.pad(counts, ((0, 0), (1, 0))) for counts in drawn))
    low, high = np.quantile(cut(resampled), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    axes.fill_between(GRID, low, high, color=NORMAL, alpha=0.35, linewidth=0, label=f"{100 * LEVEL:g} % band")


def _recall_at(curves: _Curve) -> Values:
    """Recall (draws, G) at shares of false alarms."""
    pairs = zip(curves.false_alarms, curves.recall, strict=True)
    return np.array([np.interp(GRID, *pair) for pair in pairs])


def _precision_at(curves: _Curve) -> Values:
    """Precision (draws, G) where a recall is first reached."""
    pairs = zip(curves.recall, curves.precision, strict=True)
    places = GRID.clip(1e-9)  # just above 0, where something is flagged
    return np.array([precision[np.searchsorted(recall, places)] for recall, precision in pairs])


def _operating(score: ArrayLike, y: ArrayLike, threshold: float) -> tuple[float, float, float]:
    """Share of normal samples and of anomalies that are flagged, and the precision; NaN if nothing is."""
    values, anomaly, _ = samples(score, y, infinite=True)
    flags = values > threshold
    precision = float(anomaly[flags].mean()) if flags.any() else np.nan
    return float(flags[~anomaly].mean()), float(flags[anomaly].mean()), precision


def _mark(axes: Axes, x: float, y: float, threshold: float) -> None:
    """A dot at the calibrated threshold."""
    axes.plot(x, y, "o", color=LINE, markersize=7, clip_on=False, zorder=5, label=f"threshold {short(threshold)}")
