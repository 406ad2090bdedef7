"""The parts of a page: figures of a verdict and of its exhibits, each with what it shows and what to make of it.

Source of the shade of a threshold: David & Nagaraja, *Order Statistics*, 2003, section 7.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.report import figures
from deepad.report.figures.latent import FEWEST
from deepad.report.figures.scores import MOST_GROUPS
from deepad.report.html import Picture, Section
from deepad.scoring.guarantee import LAWFUL, GuaranteeKind
from deepad.scoring.verdict import Verdict

Array = NDArray[Any]
Labels = NDArray[np.int64]

DIAL = 1000
"""Normal samples that the dial counts false alarms of, where nothing says how many there are in a day."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a page is about.

    Attributes:
        verdict: on N samples or steps.
        y: labels (N,), 1 = anomaly; None without labels.
        calibration: the scores (n,) that the threshold was made of; None where groups have their own.
        stepwise: whether they are steps of a series, which depend on each other.
        per_day: normal samples in a day, if that is known.
    """

    verdict: Verdict
    y: Labels | None
    calibration: Array | None
    stepwise: bool
    per_day: float | None = None

    @property
    def line(self) -> float:
        """Where the threshold is drawn: the highest, if each group has its own; infinite if no group is known."""
        known = np.asarray(self.verdict.threshold)[~np.isnan(self.verdict.threshold)]
        return float(known.max(initial=-np.inf)) if known.size else float("inf")

    @property
    def labelled(self) -> bool:
        """Whether there are normal samples and anomalies that have a score."""
        seen = set() if self.y is None else set(self.y[~np.isnan(self.verdict.score)].tolist())
        return seen == {0, 1}

    @property
    def lawful(self) -> bool:
        """Whether p-values of normal samples follow the exact law."""
        return self.verdict.guarantee.kind in LAWFUL and self.verdict.group is None and not self.stepwise

    @property
    def level(self) -> float | None:
        """The p-value up to which is flagged; None where no one level decides."""
        verdict, judged = self.verdict, ~np.isnan(self.verdict.p_value)
        k, n = verdict.guarantee.k, verdict.guarantee.n
        level = k / (n + 1) if k else verdict.alpha
        same = verdict.flagged[judged] == (verdict.p_value[judged] <= level * (1 + 1e-12))
        return level if verdict.group is None and 0 < level < 1 and same.all() else None

    @property
    def noun(self) -> str:
        """What is judged, in words."""
        return "steps" if self.stepwise else "samples"


def of_scores(judged: Judged) -> Section:
    """How scores are distributed, by class or group, and which tiers they reach."""
    verdict, y, noun = judged.verdict, judged.y, judged.noun
    band = None if judged.calibration is None or not judged.lawful else _band(judged.calibration, verdict.alpha)
    text = f"Scores of the {noun}"
    told = f"{text}. What lies right of the dashed line is flagged"
    if verdict.group is not None:
        told = f"{text}. Each group has its own threshold; the dashed line is the highest"
    told += "; the empty outline is the calibration" if judged.calibration is not None else ""
    told += ", and the threshold of endless calibration data lies within the shade with 99 % confidence" if band else ""
    histogram = figures.score_histogram(verdict.score, y, judged.line, band=band, calibration=judged.calibration)
    drawn = [Picture(histogram, f"Histogram of the scores of the {noun} with the threshold", f"{told}.")]
    group = verdict.group if verdict.group is not None else y
    if group is not None and len(np.unique(group)) <= MOST_GROUPS and np.isfinite(verdict.score).any():
        whose = "class" if verdict.group is None else "group"
        boxes = figures.score_boxes(verdict.score, group, judged.line if verdict.group is None else None)
        told = f"Scores by {whose}: quartiles, whiskers from 1 % to 99 %, a dot at the highest."
        drawn.append(Picture(boxes, f"Boxes of the scores by {whose}", told))
    if verdict.tier is not None:
        tiers = figures.severity_tiers(verdict.tier, verdict.tiers, y)
        drawn.append(Picture(tiers, "Bars of how many reached each tier", f"How severe: {noun} by the tier reached."))
    return Section("Scores", drawn)


def _band(calibration: Array, alpha: float, level: float = 0.99) -> tuple[float, float] | None:
    """Range of the (1 - alpha)-quantile of all normal scores, given sorted ones (n,); None if it has no upper end."""
    from scipy.stats import binom  # half a second to import: only who asks pays

    low, high = (int(rank) for rank in binom.ppf([(1 - level) / 2, (1 + level) / 2], len(calibration), 1 - alpha))
    if low < 1 or high >= len(calibration):
        return None
    return float(calibration[low - 1]), float(calibration[high])


def of_promise(judged: Judged) -> Section:
    """Whether false alarms are as many as promised, and what another level would bring."""
    verdict, y = judged.verdict, judged.y
    if verdict.guarantee.kind == GuaranteeKind.BLOCK or np.isnan(verdict.p_value).all():
        return Section("False alarms", [])
    normal = y is None or bool((y[~np.isnan(verdict.p_value)] == 0).any())
    drawn, level = [], judged.level
    if judged.lawful and normal and y is not None:
        n = verdict.guarantee.n
        drawn += [
            Picture(
                figures.calibration_curve(verdict.p_value, n, y, alpha=level),
                "Curve of the false-alarm rate found against the rate asked for, with the band of the exact law",
                "False alarms found at every level that could have been asked for. At each level the curve leaves the "
                "shade once in 100 test sets.",
            ),
            Picture(
                figures.p_value_qq(verdict.p_value, y, n=n),
                "Sorted p-values of normal samples against those of uniform ones, with exact bands",
                "p-values of normal samples against what is expected: below the bands alarms come more often than "
                "promised, above them less.",
            ),
        ]
    told = "p-values: those of normal samples are even, those of anomalies small."
    if verdict.group is not None:
        told = f"p-values, of each of the {judged.noun} among the calibration scores of its own group."
    elif not judged.lawful:
        told = f"p-values. Nothing is promised of these {judged.noun}: normal ones need not be even."
    elif y is None:
        told = "p-values: even if all is normal; a peak at the left is what is anomalous, or has drifted."
    histogram = figures.p_value_histogram(verdict.p_value, y)
    drawn.append(Picture(histogram, "Histogram of p-values with the line of uniform ones", told))
    if level is not None:
        drawn.append(_dial(judged, level))
    return Section("False alarms", drawn)


def _dial(judged: Judged, level: float) -> Picture:
    known = judged.per_day is not None
    dial = figures.alarm_dial(
        level,
        per_day=judged.per_day or DIAL,
        unit="a day" if known else f"in {DIAL}",
        p_value=judged.verdict.p_value if judged.labelled else None,
        y=judged.y if judged.labelled else None,
    )
    told = f"What another level would bring: false alarms {'a day' if known else f'among {DIAL} normal {judged.noun}'}"
    told += (
        ", and the share of these anomalies missed. A level chosen by looking at labels is too good on the same labels."
        if judged.labelled
        else "."
    )
    return Picture(dial, "Curves of false alarms and of what is missed against the false-alarm rate asked for", told)


def of_ranking(judged: Judged) -> Section:
    """How well scores rank anomalies above normal samples, and what the threshold makes of it."""
    if judged.y is None or not judged.labelled:
        return Section("Ranking", [])
    verdict, y, scored = judged.verdict, judged.y, ~np.isnan(judged.verdict.score)
    threshold = judged.line if verdict.group is None else None
    note = " Steps depend on each other: the shade is too narrow." if judged.stepwise else ""
    return Section(
        "Ranking",
        [
            Picture(
                figures.roc_curve(verdict.score, y, threshold=threshold),
                "ROC curve with its bootstrap band and the calibrated threshold",
                f"Anomalies flagged against normal {judged.noun} flagged, over all thresholds.{note}",
            ),
            Picture(
                figures.precision_recall_curve(verdict.score, y, threshold=threshold),
                "Precision-recall curve with its bootstrap band and the calibrated threshold",
                f"Of what is flagged, how much is anomalous: it depends on how many anomalies there are.{note}",
            ),
            Picture(
                figures.confusion_matrix(y[scored], verdict.flagged[scored]),
                "Table of flagged and not flagged normal samples and anomalies",
                f"What the calibrated threshold does with these {judged.noun}.",
            ),
        ],
    )


def of_training(train: Sequence[float], val: Sequence[float]) -> Section:
    """Losses by epoch."""
    if not val:
        return Section("Training", [])
    text = "Loss by epoch on training and validation rows"
    told = f"{text}; both are normal. The best epoch is kept."
    return Section("Training", [Picture(figures.training_curves(train, val), text, told)])


def of_images(judged: Judged, exhibits: dict[str, Array]) -> Section:
    """What the model rebuilt of images that were judged, see `deepad.exhibits`."""
    if "images" not in exhibits:
        return Section("Images", [])
    verdict, rows = judged.verdict, exhibits["image_rows"]
    x, rebuilt, parts = exhibits["images"], exhibits["rebuilt"], exhibits["image_parts"]
    groups = outcomes(verdict, judged.y)[rows]
    chosen = [i for name in OUTCOMES for i in np.flatnonzero(groups == name)[:3]]
    captions = [f"{rows[i]}: p = {verdict.p_value[rows[i]]:.2g}" for i in chosen]
    drawn = []
    if chosen:
        grid = figures.reconstructions(x[chosen], rebuilt[chosen], parts[chosen], captions, groups[chosen].tolist())
        told = "Surest catches, worst misses, worst false alarms and most typical normal samples. A map is dark where "
        told += "the score does not come from."
        drawn.append(Picture(grid, "Images beside their reconstructions and maps of the reconstruction error", told))
    normal = np.flatnonzero((groups == "normal") | (groups == "false alarm"))
    if judged.y is not None and len(normal):
        worst = figures.worst_normals(
            x[normal], rebuilt[normal], parts[normal], verdict.score[rows[normal]], names=rows[normal].tolist()
        )
        told = "The normal images that the model knows least, highest score first."
        drawn.append(Picture(worst, "Normal images with the highest scores and their reconstructions", told))
    return Section("Images", drawn)


OUTCOMES = ("caught", "missed", "false alarm", "normal", "flagged", "not flagged")
"""What can come of a sample, with and without labels."""


def outcomes(verdict: Verdict, y: Labels | None) -> NDArray[np.str_]:
    """What came of each sample (N,), one of `OUTCOMES`."""
    if y is None:
        return np.where(verdict.flagged, "flagged", "not flagged")
    anomaly = np.where(verdict.flagged, "caught", "missed")
    return np.where(y == 1, anomaly, np.where(verdict.flagged, "false alarm", "normal"))


def of_series(judged: Judged, exhibits: dict[str, Array], names: Sequence[str], source: str) -> Section:
    """A stretch of a series with its scores, and which channel they come from, see `deepad.exhibits`."""
    if "series" not in exhibits:
        return Section("Series", [])
    verdict, rows = judged.verdict, exhibits["series_rows"]
    first, y = int(exhibits["series_first"][0]), None if judged.y is None else judged.y[rows]
    text = f"Channels and scores of {source} by step"
    told = f"{text}. Flagged steps are marked at the top" + (
        ", labelled anomalies are shaded." if y is not None else "."
    )
    flagged, score = verdict.flagged[rows], verdict.score[rows]
    line = figures.series_scores(exhibits["series"], score, y, judged.line, names=names, first=first, flagged=flagged)
    drawn = [Picture(line, text, told)]
    if "series_parts" in exhibits:
        heat = figures.channel_contributions(exhibits["series_parts"], names=names, flagged=flagged, y=y, first=first)
        told = "What each channel adds to the score: which sensor an alarm comes from."
        drawn.append(Picture(heat, f"Map of what each channel adds to the score of {source} by step", told))
    return Section("Series", drawn)


def of_features(
    judged: Judged, exhibits: dict[str, Array], score: Callable[[Array], Array] | None, names: Sequence[str]
) -> Section:
    """What the model has learned, in two dimensions, see `deepad.exhibits`."""
    drawn = []
    if "points" in exhibits and score is not None:
        rows = exhibits["point_rows"]
        y = None if judged.y is None else judged.y[rows]
        plane = figures.decision_boundary(score, exhibits["points"], judged.line, y, names=(names[0], names[1]))
        told = "Where the model draws the line: red is flagged, stronger the further from the threshold."
        drawn.append(Picture(plane, "Plane of the two features with the flagged area and the samples", told))
    usable = np.isfinite(exhibits.get("features", np.empty((0, 1)))).all(1)
    if usable.sum() >= FEWEST:
        rows = exhibits["feature_rows"]
        y = None if judged.y is None else judged.y[rows]
        space = figures.latent_space(exhibits["features"], judged.verdict.score[rows], y)
        told = (
            "What the model has learned of each sample, in the two directions of largest variance, coloured by score."
        )
        drawn.append(Picture(space, "Learned features of the samples in two dimensions, coloured by score", told))
    return Section("Features", drawn)
