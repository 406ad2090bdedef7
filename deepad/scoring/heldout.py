"""Scores of held-out normal data, and the refusal of data that the model has seen."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.base import BLOCK
from deepad.channels import SeriesSchema
from deepad.data.windows import StepRule, windows_of
from deepad.errors import DataLeakError, InputError
from deepad.fingerprint import Fingerprints, fingerprint_rows
from deepad.scoring.blocks import Model, score_block
from deepad.scoring.conformal import Scores
from deepad.scoring.eventrule import EventRule
from deepad.scoring.inputs import as_series, in_blocks
from deepad.scoring.models import Schema
from deepad.scoring.steps import CHUNK, score_rows, score_series

Places = NDArray[np.int64]

REFERENCE = 256
"""Normal samples that a scorer keeps to compare others with."""
REFERENCE_VALUES = 2**20
"""Most numbers that they may have together."""
CHAIN = 50
"""Steps over which even a coarsely rounded series does not repeat itself by chance."""


class Reference:
    """A random sample of the samples that are shown to it, drawn by their place in order, whatever the batches.

    Args:
        shape: of one sample.
        most: samples kept; fewer where they are large.
    """

    def __init__(self, shape: tuple[int, ...], most: int = REFERENCE) -> None:
        if most < 0:
            raise ValueError(f"a scorer keeps 0 or more calibration samples, got reference={most}")
        self.most = min(most, max(1, REFERENCE_VALUES // prod(shape)))
        self._seen = 0
        self._keys, self._samples = np.empty(0, np.uint64), np.empty((0, *shape))

    def add(self, samples: NDArray[Any], shown: NDArray[np.int64] | None = None) -> None:
        """Show samples (B, *shape), or those of them at some places."""
        places = np.arange(len(samples)) if shown is None else shown
        if self.most == 0 or not len(places):
            return
        keys = _mixed(np.arange(self._seen, self._seen + len(places), dtype=np.uint64))
        self._seen += len(places)
        joined = np.concatenate([self._keys, keys])
        kept = np.sort(np.argsort(joined, kind="stable")[: self.most])
        old, new = kept[kept < len(self._keys)], kept[kept >= len(self._keys)] - len(self._keys)
        if len(new):
            self._keys = joined[kept]
            self._samples = np.concatenate([self._samples[old], samples[places[new]].astype(np.float64)])

    @property
    def samples(self) -> NDArray[Any] | None:
        """Those that were kept (n, *shape), in float32 where that holds them exactly; None if none were."""
        with np.errstate(over="ignore"):
            narrow = self._samples.astype(np.float32)
        exact = bool((narrow == self._samples).all())
        return None if not len(narrow) else narrow if exact else self._samples


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A random number for each number (splitmix64: Steele, Lea, Flood, 2014), no two the same."""
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def score_held_out(
    model: Model, x: Any, inputs: Schema | None, steps: StepRule | None, events: EventRule | None, reference: Reference
) -> tuple[list[Scores], Fingerprints]:
    """Scores of held-out normal samples, or of the steps of each stretch, and fingerprints of samples or windows."""
    if steps is not None:
        return score_stretches(model, x, inputs, steps, events, reference)
    scores, rows = score_samples(model, x, inputs, reference)
    return [scores], rows


def score_samples(
    model: Model, x: Any, inputs: Schema | None, reference: Reference | None = None
) -> tuple[Scores, Fingerprints]:
    """Scores (n,) and fingerprints of held-out normal samples, which are shown to the reference."""
    seen: list[Fingerprints] = []
    scores = []
    for block in in_blocks(x, model.shape, BLOCK, labelled=False, table=inputs):
        seen.append(fingerprint_rows(block))
        if reference is not None:
            reference.add(block)
        scores.append(score_block(model, block))
    if not scores:
        raise InputError("calibration needs normal samples, got none")
    rows = np.concatenate(seen)
    if model.fit_rows is not None:  # a model loaded from an artifact has only their digest
        if isinstance(inputs, SeriesSchema):  # windows of a series recur by themselves
            check_not_replayed(model.fit_rows, [rows], model.shape[0])
        else:
            dealt = getattr(getattr(x, "dataset", None), "recurring", None)  # by a data module, with its training rows
            check_disjoint(model.fit_rows, rows, dealt)
    return np.concatenate(scores), rows


