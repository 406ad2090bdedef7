"""Precision and recall of ranges: how much of each event was flagged, where in it, and in how many pieces.

With the spans of flagged steps A_j that overlap an event R, c of them, and a positional weight delta(1), ..., delta(L)
of its L steps,

    recall of R = alpha 1{c > 0} + (1 - alpha) gamma(c) sum_j delta(R and A_j) / delta(R),

    delta(t) = 1 (flat), L - t + 1 (front: early steps weigh more), t (back);    gamma(c) = 1 or 1 / c,

and the recall is the mean over events. Precision is the same with events and flagged spans in each other's place and
alpha = 0: the mean over flagged spans of the share that lies in events.

Assumes that every event counts the same, whatever its length, and so does every flagged span. What to keep in mind:

- One flagged step amid a thousand right ones counts as much as these: many short false alarms press the precision of a
  detector whose flagged time is nearly all right. Merge flags into episodes first if that is how they are looked at.
- With gamma = 1 / c, flags that flicker within an event lose; with alpha = 0, one right step in a long event is worth
  nearly nothing. The four settings are part of the number: values under others do not compare.
- Flagging everything has a recall of 1.

Source: Tatbul, Lee, Zdonik, Alam, Gottschlich, *Precision and recall for time series*, 2018, sections on ranges,
figure 2.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.evaluation.spans import Spans, as_spans, overlaps

Bias = Literal["flat", "front", "back"]
Cardinality = Literal["one", "reciprocal"]


def range_recall(
    events: ArrayLike,
    alarms: ArrayLike,
    *,
    alpha: float = 0.0,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> float | None:
    """Mean share of an event that is flagged, in [0, 1]; None without events.

    Args:
        events: spans (M, 2).
        alarms: spans (K, 2) of flagged steps.
        alpha: in [0, 1], the reward for finding an event at all.
        bias: which steps of an event weigh more.
        cardinality: `"reciprocal"` divides by the number of alarms in the event, `"one"` does not.

    Raises:
        InputError: what `as_spans` refuses.
        ValueError: alpha outside [0, 1], an unknown bias or cardinality.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha!r}")
    found, count = _shares(as_spans(events, "events"), as_spans(alarms, "alarms"), bias, cardinality)
    return float((alpha * (count > 0) + (1 - alpha) * found).mean()) if len(found) else None


def range_precision(
    events: ArrayLike, alarms: ArrayLike, *, bias: Bias = "flat", cardinality: Cardinality = "reciprocal"
) -> float | None:
    """Mean share of an alarm that lies in events, in [0, 1]; None without alarms. The rest is as in `range_recall`."""
    right, _ = _shares(as_spans(alarms, "alarms"), as_spans(events, "events"), bias, cardinality)
    return float(right.mean()) if len(right) else None


def f_score(precision: float | None, recall: float | None, beta: float = 1.0) -> float | None:
    """Weighted harmonic mean in [0, 1], recall weighing beta times; 0 without alarms, None without events."""
    if recall is None:
        return None
    weighted = beta**2 * (precision or 0.0) + recall
    return (1 + beta**2) * (precision or 0.0) * recall / weighted if weighted else 0.0


def _shares(
    of: Spans, covered: Spans, bias: Bias, cardinality: Cardinality
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Weighted share (M,) of each span that is covered, divided as the cardinality says, and by how many (M,)."""
    for name, value, known in (("bias", bias, get_args(Bias)), ("cardinality", cardinality, get_args(Cardinality))):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    i, k = overlaps(of, covered)
    begin, length = of[i, 0], of[i, 1] - of[i, 0]
    until, since = np.minimum(covered[k, 1], of[i, 1]) - begin, np.maximum(covered[k, 0], begin) - begin
    parts = (_weight(until, length, bias) - _weight(since, length, bias)) / _weight(length, length, bias)
    count = np.bincount(i, minlength=len(of))
    share = np.asarray(np.bincount(i, parts, minlength=len(of)), np.float64)
    return share / np.maximum(count, 1) if cardinality == "reciprocal" else share, np.asarray(count)


def _weight(t: Spans, length: Spans, bias: Bias) -> NDArray[np.float64]:
    """delta(1) + ... + delta(t) of spans of these lengths."""
    if bias == "flat":
        return np.asarray(t, np.float64)
    return np.asarray(t * (2 * length - t + 1 if bias == "front" else t + 1) / 2)
