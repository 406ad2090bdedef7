"""The alarm dial: what each false-alarm rate costs, to choose one by what it leads to."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deepad.errors import InputError
from deepad.report.figures.base import (
    ANOMALY,
    LINE,
    NORMAL,
    OTHER,
    WIDTH,
    Values,
    dressed,
    logarithmic,
    samples,
    short,
    titled,
)

POINTS = 200


def alarm_dial(
    alpha: float,
    *,
    per_day: float,
    unit: str = "a day",
    p_value: ArrayLike | None = None,
    y: ArrayLike | None = None,
    costs: tuple[float, float] | None = None,
    prevalence: float = 0.0,
    levels: tuple[float, float] | None = None,
) -> Figure:
    """What comes of each false-alarm rate: false alarms a day, anomalies missed and the cost a day.

    A level a is expected to raise a (1 - prevalence) per_day false alarms a day, if it is kept. It misses the anomalies
    whose p-value is above a. With what was chosen by looking at these curves, that share is too good.

    Args:
        alpha: the calibrated level, in (0, 1), marked.
        per_day: samples scored in a day, > 0.
        unit: what that number is of, in words, where it is not a day.
        p_value: (N,) of labelled samples, NaN is left out.
        y: (N,) their labels, 1 = anomaly; with at least one of them what is missed is drawn.
        costs: of a false alarm and of a missed anomaly, >= 0 each, in the same money; needs labels and a prevalence.
        prevalence: share of anomalies among the samples that will be scored, in [0, 1).
        levels: lowest and highest level, inside (0, 1]; if not given from a hundredth of alpha to 0.5, or to alpha.

    Raises:
        InputError: an argument out of range, labels without p-values or the other way round, or costs without them.
    """
    low, high = levels or (alpha / 100, max(0.5, alpha))
    if not (0 < alpha < 1 and 0 < low < high <= 1):
        raise InputError(f"got alpha={alpha!r} and levels={levels!r}: levels lie in (0, 1), the lower one first")
    if not (0 < per_day < np.inf and 0 <= prevalence < 1):
        raise InputError(f"got per_day={per_day!r} and prevalence={prevalence!r}: give samples a day > 0 and [0, 1)")
    anomalies = _of_anomalies(p_value, y)
    if costs is not None and (not len(anomalies) or not prevalence or not all(0 <= cost < np.inf for cost in costs)):
        raise InputError(f"got costs={costs!r}: give two of at least 0, labelled anomalies and a prevalence above 0")
    asked = np.unique(np.append(np.geomspace(low, high, POINTS), alpha))
    false_alarms = per_day * (1 - prevalence) * asked
    curves = [(f"false alarms\n{unit}", NORMAL, false_alarms)]
    if len(anomalies):
        missed = 1 - np.searchsorted(anomalies, asked, side="right") / len(anomalies)
        curves.append((f"share missed\nof {len(anomalies)}", ANOMALY, missed))
        if costs is not None:
            money = costs[0] * false_alarms + costs[1] * per_day * prevalence * missed
            curves.append((f"cost\n{unit}", OTHER, money))
    return _panels(asked, curves, alpha)


def _of_anomalies(p_value: ArrayLike | None, y: ArrayLike | None) -> Values:
    """Sorted p-values of the anomalies; none without labels."""
    if (p_value is None) != (y is None):
        raise InputError("got p-values without labels or labels without p-values: give both or neither")
    if p_value is None:
        return np.empty(0)
    values, anomaly, _ = samples(p_value, y)
    return np.sort(values[anomaly])


def _panels(asked: Values, curves: Sequence[tuple[str, str, Values]], alpha: float) -> Figure:
    """One panel a quantity over the same levels, with its value at the calibrated one."""
    figure = Figure(figsize=(WIDTH, 0.7 + 1.5 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, colour, values) in zip(map(dressed, panels), curves, strict=True):
        at = float(values[np.searchsorted(asked, alpha)])
        axes.plot(asked, values, color=colour, linewidth=1.8)
        axes.axvline(alpha, color=LINE, linestyle="--", linewidth=1.4)
        axes.plot(alpha, at, "o", color=LINE, markersize=6)
        logarithmic(axes, "x", asked)
        if name.startswith("share"):
            axes.set_ylim(-0.04, 1.04)
        else:
            logarithmic(axes, "y", values)
        axes.set_ylabel(name)
        titled(axes, f"{short(at)} at alpha = {alpha:g}")
    panels[-1].set_xlabel("false-alarm rate asked for, alpha")
    return figure
