"""Figures of a series: its channels above its scores, and which channel each alarm comes from.

A long series is cut into bins of equally many steps, of each of which the lowest and the highest value are drawn where
they are: no spike is lost, and a figure of a million steps is as small as one of a thousand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError
from deepad.report.figures.base import (
    ANOMALY,
    HEAT,
    LINE,
    NORMAL,
    OTHER,
    WIDTH,
    Flags,
    Values,
    canvas,
    colour_bar,
    dressed,
    legend,
    logarithmic,
    mark_threshold,
    runs,
    shortened,
)

BINS = 600
"""Bins of a long series: more than there are pixels to show them apart."""
COLUMNS = 300
"""Bins of flags and contributions: fewer than there are pixels, so that each is drawn."""
MOST_NAMED = 20
"""Channels that can be told apart by name."""


def series_scores(
    values: ArrayLike,
    score: ArrayLike,
    y: ArrayLike | None,
    threshold: float,
    *,
    names: Sequence[str] = (),
    first: int = 0,
    flagged: ArrayLike | None = None,
) -> Figure:
    """Channels of a stretch of a series, each in a lane of its own, above the scores of its steps.

    Args:
        values: (N, C) raw values; each channel is drawn from its smallest to its largest finite one.
        score: (N,), gaps where it is NaN; infinite ones are drawn where the outermost finite one or the threshold is,
            and counted.
        y: (N,) labels, 1 = anomaly: shaded; None without labels.
        threshold: drawn as a line.
        names: (C,) of the channels; numbers are drawn if there are none, or more than 20.
        first: number of the first step.
        flagged: (N,), marked as bars above the scores; None: where the score is above the threshold.

    Raises:
        InputError: no step, arrays of different lengths or other shapes, or not one name a channel.
    """
    x, scores = np.asarray(values, np.float64), np.asarray(score, np.float64)
    x = x[:, None] if x.ndim == 1 else x
    windows = np.zeros(scores.shape, bool) if y is None else np.asarray(y) == 1
    flags = scores > threshold if flagged is None else np.asarray(flagged, bool)
    if x.ndim != 2 or not x.size or {scores.shape, windows.shape, flags.shape} != {x.shape[:1]}:
        raise InputError(
            f"got values of shape {x.shape}, scores {scores.shape}, labels {windows.shape} and flags {flags.shape}: "
            "give (N, C) and one score, label and flag a step, of at least one step"
        )
    _require_names(names, x.shape[1])
    tall = min(0.35 * x.shape[1] + 0.3, 3.4)
    figure = Figure(figsize=(WIDTH, 2.4 + tall), layout="constrained")
    above, below = map(dressed, figure.subplots(2, 1, sharex=True, height_ratios=[tall, 1.9]))
    _lanes(above, x, names, first)
    infinite = int(np.isinf(scores).sum())
    shown = _bounded(scores, threshold)
    where = _line(below, shown, first, NORMAL)
    mark_threshold(below, threshold, "y")
    _shade(above, windows, first, (0, 1), {"color": ANOMALY, "alpha": 0.25})
    _shade(below, windows, first, (0, 1), {"color": ANOMALY, "alpha": 0.25, "label": "labelled anomaly"})
    _shade(below, flags, first, (0.95, 1), {"color": LINE, "label": "flagged"})
    logarithmic(below, "y", [*shown[where], threshold])
    note = f" ({infinite} infinite, cut)" if infinite else ""
    below.set(xlabel=f"step{note}", ylabel="anomaly score")
    below.margins(y=0.12)  # room for the bars
    below.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    legend(below, ncols=3)
    return figure


def channel_contributions(
    contributions: ArrayLike,
    *,
    names: Sequence[str] = (),
    flagged: ArrayLike | None = None,
    y: ArrayLike | None = None,
    first: int = 0,
    most: int = MOST_NAMED,
) -> Figure:
    """What each channel adds to the score, step by step: channels that matter most first.

    Args:
        contributions: (N, C); what is negative or not finite is drawn as nothing, in bins of steps the largest.
        names: (C,) of the channels; their numbers if not given.
        flagged: (N,), marked as bars above the channels.
        y: (N,) labels, 1 = anomaly: marked above the channels as well.
        first: number of the first step.
        most: channels drawn, those with the largest contribution to any step.

    Raises:
        InputError: no step, arrays of different lengths or other shapes, or not one name a channel.
    """
    parts = np.asarray(contributions, np.float64)
    marks = {"flagged": (flagged, LINE), "labelled anomaly": (y, ANOMALY)}
    given = {name: (np.asarray(flags) == 1, colour) for name, (flags, colour) in marks.items() if flags is not None}
    if parts.ndim != 2 or not parts.size or any(flags.shape != parts.shape[:1] for flags, _ in given.values()):
        raise InputError(
            f"got contributions of shape {parts.shape}: give (N, C), and flags and labels of as many steps"
        )
    _require_names(names, parts.shape[1])
    heat = _binned(np.where(np.isfinite(parts), parts, 0).clip(0))
    chosen = np.argsort(-heat.max(0), kind="stable")[:most]
    rows = len(chosen) + len(given)
    figure, axes = canvas(height=1.2 + max(0.2 * rows, 0.8))
    top = float(heat.max()) or 1.0
    begin, size = first - 0.5, _size(len(parts), COLUMNS)
    drawn = axes.imshow(heat[:, chosen].T, cmap=HEAT, vmin=0, vmax=top, aspect="auto", interpolation="none",
                        extent=(begin, begin + size * len(heat), len(chosen) - 0.5, -0.5))  # fmt: skip
    for row, (flags, colour) in enumerate(given.values(), len(chosen)):
        _shade(axes, flags, first, ((row + 0.2) / rows, (row + 0.8) / rows), {"color": colour})
    told = [shortened(names[i]) if len(names) else str(i) for i in chosen]
    axes.set_yticks(range(-len(given), len(chosen)), [*reversed(given), *told])
    axes.set(xlim=(begin, begin + len(parts)), ylim=(len(chosen) - 0.5, -len(given) - 0.5))
    axes.set(xlabel="step", ylabel="" if len(names) else "channel")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    colour_bar(axes, drawn, "contribution")
    return figure


def decimated(values: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Steps (M,) to draw of N values, in order: all, or the lowest and the highest of each bin.

    Args:
        values: (N,), NaN in gaps: a bin without any value gives one of its steps.
        bins: number of bins; M is at most twice as many.
    """
    given = np.asarray(values, np.float64)
    size = _size(len(given), bins)
    if size <= 2:
        return np.arange(len(given))
    padded = np.pad(given, (0, -len(given) % size), constant_values=np.nan).reshape(-1, size)
    missing = np.isnan(padded)
    places = [np.where(missing, np.inf, padded).argmin(1), np.where(missing, -np.inf, padded).argmax(1)]
    return np.unique(np.stack(places) + size * np.arange(len(padded)))


