"""Events and alarms as spans: runs of steps, each from `begin` up to, but not including, `end`.

A span of length L holds the steps begin, ..., begin + L - 1 and covers the time from begin to end. Spans of one kind
are sorted and do not overlap; two that touch stay two.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError

Spans = NDArray[Any]
Flags = NDArray[np.bool_]


def spans(mask: ArrayLike) -> Spans:
    """Spans (M, 2) of the runs of True among N steps.

    Raises:
        InputError: not 0 or 1, or true or false, for each step.
    """
    given = np.asarray(mask)
    if given.ndim != 1 or given.dtype.kind not in "fiub" or not np.isin(given, (0, 1)).all():
        raise InputError(f"got {given.dtype} of shape {given.shape}: give 0 or 1 for each step, (N,)")
    padded = np.concatenate([[False], given == 1, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)


def as_flags(given: ArrayLike) -> Flags:
    """Flags (N,) of N steps.

    Raises:
        InputError: not true or false for each step.
    """
    flags = np.asarray(given)
    if flags.dtype != bool or flags.ndim != 1:
        raise InputError(f"flagged must be true or false for each step, (N,), got {flags.dtype} of shape {flags.shape}")
    return flags


def as_spans(given: ArrayLike, what: str) -> Spans:
    """Spans (M, 2) that someone else made, as int64, or float64 if any number is broken.

    Raises:
        InputError: not begin < end in each row, or rows that overlap or are out of order.
    """
    rows = np.asarray(given)
    if rows.size == 0:
        return np.empty((0, 2), np.int64)
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "fiu":
        raise InputError(f"{what} must be rows of begin and end, (M, 2), got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.float64 if rows.dtype.kind == "f" else np.int64)
    good = np.isfinite(rows).all(1) & (rows[:, 0] < rows[:, 1])
    good[1:] &= rows[1:, 0] >= rows[:-1, 1]
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"{what} must have begin < end, be in order and not overlap, got {rows[row].tolist()} in row {row}: sort "
            "them and merge those that overlap"
        )
    return rows


def overlaps(one: Spans, other: Spans) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers (P,) of spans of the one kind and (P,) of the other that share time, pair by pair, in order."""
    first = np.searchsorted(other[:, 1], one[:, 0], "right")
    count = np.searchsorted(other[:, 0], one[:, 1], "left") - first
    left = np.repeat(np.arange(len(one)), count)
    right = np.arange(len(left)) - np.repeat(np.cumsum(count) - count - first, count)
    return left, right


def amount(of: Spans, mask: Flags) -> NDArray[np.int64]:
    """How many steps (M,) of each span are True in a mask (N,)."""
    until = np.concatenate([[0], np.cumsum(mask)])
    return np.asarray(until[of[:, 1]] - until[of[:, 0]])


def steps_of(y: ArrayLike, score: ArrayLike) -> tuple[Flags, NDArray[Any], Flags]:
    """Which of N samples or steps are anomalous (N,), their scores (N,), and which have one (N,): NaN is none.

    Raises:
        InputError: labels other than 0 and 1, scores that are no real numbers, or different lengths.
    """
    labels, scores = np.asarray(y), np.asarray(score)
    if np.ma.isMaskedArray(y) or np.ma.isMaskedArray(score):
        raise InputError("got a masked array: fill the masked values first")
    if scores.ndim != 1 or labels.shape != scores.shape:
        raise InputError(
            f"got {labels.size} labels for {scores.size} samples, of shapes {labels.shape} and {scores.shape}: give a "
            "label and a score for each, (N,), in one order"
        )
    if scores.dtype.kind not in "fiub":
        raise InputError(f"scores must be real numbers, got dtype {scores.dtype}")
    if labels.dtype.kind not in "fiub" or not np.isin(labels, (0, 1)).all():
        raise InputError("labels must be 0 (normal) or 1 (anomaly)")
    return labels == 1, scores, ~np.isnan(scores)
