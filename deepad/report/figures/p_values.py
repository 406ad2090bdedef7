"""Figures of p-values: whether those of normal samples are uniform, and whether a level is kept.

Of m normal samples the i-th smallest of independent uniform p-values is Beta(i, m + 1 - i). P-values that come from the
same n calibration scores depend on each other and are multiples of 1/(n + 1); with all scores exchangeable and without
ties, the i-th smallest is (1 + X)/(n + 1) with X ~ BetaBinomial(n, i, m + 1 - i), and the number of samples flagged at
the level k/(n + 1) is BetaBinomial(m, k, n + 1 - k). These bands hold at each point by itself, not for a whole curve.

Source: David & Nagaraja, *Order Statistics*, 2003, section 2.1; Marques, *On the universal distribution of the coverage
in split conformal prediction*, 2023.
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from deepad.errors import InputError
from deepad.report.figures.base import (
    LINE,
    NORMAL,
    Flags,
    Values,
    canvas,
    classes,
    legend,
    logarithmic,
    samples,
)
from deepad.scoring.counts import quantiles

POINTS = 60
"""Most places at which a band is computed; curves of more samples are drawn at twice as many."""


def p_value_histogram(p_value: ArrayLike, y: ArrayLike | None = None, *, bins: int = 20) -> Figure:
    """Shares of p-values in (0, 1/bins], ..., (1 - 1/bins, 1], with the share that uniform ones have in each.

    Args:
        p_value: (N,), NaN is left out and counted.
        y: (N,), 1 = anomaly; None if all are taken for normal.
        bins: number of bins.

    Raises:
        InputError: what `samples` refuses, p-values outside [0, 1], or none.
    """
    values, anomaly, note = _p_values(p_value, y)
    figure, axes = canvas()
    edges = np.arange(bins + 1) / bins  # quotients, so that k/(n + 1) falls into the same bin as the level it equals
    for name, colour, chosen in classes(values, anomaly, y is not None):
        below = np.searchsorted(np.sort(chosen), edges[1:], side="right") / len(chosen)
        shares = np.diff(below, prepend=0)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.45)
        axes.stairs(shares, edges, color=colour, linewidth=1.2, label=f"{name} ({len(chosen)})")
    axes.axhline(1 / bins, color=LINE, linestyle="--", linewidth=1.4, label="uniform")
    axes.set(xlabel=f"p-value{note}", ylabel="share of the samples" if y is None else "share of the class", xlim=(0, 1))
    legend(axes, ncols=3)
    return figure


def p_value_qq(p_value: ArrayLike, y: ArrayLike | None = None, *, n: int | None = None) -> Figure:
    """Sorted p-values of normal samples against those expected of uniform ones, with the exact 95 % and 99 % bands.

    Above the band there are too few small p-values (alarms are rarer than promised), below it too many.

    Args:
        p_value: (N,), NaN is left out and counted.
        y: (N,), 1 = anomaly: left out; None if all are normal.
        n: number of calibration scores the p-values come from; None: independent and uniform ones.

    Raises:
        InputError: what `samples` refuses, p-values outside (0, 1], below 1/(n + 1), or none of a normal sample.
    """
    values, note = _of_normal(p_value, y, n)
    m = len(values)
    rank = _spread(m, 2 * POINTS)
    tested = _spread(m, POINTS)
    levels = (0.005, 0.025, 0.975, 0.995)
    if n is None:
        ends = betaincinv(tested, m + 1 - tested, np.array(levels)[:, None])
    else:
        ends = (1 + quantiles(levels, n, tested, m)) / (n + 1)
    figure, axes = canvas(height=3.6)
    for low, high, name, alpha in ((0, 3, "99 % band", 0.28), (1, 2, "95 % band", 0.4)):
        axes.fill_between(tested / (m + 1), ends[low], ends[high], color=NORMAL, alpha=alpha, linewidth=0, label=name)
    axes.plot([1 / (m + 1), 1], [1 / (m + 1), 1], color=LINE, linestyle="--", linewidth=1.2, label="uniform")
    axes.plot(rank / (m + 1), values[rank - 1], ".-", color=NORMAL, markersize=4, linewidth=1, label=f"normal ({m})")
    logarithmic(axes, "x", rank / (m + 1))
    logarithmic(axes, "y", [*ends.ravel(), *values[rank - 1]])
    axes.set(xlabel=f"p-value expected{note}", ylabel="p-value found")
    legend(axes)
    return figure


def calibration_curve(
    p_value: ArrayLike, n: int, y: ArrayLike | None = None, *, alpha: float | None = None, level: float = 0.99
) -> Figure:
    """Share of normal samples flagged at each level k/(n + 1), with the exact band in which it should lie.

    Axes over a decade or more are logarithmic; what lies on the lower edge is 0. Between two such levels the share
    stays the same.

    Args:
        p_value: (N,) multiples of 1/(n + 1), NaN is left out and counted.
        n: number of calibration scores.
        y: (N,), 1 = anomaly: left out; None if all are normal.
        alpha: the level that is used, marked.
        level: probability of the band at each level.

    Raises:
        InputError: what `samples` refuses, p-values outside (0, 1], below 1/(n + 1), or none of a normal sample.
    """
    values, note = _of_normal(p_value, y, n)
    m, k = len(values), _spread(n, POINTS)
    nominal = k / (n + 1)
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = quantiles(tails, m, k, n) / m
    floor = min(0.5 / m, 0.05)
    figure, axes = canvas(height=3.6)
    axes.fill_between(nominal, np.maximum(low, floor), np.maximum(high, floor), color=NORMAL, alpha=0.35, linewidth=0,
                      label=f"{100 * level:g} % band")  # fmt: skip
    axes.plot(nominal, nominal, color=LINE, linestyle="--", linewidth=1.2, label="as promised")
    realised = np.searchsorted(values, nominal, side="right") / m
    axes.plot(nominal, np.maximum(realised, floor), ".-", color=NORMAL, markersize=4, linewidth=1.2,
              label=f"found of {m} normal", clip_on=False)  # fmt: skip
    if alpha is not None:
        found = np.searchsorted(values, alpha, side="right") / m
        axes.plot(
            alpha, max(found, floor), "o", color=LINE, markersize=6, clip_on=False, label=f"{found:.3g} at {alpha:.3g}"
        )
    logarithmic(axes, "x", [*nominal, *([] if alpha is None else [alpha])])
    logarithmic(axes, "y", [floor, 1])
    axes.set(xlabel="false-alarm rate asked for", ylabel=f"false-alarm rate found{note}", ylim=(floor, 1.1))
    legend(axes)
    return figure


def _spread(last: int, most: int) -> NDArray[np.int64]:
    """Whole numbers from 1 to the last, all of them or about so many, evenly spaced on a logarithmic axis."""
    if last <= most:
        return np.arange(1, last + 1)
    return np.unique(np.rint(np.geomspace(1, last, most)).astype(np.int64))


def _p_values(p_value: ArrayLike, y: ArrayLike | None) -> tuple[Values, Flags, str]:
    values, anomaly, note = samples(p_value, y)
    if not len(values) or values.min() < 0 or values.max() > 1:
        given = f"{len(values)} of them" + (f" from {values.min():.4g} to {values.max():.4g}" if len(values) else "")
        raise InputError(f"p-values must lie in [0, 1], at least one, got {given}: scores are no p-values")
    return values, anomaly, note


def _of_normal(p_value: ArrayLike, y: ArrayLike | None, n: int | None) -> tuple[Values, str]:
    """P-values of the normal samples in ascending order, and the note on what was left out."""
    values, anomaly, note = _p_values(p_value, y)
    if anomaly.all():
        raise InputError(
            f"all {len(values)} samples with a p-value are anomalies: only those of normal ones are uniform"
        )
    values = np.sort(values[~anomaly])
    if n is not None and n < 1:
        raise InputError(f"n must be the number of calibration scores, at least 1, got {n}")
    if values[0] <= 0 or (n is not None and values[0] < 1 / (n + 1)):
        least = "0" if n is None else f"1/(n + 1) = {1 / (n + 1):.4g} of n = {n} calibration scores"
        raise InputError(
            f"the smallest p-value is {values[0]:.4g}, it must be {'above' if n is None else 'at least'} {least}"
        )
    return values, note
