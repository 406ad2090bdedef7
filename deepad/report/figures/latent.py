"""Figure of what a model has learned: its features of each sample in two dimensions.

Neighbours in t-SNE and UMAP are neighbours among the features; distances, sizes and empty space mean nothing there. In
the principal components distances are true as far as two directions hold the variance, which the axes tell.

Source: Jolliffe, *Principal Component Analysis*, 2002; van der Maaten & Hinton, *Visualizing data using t-SNE*, 2008;
McInnes, Healy, Melville, *UMAP: uniform manifold approximation and projection*, 2018.
"""

from importlib import import_module
from typing import Literal, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh

from deepad.errors import IncompatibleInstallError, InputError
from deepad.report.figures.base import OTHER, SCALE, Flags, Values, canvas, colour_bar, legend, samples

Method = Literal["pca", "tsne", "umap"]
FEWEST = 3


def latent_space(
    features: ArrayLike,
    score: ArrayLike,
    y: ArrayLike | None = None,
    *,
    method: Method = "pca",
    most: int = 2000,
    seed: int = 0,
) -> Figure:
    """Features in two dimensions, coloured by score from low to high, anomalies outlined.

    Only what is drawn is embedded: t-SNE and UMAP of 2000 points take seconds, PCA takes none.

    Args:
        features: (N, F); rows that are not finite are left out and counted.
        score: (N,), infinite ones have the colour of the highest; NaN is left out and counted.
        y: (N,) labels, 1 = anomaly; None without labels.
        method: `"pca"`, `"tsne"`, or `"umap"` where umap-learn is installed.
        most: points drawn; if there are more they are chosen by chance, anomalies for at most half of them.
        seed: of the choice and of the embedding.

    Raises:
        InputError: what `samples` refuses, features of another shape, or fewer than 3 rows that can be drawn.
        IncompatibleInstallError: `"umap"` without umap-learn.
        ValueError: an unknown method, or `most` below 3.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if most < FEWEST:
        raise ValueError(f"most must be at least {FEWEST} points, got {most}")
    x, scores = np.asarray(features, np.float64), np.asarray(score, np.float64)
    samples(scores, y)  # refuses what is no score or no label
    if x.ndim != 2 or len(x) != len(scores) or not x.shape[1]:
        raise InputError(f"got features of shape {x.shape} for {len(scores)} scores: give (N, F), a row a score")
    anomaly = np.zeros(len(x), bool) if y is None else np.asarray(y) == 1
    usable = np.isfinite(x).all(1) & ~np.isnan(scores)
    if usable.sum() < FEWEST:
        raise InputError(f"{usable.sum()} of {len(x)} rows have finite features and a score: give at least {FEWEST}")
    chosen = _chosen(usable, anomaly, most, np.random.default_rng(seed))
    points, names = _embedded(x[chosen], method, seed)
    left = len(x) - usable.sum()
    note = f" ({left} not finite, left out)" if left else ""
    return _drawn(points, scores[chosen], anomaly[chosen], (names[0] + note, names[1]))


def _chosen(usable: Flags, anomaly: Flags, most: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Rows that are drawn, in order."""
    normals, anomalies = np.flatnonzero(usable & ~anomaly), np.flatnonzero(usable & anomaly)
    if len(normals) + len(anomalies) > most:
        kept = min(len(anomalies), max(most // 2, most - len(normals)))
        anomalies = stream.choice(anomalies, kept, replace=False)
        normals = stream.choice(normals, most - kept, replace=False)
    return np.sort(np.concatenate([normals, anomalies]))


def _embedded(x: Values, method: Method, seed: int) -> tuple[Values, tuple[str, str]]:
    """Points (n, 2) and the names of the axes."""
    main, shares = _principal(x)
    if method == "pca":
        first, second = (f"component {i + 1} ({100 * share:.0f} % of variance)" for i, share in enumerate(shares))
        return main, (first, second)
    start = main / (main.std(0).max() or 1)
    if method == "tsne":
        from sklearn.manifold import TSNE  # a second to import: only who asks pays

        perplexity = min(30.0, (len(x) - 1) / 3)
        found = TSNE(perplexity=perplexity, init=1e-4 * start, learning_rate="auto", random_state=seed).fit_transform(x)
        return np.asarray(found), ("t-SNE 1", "t-SNE 2")
    try:
        umap = import_module("umap")
    except ImportError:
        raise IncompatibleInstallError(
            "method='umap' needs umap-learn, which is not installed: pip install umap-learn, or use 'pca' or 'tsne'"
        ) from None
    return np.asarray(umap.UMAP(init=10 * start, random_state=seed, n_jobs=1).fit_transform(x)), ("UMAP 1", "UMAP 2")


def _principal(x: Values) -> tuple[Values, Values]:
    """Scores (n, 2) of the first two principal components and the shares of variance they hold."""
    centred = x - x.mean(0)
    wide = x.shape[1] > len(x)
    square = centred @ centred.T if wide else centred.T @ centred
    values, vectors = eigh(square, subset_by_index=[max(len(square) - 2, 0), len(square) - 1])
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    found = vectors * np.sqrt(values) if wide else centred @ vectors
    found *= np.where(found[np.abs(found).argmax(0), np.arange(len(values))] < 0, -1, 1)  # of two ways round always one
    missing = 2 - len(values)
    return np.pad(found, ((0, 0), (0, missing))), np.pad(values, (0, missing)) / (np.trace(square) or 1.0)


def _drawn(points: Values, score: Values, anomaly: Flags, names: tuple[str, str]) -> Figure:
    figure, axes = canvas(height=3.5)
    finite = score[np.isfinite(score)]
    low, high = np.quantile(finite, [0.01, 0.99]) if len(finite) else (0.0, 1.0)
    order = np.argsort(score, kind="stable")  # the highest on top
    x, y = points.T
    drawn = axes.scatter(x[order], y[order], 9, score[order].clip(low, high), cmap=SCALE, vmin=low, vmax=high,
                         linewidth=0, rasterized=True)  # fmt: skip
    if anomaly.any():
        axes.scatter(x[anomaly], y[anomaly], 26, facecolor="none", edgecolor=OTHER, linewidth=0.7, rasterized=True,
                     label=f"anomaly ({anomaly.sum()} of {len(points)} shown)")  # fmt: skip
    if len(finite):
        colour_bar(axes, drawn, "anomaly score")
    axes.set(xlabel=names[0], ylabel=names[1])
    half = 0.54 * np.ptp(points, axis=0)
    half = np.maximum(half, 0.6 * half.max()) if half.any() else np.ones(2)
    middle = (points.min(0) + points.max(0)) / 2
    axes.locator_params(nbins=5)
    axes.set(xlim=middle[0] + [-half[0], half[0]], ylim=middle[1] + [-half[1], half[1]], aspect="equal")
    legend(axes)
    return figure
