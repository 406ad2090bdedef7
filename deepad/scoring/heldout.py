"""Scores of held-out normal data, and the refusal of data that the model has seen."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.data.windows import StepRule, windows_of
from deepad.errors import DataLeakError, InputError
from deepad.fingerprint import Fingerprints, fingerprint_rows
from deepad.schema import TableSchema
from deepad.scoring.blocks import BLOCK, Model, score_block
from deepad.scoring.conformal import Scores
from deepad.scoring.inputs import as_series, in_blocks
from deepad.scoring.models import Schema
from deepad.scoring.steps import CHUNK, score_series

CHAIN = 50
"""Steps over which even a coarsely rounded series does not repeat itself by chance."""


def score_samples(model: Model, x: Any, inputs: Schema | None) -> tuple[Scores, Fingerprints]:
    """Scores (n,) and fingerprints of held-out normal samples."""
    seen: list[Fingerprints] = []
    table = inputs if isinstance(inputs, TableSchema) else None
    blocks = _watched(in_blocks(x, model.shape, BLOCK, labelled=False, table=table), seen)
    scores = [score_block(model, block) for block in blocks]
    if not scores:
        raise InputError("calibration needs normal samples, got none")
    rows = np.concatenate(seen)
    if model.fit_rows is not None:  # a model loaded from an artifact has only their digest
        check_disjoint(model.fit_rows, rows)
    return np.concatenate(scores), rows


def score_stretches(model: Model, x: Any, inputs: Schema | None, steps: StepRule) -> tuple[Scores, Fingerprints]:
    """Scores (n,) of the steps of held-out normal stretches, and fingerprints of their windows."""
    stretches, _ = as_series(x, model.shape[-1], inputs)
    windows = fingerprint_windows(stretches, steps.window_size)
    if model.fit_rows is not None:
        check_not_replayed(model.fit_rows, windows, steps.window_size)
    scores = np.concatenate([score_series(model, steps, stretch) for stretch in stretches])
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        longest = max(map(len, stretches))
        raise InputError(
            f"a window of {steps.window_size} steps does not fit into the calibration stretches, which have at most "
            f"{longest} steps: give longer ones"
        )
    return scores, np.concatenate(windows)


def _watched(blocks: Iterable[NDArray[Any]], seen: list[Fingerprints]) -> Iterator[NDArray[Any]]:
    for block in blocks:
        seen.append(fingerprint_rows(block))
        yield block


def check_disjoint(fit_rows: Fingerprints, calibration_rows: Fingerprints) -> None:
    """Raise `DataLeakError` if rows that fitted a model are among those that calibrate it."""
    shared = np.isin(calibration_rows, fit_rows)
    if shared.any():
        raise DataLeakError(
            f"{int(shared.sum())} of {len(calibration_rows)} calibration rows trained or selected this model (first at "
            f"row {int(np.argmax(shared))}): their scores are too low; calibrate on rows the model has not seen"
        )


def fingerprint_windows(series: Iterable[NDArray[np.generic]], window_size: int) -> list[Fingerprints]:
    """Fingerprints of all windows of each series (N, C), none for one that is shorter than a window."""
    found = []
    for values in series:
        windows = windows_of(values, window_size) if len(values) >= window_size else np.empty((0, 1))
        parts = [fingerprint_rows(windows[start : start + CHUNK]) for start in range(0, len(windows), CHUNK)]
        found.append(np.concatenate([np.empty(0, np.int64), *parts]))
    return found


def check_not_replayed(fit_rows: Fingerprints, windows: Iterable[Fingerprints], window_size: int) -> None:
    """Raise `DataLeakError` if a stretch of a series is one that fitted the model.

    Single windows recur in any series that repeats itself. What does not happen by itself is a chain of windows over
    more than two window lengths and `CHAIN` steps that fitted the model, occur once only in the stretches, and follow
    each other at one distance, the stride of the training (found up to a window), for more than half of the chain.
    """
    stretches, least = list(windows), max(CHAIN, 2 * window_size)
    known, count = np.unique(np.concatenate([np.empty(0, np.int64), *stretches]), return_counts=True)
    telling = known[(count == 1) & np.isin(known, fit_rows)]
    for found in stretches:
        places = np.flatnonzero(np.isin(found, telling))
        for stride, times in zip(*np.unique(np.diff(places), return_counts=True), strict=True):
            if stride > window_size or 2 * stride * times <= least:
                continue
            for chain in np.split(places, np.flatnonzero(np.diff(places) > stride) + 1):
                span = chain[-1] - chain[0]
                if span > least and 2 * stride * (np.diff(chain) == stride).sum() > span:
                    raise DataLeakError(
                        f"the steps {chain[0]} to {chain[-1] + window_size - 1} trained or selected this model: their "
                        "scores are too low; calibrate on a stretch of the series that the model has not seen"
                    )
