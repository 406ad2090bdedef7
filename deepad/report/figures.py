"""Figures of a run, each a function that returns a matplotlib `Figure`, usable alone in a notebook."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

NORMAL, ANOMALY, LINE = "#3b6ea8", "#c8553d", "#222222"


def score_histogram(score: ArrayLike, y: ArrayLike, threshold: float, *, bins: int = 60) -> Figure:
    """Distribution of the scores of normal and anomalous samples, with the calibrated threshold.

    Args:
        score: (N,), NaN and infinite scores are left out.
        y: (N,), 1 = anomaly.
        threshold: drawn as a line; samples to its right are flagged.
        bins: number of bins over the range of the finite scores.
    """
    values, labels = np.asarray(score), np.asarray(y)
    finite = np.isfinite(values)
    values, labels = values[finite], labels[finite]
    positive = len(values) > 0 and values.min() > 0
    edges = (np.geomspace if positive else np.linspace)(*_widened(values), bins + 1)
    figure, axes = _canvas(6.4, 3.2)
    for label, name, colour in ((0, "normal", NORMAL), (1, "anomaly", ANOMALY)):
        chosen = values[labels == label]
        if len(chosen):
            share = np.full(len(chosen), 1 / len(chosen))
            axes.hist(chosen, list(edges), weights=share, color=colour, alpha=0.6, label=f"{name} ({len(chosen)})")
    axes.axvline(threshold, color=LINE, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.4g}")
    axes.set(xlabel="anomaly score", ylabel="share of the class", xscale="log" if positive else "linear")
    if positive:
        _plain_log_ticks(axes.xaxis)
    axes.legend(frameon=False)
    return figure


def series_scores(
    values: ArrayLike, score: ArrayLike, y: ArrayLike, threshold: float, *, names: Sequence[str] = (), first: int = 0
) -> Figure:
    """Channels of a stretch of a series above the scores of its steps.

    Args:
        values: (N, C) raw values; each channel is drawn from 0 (its smallest) to 1 (its largest).
        score: (N,), gaps where it is NaN.
        y: (N,) labels, 1 = anomaly: shaded.
        threshold: drawn as a line.
        names: of the channels, for the legend.
        first: number of the first step.
    """
    x, scores, labels = np.asarray(values, float), np.asarray(score, float), np.asarray(y)
    steps = first + np.arange(len(scores))
    low, high = x.min(0), x.max(0)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    for place, channel in enumerate(((x - low) / np.where(high > low, high - low, 1)).T):
        name = names[place] if place < len(names) and len(names) <= 8 else None
        above.plot(steps, channel, linewidth=0.6, label=name, rasterized=True)
    below.plot(steps, scores, color=NORMAL, linewidth=0.7, rasterized=True)
    below.axhline(threshold, color=LINE, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.4g}")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels, [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        for axes in (above, below):
            axes.axvspan(first + begin, first + end, color=ANOMALY, alpha=0.15, linewidth=0)
    positive = bool(np.isfinite(scores).any()) and np.nanmin(scores) > 0
    above.set(ylabel="channels, 0 to 1")
    below.set(xlabel="step", ylabel="anomaly score", yscale="log" if positive else "linear")
    if names and len(names) <= 8:
        above.legend(frameon=False, fontsize=6, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.24))
    below.legend(frameon=False)
    return figure


def training_curves(train_loss: ArrayLike, val_loss: ArrayLike) -> Figure:
    """Loss on training and validation rows by epoch (E,), with the best epoch marked."""
    train, val = np.asarray(train_loss, float), np.asarray(val_loss, float)
    figure, axes = _canvas(6.4, 3.2)
    axes.plot(np.arange(1, len(train) + 1), train, color=NORMAL, label="train")
    axes.plot(np.arange(1, len(val) + 1), val, color=ANOMALY, label="validation (normal)")
    if len(val):
        best = int(np.nanargmin(val))
        axes.plot(best + 1, val[best], "o", color=LINE, markersize=5, label=f"best, epoch {best + 1}")
    positive = np.nanmin([*train, *val]) > 0
    axes.set(xlabel="epoch", ylabel="loss", yscale="log" if positive else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if positive:
        _plain_log_ticks(axes.yaxis)
    axes.legend(frameon=False)
    return figure


def reconstructions(
    x: NDArray[np.floating], rebuilt: NDArray[np.floating], parts: NDArray[np.floating], captions: Sequence[str]
) -> Figure:
    """Images beside what the model rebuilt and where the score comes from.

    Args:
        x: originals (N, C, H, W).
        rebuilt: reconstructions (N, C, H, W), in the same units.
        parts: contributions to the score (N, C, H, W), summed over channels for the picture.
        captions: (N,) one short line each.
    """
    columns = len(x)
    figure = Figure(figsize=(max(1.05 * columns, 3), 3.9), layout="constrained")
    grid = np.atleast_2d(figure.subplots(3, columns, squeeze=False))
    low, high = float(x.min()), float(x.max())
    for column in range(columns):
        for axes, image in zip(grid[:, column], (x[column], rebuilt[column]), strict=False):
            colour = len(image) == 3 and high > low
            picture = (image.transpose(1, 2, 0) - low).clip(0, high - low) / (high - low) if colour else image.mean(0)
            axes.imshow(picture, cmap="gray_r", vmin=low, vmax=high)
        grid[2, column].imshow(parts[column].sum(0), cmap="magma")
        grid[0, column].set_title(captions[column], fontsize=7)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[:, 0], ("original", "rebuilt", "share of\nthe score"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    return figure


def critical_difference(
    names: Sequence[str], ranks: ArrayLike, difference: float, groups: Sequence[Sequence[int]]
) -> Figure:
    """Mean ranks of models on a line, with bars over those that cannot be told apart.

    Args:
        names: of the M models.
        ranks: (M,) mean ranks, 1 = best.
        difference: mean ranks that differ by more than this differ by more than chance; drawn as a ruler.
        groups: positions of models that cannot be told apart.

    Source: Demšar, *Statistical comparisons of classifiers over multiple data sets*, 2006, figure 1.
    """
    mean = np.asarray(ranks, float)
    order = np.argsort(mean, kind="stable")
    half = (len(order) + 1) // 2
    bars = [group for group in groups if len(group) > 1]
    top = 1.0 + 0.35 * len(bars)
    figure = Figure(figsize=(7.2, 0.9 + 0.24 * half + 0.16 * len(bars)), layout="constrained")
    axes = figure.subplots()
    low, high = 1.0, float(max(len(order), 2))
    axes.plot([low, high], [0, 0], color=LINE, linewidth=1)
    for tick in MaxNLocator(integer=True, nbins=8).tick_values(low, high):
        if low <= tick <= high:
            axes.plot([tick, tick], [0, 0.25], color=LINE, linewidth=1)
            axes.text(tick, 0.4, f"{tick:g}", ha="center", va="bottom", fontsize=8)
    axes.plot([low, low + difference], [1.9, 1.9], color=LINE, linewidth=2)
    axes.text(low + difference / 2, 2.05, f"critical difference {difference:.2f}", ha="center", va="bottom", fontsize=8)
    for place, model in enumerate(order):
        left = place < half
        depth = -(top + (place if left else len(order) - 1 - place))
        end = low - 0.02 * (high - low) if left else high + 0.02 * (high - low)
        axes.plot([mean[model], mean[model], end], [0, depth, depth], color=LINE, linewidth=0.7)
        axes.text(end, depth, f" {names[model]} ({mean[model]:.2f}) ", ha="right" if left else "left", va="center",
                  fontsize=8)  # fmt: skip
    for number, group in enumerate(bars):
        ends = mean[list(group)]
        height = -0.35 * (number + 1)
        axes.plot([ends.min() - 0.03, ends.max() + 0.03], [height, height], color=NORMAL, linewidth=4,
                  solid_capstyle="round")  # fmt: skip
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.axis("off")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of each decade, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _widened(values: NDArray[np.floating]) -> tuple[float, float]:
    """Range of the values, never empty."""
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low * 0.99 - (low == 0), high * 1.01 + (high == 0))
