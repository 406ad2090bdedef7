"""Figures of images beside what a model rebuilt of them and where their scores come from."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError
from deepad.report.figures.base import LINE, SMALL, TEXT, WIDTH, Values, dressed, fitted, samples

ACROSS = 3
"""Examples in a row, of three pictures each."""
GAP = 0.12
CELL = (WIDTH - (ACROSS - 1) * GAP) / ACROSS
"""Width of the three pictures of an example in inches."""
TALLEST = 3.0
"""Most inches of a picture's height."""
HEAD = 0.25
"""Inches of a line above pictures."""


def reconstructions(
    x: NDArray[np.floating],
    rebuilt: NDArray[np.floating],
    parts: NDArray[np.floating],
    captions: Sequence[str],
    groups: Sequence[str] = (),
) -> Figure:
    """Images beside what the model rebuilt and where the score comes from, three pictures an example.

    Originals and reconstructions share one scale of brightness, the error maps another, dark = 0: a normal image has a
    dark map. Of three channels the colours are shown, of any other number their mean. What is not finite is left blank.

    Args:
        x: originals (N, C, H, W).
        rebuilt: reconstructions (N, C, H, W), in the same units.
        parts: contributions to the score (N, C, H, W), summed over channels; what is negative is drawn as 0.
        captions: (N,) one short line each.
        groups: (N,) such as caught, missed, false alarm, normal; equal ones stand together, each group below its name.

    Raises:
        InputError: no image, or arrays, captions or groups that do not belong together.
    """
    images = [np.asarray(given, np.float64) for given in (x, rebuilt, parts)]
    if images[0].ndim != 4 or not images[0].size or len({given.shape for given in images}) > 1:
        raise InputError(
            f"got arrays of shapes {', '.join(str(given.shape) for given in images)}: give the originals, what was "
            "rebuilt and the contributions as (N, C, H, W), of at least one image"
        )
    n = len(images[0])
    if len(captions) != n or len(groups) not in (0, n):
        raise InputError(f"got {len(captions)} captions and {len(groups)} groups for {n} images: give one an image")
    mosaics = _mosaics(*images)
    told = [fitted(caption, 22) for caption in captions]
    rows = _rows(groups if len(groups) else [""] * n)
    tall = min(CELL * mosaics.shape[1] / mosaics.shape[2], TALLEST)
    bottoms, bottom = [], HEAD
    for name, members in rows:
        bottoms.append(bottom + HEAD * bool(name) + tall)
        bottom = bottoms[-1] + 0.12 + 0.16 * max(1 + told[member].count("\n") for member in members)
    figure = Figure(figsize=(WIDTH, bottom))
    _write(figure, HEAD, "original, rebuilt, contribution to the score", SMALL)
    for (name, members), at in zip(rows, bottoms, strict=True):
        if name:
            _write(figure, at - tall, fitted(name, 60), TEXT)
        for place, member in enumerate(members):
            corner = (place * (CELL + GAP) / WIDTH, 1 - at / bottom)
            axes = dressed(figure.add_axes((*corner, CELL / WIDTH, tall / bottom)))
            axes.spines[:].set_visible(False)
            axes.imshow(mosaics[member], interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(told[member], fontsize=SMALL, labelpad=2)
    return figure


def worst_normals(
    x: NDArray[np.floating],
    rebuilt: NDArray[np.floating],
    parts: NDArray[np.floating],
    score: ArrayLike,
    y: ArrayLike | None = None,
    *,
    most: int = 9,
    names: Sequence[object] = (),
) -> Figure:
    """The normal images with the highest scores: what the model does not know though it should, highest first.

    Args:
        x: originals (N, C, H, W).
        rebuilt: reconstructions (N, C, H, W).
        parts: contributions to the score (N, C, H, W).
        score: (N,), infinite ones are the highest, NaN is left out.
        y: (N,) labels, 1 = anomaly: left out; None if all are normal.
        most: number of images.
        names: (N,) what each image is called; its number if not given.

    Raises:
        InputError: what `samples` and `reconstructions` refuse, no normal image with a score, or too few names.
    """
    samples(score, y)  # refuses what is no score or no label
    scores = np.asarray(score, np.float64)
    if len(scores) != len(x) or len(names) not in (0, len(x)):
        raise InputError(f"got {len(scores)} scores and {len(names)} names of {len(x)} images: give one an image")
    normal = np.flatnonzero(~np.isnan(scores) & (True if y is None else np.asarray(y) == 0))
    chosen = normal[np.argsort(-scores[normal], kind="stable")][:most]
    if not len(chosen):
        raise InputError(f"none of {len(scores)} images is normal and has a score: give at least one")
    captions = [f"{names[row] if len(names) else row}: {scores[row]:.4g}" for row in chosen]
    return reconstructions(x[chosen], rebuilt[chosen], parts[chosen], captions)


def _write(figure: Figure, at: float, text: str, size: float) -> None:
    """A line at the left whose foot is so many inches below the top."""
    figure.text(0.01, 1 - (at - 0.05) / figure.get_figheight(), text, va="bottom", fontsize=size, color=LINE)


def _rows(groups: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Name and members of each row of the figure; the name stands above the first row of its group alone."""
    rows = []
    for name in dict.fromkeys(groups):
        members = [place for place, group in enumerate(groups) if group == name]
        for start in range(0, len(members), ACROSS):
            rows.append(("" if start else name, members[start : start + ACROSS]))
    return rows


def _mosaics(x: Values, rebuilt: Values, parts: Values) -> Values:
    """Pictures (N, H, W', 4) of the three beside each other, with clear gaps."""
    finite = np.concatenate([given[np.isfinite(given)] for given in (x, rebuilt)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    errors = parts.sum(1)
    largest = float(errors[np.isfinite(errors)].max(initial=0.0))
    tiles = [picture(x, low, high), picture(rebuilt, low, high),
             coloured("magma", np.clip(errors, 0, None) / (largest or 1.0))]  # fmt: skip
    n, _, height, width = x.shape
    gap = np.zeros((n, height, max(1, width // 14), 4))
    return np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=2)


def picture(images: Values, low: float, high: float) -> Values:
    """Colours (N, H, W, 4): grey as on paper, dark for high values, or of three channels; half if all are equal."""
    scaled = (images - low) / (high - low) if high > low else np.where(np.isfinite(images), 0.5, np.nan)
    if images.shape[1] != 3:
        return coloured("gray_r", scaled.mean(1))
    colours = scaled.transpose(0, 2, 3, 1)
    seen = np.isfinite(colours).all(-1, keepdims=True)
    return np.concatenate([np.clip(np.where(seen, colours, 0), 0, 1), seen], axis=-1)


def coloured(name: str, values: Values) -> Values:
    """Colours (..., 4) of values in [0, 1]; what is not finite is clear."""
    colours: Any = matplotlib.colormaps[name](np.where(np.isfinite(values), values, 0))
    colours[..., 3] = np.isfinite(values)
    return np.asarray(colours)
