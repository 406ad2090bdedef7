"""Every figure with small data, with data that strain its layout, and with 100 000 rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deepad.report import figures
from deepad.report.figures import image_explained, window_explained

Drawing = Callable[[], Figure]
MODELS = ("DenseAutoencoder", "VariationalAutoencoder", "LocalOutlierFactor", "PCAResidual", "GaussianMixture")
LONG = "hybrid of a variational autoencoder and a Gaussian mixture"


def stream() -> np.random.Generator:
    return np.random.default_rng(0)


def scores(n: int = 400) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores over more than a decade, the tenth part of higher ones of anomalies."""
    y = (np.arange(n) % 10 == 0).astype(np.int64)
    return stream().lognormal(1.5 * y, 1.0), y


def p_values(n: int = 400, calibration: int = 199) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    score, y = scores(n)
    known = np.sort(np.random.default_rng(1).lognormal(size=calibration))
    return (1 + calibration - np.searchsorted(known, score)) / (calibration + 1), y


def wave(n: int = 500, channels: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """A series, its scores and its labels."""
    steps = np.arange(n)
    values = np.sin(steps[:, None] / (20 + 3 * np.arange(channels))) + 0.1 * stream().normal(size=(n, channels))
    y = (steps % (n // 2) < n // 50 + 1).astype(np.int64)
    score = stream().gamma(2, size=n) + 8 * y
    score[: n // 50] = np.nan
    return values, score, y


def images(n: int, channels: int = 1, height: int = 8, width: int = 8) -> Any:
    """Originals, what was rebuilt and contributions."""
    x = stream().random((n, channels, height, width))
    return x, 0.8 * x, 0.04 * x**2


def rebuilt(n: int, captions: list[str], groups: list[str] | None = None, *shape: int) -> Figure:
    x, expected, parts = images(n, *shape)
    return figures.reconstructions(x, expected, parts, captions, groups or ())


def worst() -> Figure:
    x, expected, parts = images(4)
    return figures.worst_normals(x, expected, parts, [3.0, 1.0, 4.0, 1.5], [0, 0, 1, 0])


def explained() -> Figure:
    x, expected, parts = images(3)
    return image_explained(x[0], expected[0], parts[0], nearest=list(x[1:]))


def plane(n: int = 300) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    y = (np.arange(n) % 10 == 0).astype(np.int64)
    return stream().normal(size=(n, 2)) * (1 + 2 * y[:, None]), y


def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.hypot(*points.T))


def usual() -> dict[str, Drawing]:
    score, y = scores()
    p, _ = p_values()
    values, steps, windows = wave()
    points, outside = plane()
    ranks = np.array([1.8, 2.4, 3.1, 3.6, 4.1])
    return {
        "score_histogram": lambda: figures.score_histogram(score, y, 9.0, band=(7.0, 12.0), calibration=score[:99]),
        "score_boxes": lambda: figures.score_boxes(score, y, 9.0),
        "severity_tiers": lambda: figures.severity_tiers(np.arange(400) % 4 - 1, ["notice", "critical"], y),
        "p_value_histogram": lambda: figures.p_value_histogram(p, y),
        "p_value_qq": lambda: figures.p_value_qq(p, y, n=199),
        "calibration_curve": lambda: figures.calibration_curve(p, 199, y, alpha=0.05),
        "roc_curve": lambda: figures.roc_curve(score, y, threshold=9.0),
        "precision_recall_curve": lambda: figures.precision_recall_curve(score, y, threshold=9.0),
        "confusion_matrix": lambda: figures.confusion_matrix(y, score > 9),
        "alarm_dial": lambda: figures.alarm_dial(0.05, per_day=1440, p_value=p, y=y, costs=(5, 500), prevalence=0.001),
        "reconstructions": lambda: rebuilt(4, list("abcd"), ["caught", "missed"] * 2),
        "worst_normals": worst,
        "latent_space": lambda: figures.latent_space(points, score[:300], outside),
        "decision_boundary": lambda: figures.decision_boundary(distance, points, 2.0, outside, grid=30),
        "decision_boundaries": lambda: figures.decision_boundaries(
            dict.fromkeys(MODELS[:3], (distance, 2.0)), points, outside, grid=20
        ),
        "series_scores": lambda: figures.series_scores(values, steps, windows, 8.0, names=["flow", "heat", "pressure"]),
        "channel_contributions": lambda: figures.channel_contributions(values**2, flagged=steps > 8, y=windows),
        "training_curves": lambda: figures.training_curves([3, 2, 1, 0.5], [3, 2.5, 2, 2.1]),
        "critical_difference": lambda: figures.critical_difference(MODELS, ranks, 1.5, [[0, 1, 2], [1, 2, 3], [4]]),
        "leaderboard_bars": lambda: figures.leaderboard_bars(
            MODELS, ranks / 5, ranks / 5 - 0.1, ranks / 5 + 0.1, floors=["PCAResidual"]
        ),
        "image_explained": explained,
        "window_explained": lambda: window_explained(values[:40], 0.9 * values[:40], list("abc"), values[:40] ** 2),
    }


def strained() -> dict[str, Drawing]:
    many = [f"{MODELS[i % 5]} number {i}" for i in range(30)]
    score = scores()[0]
    nothing = np.full(20, np.inf)
    values, steps, windows = wave(3000, 52)
    labels = np.arange(20) % 2
    groups = [f"a long group name number {i % 40}" for i in range(400)]
    ranks = np.linspace(2, 28, 30)
    cliques = [list(range(first, first + 7)) for first in range(0, 23, 3)]
    return {
        "infinite": lambda: figures.score_histogram(nothing, labels, 1.0),
        "constant": lambda: figures.score_histogram(np.full(20, 3.5), labels, 3.5, band=(3.4, 3.6)),
        "one score": lambda: figures.score_histogram([0.3], [0], np.inf),
        "sixteen decades": lambda: figures.score_histogram(score**8, None, 1e5, band=(1e4, 1e6)),
        "forty groups": lambda: figures.score_boxes(score, groups, 7.0),
        "one box": lambda: figures.score_boxes([1.0], [f"{LONG} and {LONG}"], np.inf),
        "one tier": lambda: figures.severity_tiers([1], ["what should be looked at carefully"]),
        "one p-value": lambda: figures.p_value_histogram([0.5]),
        "one expected": lambda: figures.p_value_qq([0.5], n=3),
        "one judged": lambda: figures.calibration_curve([0.5], 3, alpha=0.3),
        "no alarm": lambda: figures.calibration_curve(np.ones(50), 200, alpha=0.01),
        "two samples": lambda: figures.roc_curve([1, 2], [0, 1], threshold=np.inf),
        "two precise": lambda: figures.precision_recall_curve([1, 2], [0, 1], threshold=np.inf),
        "one confused": lambda: figures.confusion_matrix([0], [1]),
        "many alarms": lambda: figures.alarm_dial(1e-6, per_day=1e9),
        "long captions": lambda: rebuilt(4, [f"{LONG}\np = 1"] * 4, [LONG] * 4, 3, 30, 4),
        "flat images": lambda: rebuilt(5, [LONG] * 5, None, 2, 4, 64),
        "one place": lambda: figures.latent_space(np.ones((5, 2)), np.ones(5)),
        "infinite places": lambda: figures.latent_space(np.arange(20.0)[:, None], nothing, labels),
        "large and tiny numbers": lambda: figures.latent_space(1e5 * plane(50)[0], 1e-5 * score[:50]),
        "one point": lambda: figures.decision_boundary(distance, [[1.0, 2.0]], np.inf, names=(LONG, LONG), grid=20),
        "flat plane": lambda: figures.decision_boundary(lambda x: np.ones(len(x)), [[1.0, 2.0]], 1.0, grid=20),
        "long titles": lambda: figures.decision_boundaries(
            {LONG: (distance, 1.0), "b": (distance, 2.0)}, plane()[0], grid=20
        ),
        "52 channels": lambda: figures.series_scores(values, steps, windows, 8.0, names=many + many[:22]),
        "20 channels": lambda: figures.series_scores(values[:, :20], steps, windows, 8.0, names=many[:20], first=10**6),
        "one step": lambda: figures.series_scores([[1.0]], [3.0], [1], 2.0),
        "all infinite": lambda: figures.series_scores(np.ones(20), nothing, None, np.inf),
        "52 contributions": lambda: figures.channel_contributions(values**2, names=many + many[:22], y=windows),
        "one contribution": lambda: figures.channel_contributions([[0.0]], flagged=[1], y=[1]),
        "one epoch": lambda: figures.training_curves([1.0], [1.2]),
        "30 ranks": lambda: figures.critical_difference(many, ranks, 5.0, cliques),
        "one rank": lambda: figures.critical_difference([LONG], [1.0], 0.0, []),
        "long names": lambda: figures.critical_difference([LONG, f"{LONG} 2", "c"], [1.2, 2, 2.8], 9.5, [[0, 1]]),
        "30 models": lambda: figures.leaderboard_bars(many, ranks / 28),
        "all failed": lambda: figures.leaderboard_bars(["a", LONG], [np.nan, np.nan]),
        "below nothing": lambda: figures.leaderboard_bars(["a", "b"], [-0.2, 0.3], [-0.3, 0.1], [-0.1, 0.5]),
        "dollars": lambda: figures.score_boxes([1.0, 2.0], ["$a_1$ {", r"\frac$ $"]),
    }


def large(n: int = 100_000) -> dict[str, Drawing]:
    score, y = scores(n)
    p, _ = p_values(n, 2000)
    values, steps, windows = wave(n, 8)
    points, outside = plane(n)
    return {
        "score_histogram": lambda: figures.score_histogram(score, y, 9.0, calibration=score),
        "score_boxes": lambda: figures.score_boxes(score, np.arange(n) % 40, 9.0),
        "severity_tiers": lambda: figures.severity_tiers(np.arange(n) % 4 - 1, ["notice", "critical"], y),
        "p_value_histogram": lambda: figures.p_value_histogram(p, y),
        "p_value_qq": lambda: figures.p_value_qq(p, y, n=2000),
        "p_value_qq uniform": lambda: figures.p_value_qq(stream().random(n)),
        "calibration_curve": lambda: figures.calibration_curve(p, 2000, y, alpha=0.05),
        "roc_curve": lambda: figures.roc_curve(score, y, threshold=9.0),
        "precision_recall_curve": lambda: figures.precision_recall_curve(score, y, threshold=9.0),
        "confusion_matrix": lambda: figures.confusion_matrix(y, score > 9),
        "alarm_dial": lambda: figures.alarm_dial(0.05, per_day=1440, p_value=p, y=y, costs=(5, 500), prevalence=0.001),
        "latent_space": lambda: figures.latent_space(np.tile(points, 16), score, outside),
        "decision_boundary": lambda: figures.decision_boundary(distance, points, 2.0, outside),
        "series_scores": lambda: figures.series_scores(values, steps, windows, 8.0),
        "channel_contributions": lambda: figures.channel_contributions(values**2, flagged=steps > 8, y=windows),
    }


def line(figure: Figure, label: str, panel: int = 0) -> tuple[Any, Any]:
    """Where the line whose label begins so was drawn."""
    (found,) = [line for line in figure.axes[panel].lines if str(line.get_label()).startswith(label)]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def told(figure: Figure) -> list[str]:
    """Names in the legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def marked(figure: Figure, x: str, panel: int = 0) -> str:
    """Text of an axis, `x` or `y`."""
    return str(getattr(figure.axes[panel], f"get_{x}label")())


def ticks(figure: Figure, side: str, panel: int = 0) -> list[str]:
    return [text.get_text() for text in getattr(figure.axes[panel], f"get_{side}ticklabels")()]


def outline(figure: Figure, label: str, panel: int = 0) -> Any:
    """Corners (V, 2) of the area whose label begins so."""
    (found,) = [area for area in figure.axes[panel].collections if str(area.get_label()).startswith(label)]
    return np.asarray(found.get_paths()[0].vertices)
