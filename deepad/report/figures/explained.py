"""Figures of one sample beside what the model expected in its place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deepad.errors import InputError
from deepad.report.figures.base import HEAT, LINE, NORMAL, SMALL, WIDTH, dressed, legend, shortened
from deepad.report.figures.images import coloured, picture

TILE = 1.1
"""Width of a picture in inches."""
STRONGEST = 0.45
"""Opacity of the shade of the step that adds most."""


def image_explained(
    x: NDArray[np.floating],
    rebuilt: NDArray[np.floating] | None = None,
    parts: NDArray[np.floating] | None = None,
    nearest: Sequence[NDArray[np.floating]] = (),
) -> Figure:
    """An image, what was expected in its place, where its score comes from, and normal images that are near to it.

    Args:
        x: the image (C, H, W).
        rebuilt: what the model expected (C, H, W), in the same units.
        parts: contributions to the score (C, H, W), summed over channels; what is negative is drawn as 0.
        nearest: normal images (C, H, W), nearest first.

    Raises:
        InputError: arrays of different shapes, or that are no images.
    """
    given = [x, *(part for part in (rebuilt, parts) if part is not None), *nearest]
    if np.ndim(x) != 3 or any(np.shape(part) != np.shape(x) for part in given):
        raise InputError(f"got arrays of shapes {', '.join(str(np.shape(part)) for part in given)}: give (C, H, W)")
    seen = np.stack([x, *([] if rebuilt is None else [rebuilt]), *nearest]).astype(np.float64)
    finite = seen[np.isfinite(seen)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    tiles = list(picture(seen, low, high))
    names = ["original", *([] if rebuilt is None else ["rebuilt"])]
    if parts is not None:
        errors = np.clip(np.asarray(parts, np.float64).sum(0), 0, None)
        most = float(errors[np.isfinite(errors)].max(initial=0.0))
        tiles.insert(len(names), coloured("magma", errors / (most or 1.0)))
        names.append("contribution")
    names += [f"near {place + 1}" for place in range(len(nearest))]
    across = 3
    rows = -(-len(tiles) // across)
    height = min(TILE * seen.shape[2] / seen.shape[3], 3.0)
    figure = Figure(figsize=(across * (TILE + 0.2), rows * (height + 0.3)), layout="constrained")
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for axes, tile, name in zip(grid, tiles, names, strict=False):
        dressed(axes).set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.imshow(tile)
        axes.set_xlabel(name, fontsize=SMALL, labelpad=2)
    for axes in grid[len(tiles) :]:
        axes.set_visible(False)
    return figure


def window_explained(
    x: NDArray[np.floating],
    rebuilt: NDArray[np.floating] | None,
    names: Sequence[str],
    parts: NDArray[np.floating] | None = None,
) -> Figure:
    """Channels of a window beside what was expected, one below the other; steps that add to the score are shaded.

    Args:
        x: the window (T, C) in raw units.
        rebuilt: what the model expected (T, C); None if nothing.
        names: (C,) of the channels.
        parts: contributions to the score (T, C); the darker a step, the more of the largest of them it has.

    Raises:
        InputError: no channel, or arrays and names that do not belong together.
    """
    values: Any = np.asarray(x, np.float64)
    shapes = {np.shape(part) for part in (x, rebuilt, parts) if part is not None}
    if values.ndim != 2 or not values.size or len(shapes) > 1 or len(names) != values.shape[1]:
        raise InputError(f"got a window of shape {values.shape} and {len(names)} names: give (T, C) and C names")
    figure = Figure(figsize=(WIDTH, 0.6 + 0.75 * values.shape[1]), layout="constrained")
    panels = figure.subplots(values.shape[1], 1, sharex=True, squeeze=False)[:, 0]
    steps = np.arange(len(values)) - len(values) + 1
    most = 0.0 if parts is None else float(np.nanmax(parts, initial=0.0))
    for place, axes in enumerate(panels):
        dressed(axes).plot(steps, values[:, place], color=NORMAL, linewidth=1.6, label="as it was")
        if rebuilt is not None:
            axes.plot(steps, rebuilt[:, place], color=LINE, linestyle="--", linewidth=1.2, label="expected")
        if parts is not None and most > 0:
            ends, sides = axes.get_ylim(), (steps[0] - 0.5, steps[-1] + 0.5)
            shares = np.nan_to_num(parts[:, place]).clip(0)[None] / most
            axes.imshow(shares, cmap=HEAT, vmin=0, vmax=1 / STRONGEST, extent=(*sides, *ends), aspect="auto", zorder=0)
            axes.set(xlim=sides, ylim=ends)
        axes.set_title(shortened(names[place], 48), loc="left", fontsize=SMALL, color=LINE, pad=3)
        axes.locator_params(axis="y", nbins=3)
    panels[-1].set_xlabel("steps before")
    legend(panels[0])
    return figure