def _size(steps: int, bins: int) -> int:
    """Steps in each of so many bins or fewer."""
    return -(-steps // bins)


def _binned(values: NDArray[Any]) -> NDArray[Any]:
    """The largest value (M, ...) of each bin of N steps, the last of which may be shorter."""
    return np.maximum.reduceat(values, np.arange(0, len(values), _size(len(values), COLUMNS)))


def _bounded(values: Values, *others: float) -> Values:
    """The values, infinite ones replaced by the outermost finite one of them and of the others; 0 if there is none."""
    finite = np.append(values, others)
    finite = finite[np.isfinite(finite)]
    return np.clip(values, finite.min(), finite.max()) if len(finite) else np.where(np.isinf(values), 0.0, values)


def _require_names(names: Sequence[str], channels: int) -> None:
    if len(names) not in (0, channels):
        raise InputError(f"got {len(names)} names of {channels} channels: give one a channel, or none")


def _line(axes: Axes, values: Values, first: int, colour: str) -> NDArray[np.int64]:
    """Draw values (N,) by step, and tell which are drawn (M,)."""
    where = decimated(values)
    size = 1.2 if len(where) > 100 else 4
    axes.plot(first + where, values[where], ".-", color=colour, linewidth=0.8, markersize=size, rasterized=True)
    return where


def in_lane(channel: Values, lane: int) -> Values:
    """A channel (N,) from its smallest to its largest value in a lane, which has 0.1 free at its sides; down is larger.

    Infinite values are at the edge, of a constant channel all in the middle, NaN stays.
    """
    shown = _bounded(channel)
    low, high = np.nanmin(np.append(shown, np.inf)), np.nanmax(np.append(shown, -np.inf))
    scaled = 0.1 + 0.8 * (shown - low) / (high - low) if high > low else np.where(np.isnan(shown), np.nan, 0.5)
    return np.asarray(lane + 1 - scaled)


def _lanes(axes: Axes, x: Values, names: Sequence[str], first: int) -> None:
    """Each channel (N,) of values (N, C) in a lane from 0.1 to 0.9 above its number, the first one at the top."""
    lanes = x.shape[1]
    for lane, channel in enumerate(x.T):
        _line(axes, in_lane(channel, lane), first, OTHER)
    if 0 < len(names) <= MOST_NAMED:
        axes.set_yticks(np.arange(lanes) + 0.5, [shortened(name) for name in names])
    else:
        some = np.arange(0, lanes, -(-lanes // 6))
        axes.set_yticks(some + 0.5, some)
        axes.set(ylabel="channel")
    axes.set(ylim=(lanes, 0))
    axes.tick_params(axis="y", length=0)


def _shade(axes: Axes, flags: Flags, first: int, height: tuple[float, float], style: dict[str, Any]) -> None:
    """Runs of True among N steps as bars over a part of the axes' height; no run is too short to be seen."""
    spans = np.minimum(_size(len(flags), COLUMNS) * runs(_binned(flags)), len(flags))
    if len(spans):
        ranges = [(first - 0.5 + begin, end - begin) for begin, end in spans.tolist()]
        axes.broken_barh(
            ranges, (height[0], height[1] - height[0]), transform=axes.get_xaxis_transform(), linewidth=0.4, **style
        )
