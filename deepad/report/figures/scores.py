"""Figures of scores: how they are distributed, by class or group, and how many samples reach each tier."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deepad.errors import InputError
from deepad.report.figures.base import (
    ANOMALY,
    LINE,
    NORMAL,
    SMALL,
    Values,
    canvas,
    classes,
    fitted,
    legend,
    logarithmic,
    mark_threshold,
    samples,
)

MOST_GROUPS = 40
"""Boxes that one figure can hold."""
WHISKERS = (0.01, 0.25, 0.5, 0.75, 0.99)


def score_histogram(
    score: ArrayLike,
    y: ArrayLike | None,
    threshold: float,
    *,
    band: tuple[float, float] | None = None,
    calibration: ArrayLike | None = None,
    bins: int = 60,
) -> Figure:
    """Distribution of the scores of normal and anomalous samples, with the calibrated threshold.

    The bars of each class sum to 1. If scores are positive and span a decade or more, the axis is logarithmic.

    Args:
        score: (N,), NaN and infinite scores are left out and counted.
        y: (N,), 1 = anomaly; None without labels.
        threshold: drawn as a line if it is finite; samples to its right are flagged.
        band: lowest and highest value that the threshold could have had, shaded.
        calibration: scores (n,) that the threshold was made of, drawn as a line.
        bins: number of bins over the range of the finite scores.

    Raises:
        InputError: what `samples` refuses, or a band whose ends are out of order.
    """
    values, anomaly, note = samples(score, y)
    others, *_ = samples(() if calibration is None else calibration)
    if band is not None and not band[0] <= band[1]:
        raise InputError(f"got band={band!r}: give the lowest value of the threshold, then the highest")
    figure, axes = canvas()
    low, high = _range(np.concatenate([values, others]))
    log = logarithmic(axes, "x", [low, high, threshold, *(band or ())])
    edges = (np.geomspace if log else np.linspace)(low, high, bins + 1)
    axes.update_datalim([(edges[0], 0), (edges[-1], 0)])  # for scores of which none is finite
    axes.autoscale_view()
    for name, colour, chosen in classes(values, anomaly, y is not None):
        axes.stairs(_shares(chosen, edges), edges, fill=True, color=colour, alpha=0.45)
        axes.stairs(_shares(chosen, edges), edges, color=colour, linewidth=1.2, label=f"{name} ({len(chosen)})")
    if len(others):
        axes.stairs(_shares(others, edges), edges, color=LINE, linewidth=1, label=f"calibration ({len(others)})")
    if band is not None and np.isfinite(band).all():
        axes.axvspan(*band, color=LINE, alpha=0.15, linewidth=0, label="where it could have been")
    mark_threshold(axes, threshold, "x")
    axes.set(xlabel=f"anomaly score{note}", ylabel="share of the samples" if y is None else "share of the class")
    axes.set_ylim(bottom=0)
    legend(axes)
    return figure


def score_boxes(score: ArrayLike, group: ArrayLike, threshold: float | None = None) -> Figure:
    """Scores of classes or groups as boxes: quartiles, whiskers from 1 % to 99 %, a dot at the highest score.

    Args:
        score: (N,), NaN and infinite scores are left out and counted.
        group: (N,) names, or labels 0 = normal and 1 = anomaly.
        threshold: drawn as a line.

    Raises:
        InputError: what `samples` refuses, groups of another shape, or not 1 to 40 of them with a finite score.
    """
    values, _, note = samples(score)
    groups = np.asarray(group)
    if groups.shape != np.shape(score):
        raise InputError(f"got groups of shape {groups.shape} for scores of shape {np.shape(score)}: give one a sample")
    names, place = np.unique(groups[np.isfinite(np.asarray(score, np.float64))], return_inverse=True)
    if not 1 <= len(names) <= MOST_GROUPS:
        raise InputError(f"got {len(names)} groups with a finite score: give 1 to {MOST_GROUPS}")
    labelled = groups.dtype.kind in "biuf" and np.isin(names, (0, 1)).all()
    shown = [("normal", "anomaly")[int(name)] if labelled else str(name) for name in names]
    colours = [ANOMALY if labelled and name == "anomaly" else NORMAL for name in shown]
    parts = [values[place == row] for row in range(len(names))]
    told = [fitted(f"{name} ({len(part)})") for name, part in zip(shown, parts, strict=True)]
    figure, axes = canvas(height=1.1 + (0.34 + 0.1 * max(name.count("\n") for name in told)) * len(names))
    logarithmic(axes, "x", [*_range(values), *([] if threshold is None else [threshold])])
    _boxes(axes, parts, colours)
    axes.set_yticks(range(len(names)), told)
    axes.set(xlabel=f"anomaly score{note}", ylim=(len(names) - 0.5, -0.5))
    if threshold is not None:
        mark_threshold(axes, threshold, "x")
    legend(axes)
    return figure


def severity_tiers(tier: ArrayLike, names: Sequence[str], y: ArrayLike | None = None) -> Figure:
    """How many samples reached each tier and no higher one; the axis is logarithmic from 1 on.

    Args:
        tier: (N,) 0 for what is not flagged, 1 for the mildest tier and so on, -1 for what could not be judged.
        names: (M,) of the tiers, mild to severe.
        y: (N,) labels, 1 = anomaly; None without labels.

    Raises:
        InputError: what `samples` refuses, or a tier without a name.
    """
    tiers, anomaly, _ = samples(tier, y)
    if len(tiers) != np.size(tier) or not np.isin(tiers, range(-1, len(names) + 1)).all():
        raise InputError(f"tiers must be whole numbers from -1 to {len(names)}, as many as there are names")
    figure, axes = canvas(height=1.1 + 0.42 * (len(names) + 2))
    rows = ["not judged", "not flagged", *map(fitted, names)]
    found = list(classes(tiers, anomaly, y is not None))
    most = 1
    for place, (name, colour, chosen) in enumerate(found):
        counts = np.bincount(chosen.astype(np.int64) + 1, minlength=len(rows))
        bars = axes.barh(np.arange(len(rows)) + 0.38 * (place - (len(found) - 1) / 2), counts, 0.36, color=colour,
                         label=f"{name} ({len(chosen)})")  # fmt: skip
        axes.bar_label(bars, fontsize=SMALL, color=LINE, padding=3)
        most = max(most, counts.max())
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="samples", xlim=(0, 6 * most), ylim=(-0.6, len(rows) - 0.4))
    axes.set_xticks([0, *10 ** np.arange(np.log10(most) + 0.5)])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    legend(axes)
    return figure


def _boxes(axes: Axes, parts: Sequence[Values], colours: Sequence[str]) -> None:
    """Horizontal boxes of groups, the first at 0."""
    axes.use_sticky_edges = False
    rows = np.arange(len(parts))
    ends = np.array([np.quantile(part, WHISKERS) for part in parts])
    axes.hlines(rows, ends[:, 0], ends[:, 4], color=colours, linewidth=1.4)
    axes.barh(rows, ends[:, 3] - ends[:, 1], 0.55, left=ends[:, 1], color=[f"{c}59" for c in colours],
              edgecolor=colours, linewidth=1.4)  # fmt: skip
    axes.vlines(ends[:, 2], rows - 0.275, rows + 0.275, color=colours, linewidth=3)
    axes.scatter([part.max() for part in parts], rows, 14, color=colours)


def _shares(values: Values, edges: Values) -> Values:
    """Share of the values in each bin; the bins hold all of them."""
    inside = np.clip(values, edges[0], edges[-1])
    return np.asarray(np.histogram(inside, edges)[0] / max(len(values), 1))


def _range(values: Values) -> tuple[float, float]:
    """Range of the values, never empty."""
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    around = 0.5 * abs(low) or 1.0
    return (low, high) if high > low else (low - around, high + around)
