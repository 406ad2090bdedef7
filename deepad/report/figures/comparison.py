"""Figures of many models: which differ by more than chance, and how good each is."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from deepad.errors import InputError
from deepad.report.figures.base import LINE, NORMAL, OTHER, SMALL, canvas, fitted, legend


def critical_difference(
    names: Sequence[str], ranks: ArrayLike, difference: float, groups: Sequence[Sequence[int]]
) -> Figure:
    """Mean ranks of models, the best at the top, with bars beside those that cannot be told apart.

    Args:
        names: of the M models.
        ranks: (M,) mean ranks, 1 = best.
        difference: mean ranks that differ by more than this differ by more than chance; drawn as a ruler.
        groups: positions of models that cannot be told apart.

    Raises:
        InputError: no model, or ranks that are not finite, one a model.

    Source: Demšar, *Statistical comparisons of classifiers over multiple data sets*, 2006, figure 1, turned so that
    there is room for many models and long names.
    """
    mean = np.asarray(ranks, np.float64)
    if mean.shape != (len(names),) or not len(names) or not np.isfinite(mean).all():
        raise InputError(f"got ranks {mean.tolist()} of {len(names)} models: give a finite mean rank for each of them")
    order = np.argsort(mean, kind="stable")
    row = np.argsort(order)
    figure, axes = _listed([names[model] for model in order])
    axes.hlines(row, 1, mean, color=LINE, alpha=0.3, linewidth=0.8)
    axes.plot(mean, row, "o", color=LINE, markersize=5)
    for place, value in zip(row, mean, strict=True):
        _told(axes, f"{value:.2f}", value, place)
    axes.plot([1, 1 + difference], [-0.8, -0.8], color=LINE, linewidth=2, label=f"critical difference {difference:.2f}")
    ends: list[int] = []  # the last row of the bars that stand below each other
    for first, last in sorted((min(row[list(group)]), max(row[list(group)])) for group in groups if len(group) > 1):
        column = next((place for place, end in enumerate(ends) if end < first), len(ends))
        axes.plot([1.03 + 0.035 * column] * 2, [first - 0.2, last + 0.2], color=NORMAL, linewidth=4, clip_on=False,
                  solid_capstyle="butt", transform=axes.get_yaxis_transform(),
                  label="_" if ends else "cannot be told apart")  # fmt: skip
        ends[column : column + 1] = [last]
    low, high = 1.0, max(mean.max(), 1 + difference)
    axes.set(xlabel="mean rank, 1 = best", ylim=(len(order) - 0.4, -1.2))
    axes.set(xlim=(low - 0.04 * (high - low or 1), high + 0.16 * (high - low or 1)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    legend(axes)
    return figure


def leaderboard_bars(
    names: Sequence[str],
    mean: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    *,
    floors: Sequence[str] = (),
    metric: str = "AUROC",
    higher_is_better: bool = True,
) -> Figure:
    """Mean of a metric by model as bars from 0, the best at the top, with intervals and the numbers.

    Args:
        names: of the M models.
        mean: (M,), NaN for a model that failed: last, without a bar.
        low: (M,) lower ends of intervals, NaN where there is none.
        high: (M,) upper ends.
        floors: names of simple models that the others should beat, in grey.
        metric: its name.
        higher_is_better: False puts the lowest at the top.

    Raises:
        InputError: no model, an infinite mean, not one number a model, or one end of intervals without the other.
    """
    values = np.asarray(mean, np.float64)
    ends = [np.full(len(names), np.nan) if given is None else np.asarray(given, np.float64) for given in (low, high)]
    if not len(names) or any(given.shape != (len(names),) for given in (values, *ends)) or np.isinf(values).any():
        raise InputError(f"got numbers of shape {values.shape} for {len(names)} models: give one finite mean a model")
    if (low is None) != (high is None):
        raise InputError("got one end of the intervals: give both or neither")
    order = np.argsort(-values if higher_is_better else values, kind="stable")  # NaN last
    rows, shown = np.arange(len(order)), values[order]
    simple = np.array([names[model] in set(floors) for model in order])
    figure, axes = _listed([names[model] for model in order])
    for chosen, name, colour in ((~simple, "model", NORMAL), (simple, "floor", OTHER)):
        if chosen.any():
            axes.barh(
                rows[chosen], np.nan_to_num(shown[chosen]), 0.66, color=colour, label=name if simple.any() else None
            )
    bounds = [end[order] for end in ends]
    axes.hlines(rows, bounds[0], bounds[1], color=LINE, linewidth=1.6)
    edge = np.fmax.reduce([np.nan_to_num(shown), *bounds]).clip(0)
    for row, value, at in zip(rows, shown, edge, strict=True):
        _told(axes, "failed" if np.isnan(value) else f"{value:.3f}", at, row)
    least = min(0, np.nanmin([0, *shown, *bounds[0]]))
    room = (edge.max() - least) or 1
    axes.set(
        xlabel=metric, ylim=(len(order) - 0.4, -0.6), xlim=(least - 0.04 * room * (least < 0), edge.max() + 0.2 * room)
    )
    legend(axes)
    return figure


def _told(axes: Axes, text: str, x: float, y: np.integer) -> None:
    """Text to the right of a place."""
    axes.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", fontsize=SMALL, color=LINE)


def _listed(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a row for each name, the first at the top."""
    told = [fitted(name) for name in names]
    figure, axes = canvas(height=1.1 + (0.25 + 0.15 * max(name.count("\n") for name in told)) * len(told))
    axes.set_yticks(range(len(told)), told)
    return figure, axes
