"""How well scores rank anomalies above normal samples, whatever the threshold.

| function            | range   | by chance      | says                                                              |
|---------------------|---------|----------------|-------------------------------------------------------------------|
| `auroc`             | [0, 1]  | 1/2            | P(an anomaly scores higher than a normal sample), ties half       |
| `partial_auroc`     | [0, 1]  | 1/2            | the same where few normal samples are flagged                     |
| `average_precision` | (0, 1]  | the prevalence | precision, averaged over the anomalies from the highest score on  |
| `precision_at_n`    | [0, 1]  | the prevalence | share of anomalies among the n highest scores, n = all anomalies  |
| `fpr_at_tpr`        | [0, 1]  | 0.95           | false-positive rate where 95 % of the anomalies are flagged       |
| `oracle_f1`         | (0, 1]  | see below      | F1 at the threshold that is best for these labels                 |

All depend on the order of the scores alone: an increasing transform changes none, ties are taken together, infinite
scores keep their rank. Low is good for `fpr_at_tpr` only.

`average_precision`, `precision_at_n` and `oracle_f1` depend on the prevalence, the share of anomalies in the test set:
the same detector has an average precision of 0.5 on one test set and 0.05 on another whose anomalies are rarer. They
compare models on one data set, never one model across data sets. Their value by chance stands beside them as
`prevalence`; that of F1 is at least 2 prevalence/(1 + prevalence), which flagging everything gives.

Source: Fawcett, *An introduction to ROC analysis*, 2006; McClish, *Analyzing a portion of the ROC curve*, 1989 (partial
area, standardised); Davis & Goadrich, *The relationship between precision-recall and ROC curves*, 2006; Campos et al.,
*On the evaluation of unsupervised outlier detection*, 2016 (precision at n).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from deepad.errors import InputError
from deepad.evaluation.spans import Flags, steps_of

Ranks = NDArray[np.int64]


class OracleF1(NamedTuple):
    """The best F1 in (0, 1] and the threshold that takes it: what scores at or above it is flagged."""

    value: float
    threshold: float


def ranking(y: ArrayLike, score: ArrayLike) -> dict[str, float | None]:
    """Every metric of this module by name, for N samples.

    Args:
        y: labels (N,), 1 = anomaly, 0 = normal.
        score: (N,), higher is more anomalous.

    Returns:
        `prevalence` (None without samples), and `auroc`, `average_precision`, `partial_auroc_10` (up to a
        false-positive rate of 0.1), `fpr_at_95_tpr`, `precision_at_n` and `oracle_f1` (its threshold saw the labels),
        each None where only one class is present.

    Raises:
        InputError: what `labelled` refuses.
    """
    anomaly, rank = labelled(y, score, fewest=0)
    both = anomaly.any() and not anomaly.all()
    return {
        "prevalence": float(anomaly.mean()) if len(anomaly) else None,
        "auroc": _auroc(anomaly, rank) if both else None,
        "average_precision": _average_precision(anomaly, rank) if both else None,
        "partial_auroc_10": _auroc(anomaly, rank, max_fpr=0.1) if both else None,
        "fpr_at_95_tpr": _fpr_at_tpr(anomaly, rank, 0.95) if both else None,
        "precision_at_n": _precision_at_n(anomaly, rank) if both else None,
        "oracle_f1": _oracle_f1(anomaly, rank)[0] if both else None,
    }


def auroc(y: ArrayLike, score: ArrayLike) -> float:
    """P(an anomaly scores higher than a normal sample) + P(they tie)/2, in [0, 1]; 1/2 by chance.

    Raises:
        InputError: what `labelled` refuses, or one class only.
    """
    return _auroc(*labelled(y, score))


def partial_auroc(y: ArrayLike, score: ArrayLike, max_fpr: float = 0.1) -> float:
    """Area under the ROC curve up to a false-positive rate, scaled so that 1/2 is chance and 1 perfect.

    The worst ranking has (1 - f)/(2 - f) with f = `max_fpr`, close to chance: this metric tells good from better.

    Args:
        y: labels (N,).
        score: (N,).
        max_fpr: in (0, 1]; 1 gives `auroc`. Between points of the curve it is interpolated.

    Raises:
        InputError: what `labelled` refuses, or one class only.
        ValueError: `max_fpr` outside (0, 1].
    """
    return _auroc(*labelled(y, score), max_fpr=_share("max_fpr", max_fpr))


def average_precision(y: ArrayLike, score: ArrayLike) -> float:
    """Sum over thresholds of precision times the recall gained, in (0, 1]; about the prevalence by chance.

    Raises:
        InputError: what `labelled` refuses, or one class only.
    """
    return _average_precision(*labelled(y, score))


def fpr_at_tpr(y: ArrayLike, score: ArrayLike, tpr: float = 0.95) -> float:
    """The smallest false-positive rate at which this share of anomalies, or more, is at or above the threshold.

    The threshold is set by the test labels: it says what the ranking allows, not what a calibrated detector attains.

    Args:
        y: labels (N,).
        score: (N,).
        tpr: true-positive rate, in (0, 1].

    Raises:
        InputError: what `labelled` refuses, or one class only.
        ValueError: `tpr` outside (0, 1].
    """
    return _fpr_at_tpr(*labelled(y, score), _share("tpr", tpr))


def precision_at_n(y: ArrayLike, score: ArrayLike) -> float:
    """Share of anomalies among the n highest scores, where n is the number of anomalies, in [0, 1].

    Samples that tie at the border count in part, all alike: the value is the mean over every order of the ties.

    Raises:
        InputError: what `labelled` refuses, or one class only.
    """
    return _precision_at_n(*labelled(y, score))


def oracle_f1(y: ArrayLike, score: ArrayLike) -> OracleF1:
    """The best F1 of all thresholds, and the highest threshold that gives it.

    That threshold was chosen by the test labels. No detector knows it, so the value is a bound on what any threshold
    could reach, never comparable to an F1 at a calibrated threshold.

    Raises:
        InputError: what `labelled` refuses, or one class only.
    """
    anomaly, rank = labelled(y, score)
    value, lowest = _oracle_f1(anomaly, rank)
    return OracleF1(value, float(np.asarray(score)[rank == lowest][0]))


def labelled(y: ArrayLike, score: ArrayLike, *, fewest: int = 1) -> tuple[Flags, Ranks]:
    """Which of N samples are anomalies (N,), and the ranks (N,) of their scores from 0 up, the same for ties.

    Ranks stand for the scores wherever only order counts: no library then sees an infinite or a tiny difference.

    Args:
        y: labels (N,), 1 = anomaly, 0 = normal.
        score: (N,), may be infinite.
        fewest: samples that each class must have.

    Raises:
        InputError: labels other than 0 and 1, scores that are NaN or not real numbers, different lengths, or too few
            samples of a class.
    """
    anomaly, scores, scored = steps_of(y, score)
    if missing := int((~scored).sum()):
        raise InputError(f"{missing} of {len(scores)} scores are NaN: drop these samples and count them apart")
    n = int(anomaly.sum())
    if min(n, len(anomaly) - n) < fewest:
        raise InputError(
            f"got {len(anomaly) - n} normal samples and {n} anomalies, at least {fewest} of each are needed: "
            "test on more labelled samples"
        )
    return anomaly, np.unique(scores, return_inverse=True)[1].astype(np.int64)


def _auroc(anomaly: Flags, rank: Ranks, max_fpr: float | None = None) -> float:
    return float(roc_auc_score(anomaly, rank, max_fpr=max_fpr))


def _average_precision(anomaly: Flags, rank: Ranks) -> float:
    return float(average_precision_score(anomaly, rank))


def _fpr_at_tpr(anomaly: Flags, rank: Ranks, tpr: float) -> float:
    found = np.sort(rank[anomaly])[::-1]
    shares = np.arange(1, len(found) + 1) / len(found)  # compared as quotients: 0.07 * 100 would be above 7
    return float((rank[~anomaly] >= found[np.searchsorted(shares, tpr)]).mean())


def _precision_at_n(anomaly: Flags, rank: Ranks) -> float:
    n = int(anomaly.sum())
    border = np.sort(rank)[-n]
    above, at = rank > border, rank == border
    return float((anomaly[above].sum() + (n - above.sum()) * anomaly[at].mean()) / n)


def _oracle_f1(anomaly: Flags, rank: Ranks) -> tuple[float, int]:
    """The best F1, and the lowest rank that is flagged for it."""
    flagged = np.bincount(rank)[::-1].cumsum()  # at or above each distinct score, from the highest on
    hits = np.bincount(rank[anomaly], minlength=len(flagged))[::-1].cumsum()
    f1 = 2 * hits / (flagged + anomaly.sum())
    best = int(np.argmax(f1))
    return float(f1[best]), len(f1) - 1 - best


def _share(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value!r}")
    return float(value)