def score_stretches(
    model: Model,
    x: Any,
    inputs: Schema | None,
    steps: StepRule,
    events: EventRule | None = None,
    reference: Reference | None = None,
) -> tuple[list[Scores], Fingerprints]:
    """Scores (n,) of the steps of each held-out normal stretch, and fingerprints of all windows.

    NaN stands for steps that no window scores and for context.

    Args:
        model: takes windows (T, C).
        x: what `as_series` takes, or a list of things with `values` (n, C) and `scored` (n,), such as the stretches of
            a data module: steps that are not scored are context, and calibrate nothing.
        inputs: the schema of the series, if it is known.
        steps: how windows score steps.
        events: what is done to these scores.
        reference: is shown the windows.
    """
    parts = x if isinstance(x, list | tuple) else [x]
    # arrays, so that a data frame with such columns is not taken for one
    masks = [part.scored for part in parts if isinstance(getattr(part, "scored", None), np.ndarray)]
    if masks and len(masks) < len(parts):
        raise InputError("got stretches with and without `scored` in one list: give all with, or the values of all")
    stretches, step_of_row = as_series([part.values for part in parts] if masks else x, model.shape[-1], inputs)
    windows = fingerprint_windows(stretches, steps.window_size)
    if model.fit_rows is not None:
        check_not_replayed(model.fit_rows, windows, steps.window_size)
    scores = [score_series(model, steps, stretch, events) for stretch in stretches]
    if masks:
        scored, joined = np.concatenate(masks), score_rows(scores, step_of_row)
        if scored.dtype != bool or scored.shape != joined.shape:
            raise InputError(f"`scored` must say true or false of each of {len(joined)} steps, got {scored.shape}")
        ends = np.cumsum([len(mask) for mask in masks])[:-1]
        scores = np.split(np.where(scored, joined, np.nan), ends)
    if reference is not None:
        for stretch, part in zip(stretches, scores, strict=False):
            _show_windows(reference, stretch, ~np.isnan(part), steps.window_size)
    if all(np.isnan(part).all() for part in scores):
        longest, lost = max(map(len, stretches)), "" if events is None else " and what is done to its scores"
        raise InputError(
            f"a window of {steps.window_size} steps{lost} does not fit into the calibration stretches, which have at "
            f"most {longest} steps: give longer ones"
        )
    return scores, np.concatenate(windows)


def _show_windows(reference: Reference, stretch: NDArray[Any], scored: NDArray[np.bool_], size: int) -> None:
    """Show the windows that end with a step that calibrates and hold none that does not, but for context before."""
    if len(scored) != len(stretch) or len(stretch) < size or not scored.any():
        return
    out = np.concatenate([[0], np.cumsum(~scored & (np.arange(len(scored)) > np.argmax(scored)))])
    ends = np.arange(size - 1, len(stretch))
    shown = scored[ends] & (out[ends + 1] == out[ends + 1 - size])
    reference.add(windows_of(stretch, size), np.flatnonzero(shown))


def check_disjoint(
    fit_rows: Fingerprints, calibration_rows: Fingerprints, recurring: Fingerprints | None = None
) -> None:
    """Raise `DataLeakError` if rows that fitted a model are among those that calibrate it.

    Args:
        fit_rows: of the model.
        calibration_rows: of what calibrates it.
        recurring: values that a data module found to recur by themselves and dealt to both: they do not count.
    """
    shared = np.isin(calibration_rows, fit_rows)
    if recurring is not None:
        shared &= ~np.isin(calibration_rows, recurring)
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
    """Raise `DataLeakError` if stretches of a series are those that fitted the model.

    Single windows recur in any series that repeats itself. What does not happen by itself is a *chain*: windows that
    fitted the model, each of them once as far as that is known and once in this stretch, that follow each other at one
    distance, the stride of the training (found up to a window), for more than half of the chain, over `CHAIN` steps or
    more. Refused is one chain over more than two window lengths and `CHAIN` steps, and stretches that consist of chains
    for more than half and are that long together.

    What this does not find: steps that trained in pieces of fewer than `CHAIN` steps (and two strides) or mixed with
    more steps that did not; the same steps twice in one stretch; windows that were changed, even by rounding; a
    training with a stride of more than a window. And stretches of a series without any noise that repeats itself are
    refused if each holds less than one period: they equal what trained, step by step.

    Args:
        fit_rows: fingerprints of the windows that fitted the model, repeated if they were so often there.
        windows: fingerprints (m,) of all windows of each stretch, in order.
        window_size: steps of a window.
    """
    stretches, least, total, replayed = list(windows), max(CHAIN, 2 * window_size), 0, 0
    known, count = np.unique(fit_rows, return_counts=True)
    once = known[(count == 1) & np.isin(known, np.concatenate([np.empty(0, np.int64), *stretches]))]
    for found in stretches:
        most = 0
        for first, last in _chains(found, once, window_size):
            span = last - first
            if len(span) and span.max() > least:
                i = int(np.argmax(span))
                raise DataLeakError(
                    f"the steps {first[i]} to {last[i] + window_size - 1} trained or selected this model: their "
                    "scores are too low; calibrate on a stretch of the series that the model has not seen"
                )
            most = max(most, int(span.sum()))
        if 2 * most > len(found) - 1:
            total, replayed = total + most, replayed + 1
    if total > least:
        raise DataLeakError(
            f"{replayed} of {len(stretches)} stretches trained or selected this model: their scores are too low; "
            "calibrate on a part of the series that the model has not seen"
        )


def _chains(found: Fingerprints, once: Fingerprints, window_size: int) -> Iterator[tuple[Places, Places]]:
    """For each stride that occurs, the first and last windows of the chains of a stretch; see `check_not_replayed`."""
    here, count = np.unique(found, return_counts=True)
    places = np.flatnonzero(np.isin(found, here[(count == 1) & np.isin(here, once)]))
    gaps = np.diff(places)
    for stride in np.unique(gaps[gaps <= window_size]):
        breaks = np.flatnonzero(gaps > stride)
        begin, end = np.append(0, breaks + 1), np.append(breaks, len(gaps))
        steady = np.append(0, np.cumsum(gaps == stride))
        first, last = places[begin], places[end]
        chain = (last - first + window_size >= CHAIN) & (2 * stride * (steady[end] - steady[begin]) > last - first)
        yield first[chain], last[chain]
