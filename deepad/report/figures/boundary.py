"""Figures of where a model draws the line in two dimensions: the classical pictures of outlier detection.

The plane is shaded by score, blue below the threshold and red above, stronger where the score is further from it; the
line is the threshold. Of models that see more than two features such a picture is a cut and can mislead.
"""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deepad.errors import InputError
from deepad.report.figures.base import (
    ANOMALY,
    LINE,
    NORMAL,
    WIDTH,
    Flags,
    Values,
    canvas,
    dressed,
    fitted,
    legend,
    titled,
)

Score = Callable[[Values], ArrayLike]

SHADES = (0.06, 0.12, 0.2, 0.3)
"""Opacity of areas, from the threshold outwards: faint, so that points of the same colour can be seen on them."""
MARGIN = 0.12
"""What is drawn around the points, as a share of their range."""


def decision_boundary(
    score: Score,
    x: ArrayLike,
    threshold: float,
    y: ArrayLike | None = None,
    *,
    names: tuple[str, str] = ("feature 1", "feature 2"),
    grid: int = 100,
    most: int = 1000,
    seed: int = 0,
) -> Figure:
    """What a model flags in the plane, with the points of a data set.

    Args:
        score: gives scores (M,) of points (M, 2), higher is more anomalous.
        x: points (N, 2); those that are not finite are left out.
        threshold: scores above it are flagged.
        y: (N,) labels, 1 = anomaly; None without labels.
        names: of the two features.
        grid: places along each axis at which the model is asked.
        most: points drawn; if there are more they are chosen by chance.
        seed: of the choice.

    Raises:
        InputError: no finite point, points that are not (N, 2), other labels, or scores of another shape.
    """
    points, anomaly = _points(x, y, most, seed)
    figure, axes = canvas(height=4.0)
    _shade(axes, score, points, threshold, grid)
    _dots(axes, points, anomaly, y is not None)
    axes.set(xlabel=fitted(names[0], 48), ylabel=fitted(names[1], 32))
    legend(axes)
    return figure


def decision_boundaries(
    models: Mapping[str, tuple[Score, float]],
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    grid: int = 60,
    most: int = 500,
    seed: int = 0,
) -> Figure:
    """What several models flag in the plane, side by side, two in a row.

    Args:
        models: score, as in `decision_boundary`, and threshold of each by its name.
        x: points (N, 2).
        y: (N,) labels, 1 = anomaly; None without labels.
        grid: places along each axis at which the models are asked.
        most: points drawn in each.
        seed: of their choice.

    Raises:
        InputError: no model, or what `decision_boundary` refuses.
    """
    if not models:
        raise InputError("got no model to draw: give at least one score with its threshold, by name")
    points, anomaly = _points(x, y, most, seed)
    rows = -(-len(models) // 2)
    figure = Figure(figsize=(WIDTH, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, (name, (score, threshold)) in zip(panels, models.items(), strict=False):
        _shade(dressed(axes), score, points, threshold, grid)
        _dots(axes, points, anomaly, y is not None, size=5)
        axes.set(xticks=[], yticks=[])
        titled(axes, fitted(name, 26))
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    legend(panels[0])
    return figure


def _points(x: ArrayLike, y: ArrayLike | None, most: int, seed: int) -> tuple[Values, Flags]:
    """The points that are drawn (n, 2) and which of them are anomalies."""
    points = np.asarray(x, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"got points of shape {points.shape}: give (N, 2); of more features choose two")
    labels = np.zeros(len(points)) if y is None else np.asarray(y)
    if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
        raise InputError(f"labels must be 0 (normal) or 1 (anomaly), one for each of {len(points)} points")
    usable = np.flatnonzero(np.isfinite(points).all(1))
    if not len(usable):
        raise InputError(f"none of {len(points)} points is finite: give at least one")
    if len(usable) > most:
        usable = np.random.default_rng(seed).choice(usable, most, replace=False)
    return points[usable], labels[usable] == 1


def _shade(axes: Axes, score: Score, points: Values, threshold: float, grid: int) -> None:
    """Areas of the plane by score, and the line of the threshold where there is one."""
    low, high = points.min(0), points.max(0)
    wide = MARGIN * np.where(high > low, high - low, 1.0)
    sides = np.linspace(low - wide, high + wide, grid)
    plane = np.stack(np.meshgrid(*sides.T), axis=-1)
    values = np.asarray(score(plane.reshape(-1, 2)), np.float64)
    if values.shape != (grid * grid,):
        raise InputError(f"got scores of shape {values.shape} for {grid * grid} points: score must give one a point")
    most = 1 + np.abs([0, *values[np.isfinite(values)], *filter(np.isfinite, [threshold])]).max()  # stands for infinity
    field = np.ma.masked_invalid(np.clip(values, -most, most).reshape(grid, grid))
    levels, colours = _levels(field.compressed(), threshold)
    if levels:
        axes.contourf(*sides.T, field, levels=levels, colors=colours, extend="both").set_rasterized(True)
    if field.count() and field.min() < threshold < field.max():
        axes.contour(*sides.T, field, levels=[threshold], colors=LINE, linewidths=1.6, linestyles="solid")
    axes.set(xlim=sides[[0, -1], 0], ylim=sides[[0, -1], 1])


def _levels(values: Values, threshold: float) -> tuple[list[float], list[tuple[float, float, float, float]]]:
    """Rising borders of areas, the threshold among them, and the colours between and beyond them."""
    cuts = np.linspace(0, 1, len(SHADES) + 1)[1:-1]
    sides = [values[values <= threshold], values[values > threshold]]
    below, above = (np.unique(np.quantile(side, cuts)) if len(side) else np.empty(0) for side in sides)
    below, above = below[below < threshold], above[above > threshold]
    middle = [threshold] if np.isfinite(threshold) else []
    colours = [to_rgba(NORMAL, a) for a in SHADES[len(below) :: -1]] if middle or len(below) else []
    colours += [to_rgba(ANOMALY, a) for a in SHADES[: len(above) + 1]] if middle or len(above) else []
    levels = [*below, *middle, *above]
    if len(levels) == 1:  # two are the fewest that can be drawn
        levels.append(np.nextafter(levels[0], np.inf))
        colours.append(colours[-1])
    return levels, colours


def _dots(axes: Axes, points: Values, anomaly: Flags, labelled: bool, size: float = 12) -> None:
    """Normal points as dots, anomalies as crosses on top."""
    styles = ((~anomaly, "normal" if labelled else "samples", NORMAL, "o"), (anomaly, "anomaly", ANOMALY, "X"))
    for mask, name, colour, marker in styles:
        if mask.any():
            across, up = points[mask].T
            axes.scatter(across, up, size if marker == "o" else 2.5 * size, color=colour, marker=marker,
                         linewidth=0, rasterized=True, label=f"{name} ({mask.sum()} shown)")  # fmt: skip
