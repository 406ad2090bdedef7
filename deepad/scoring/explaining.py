"""Why a sample has its score: which parts of it carry how much, beside what the model expected and what is normal.

    score(x) = sum_d c_d(x)                                         contributions, the same arithmetic as the decision
    p_k      = (1 + #{reference samples to which part k adds at least as much}) / (n + 1)

A part is a column of a table, a channel of a window, or a pixel. The reference is a random sample of the calibration
samples, which the scorer keeps: p_k is the p-value of part k by itself, and the smallest of many is small by chance.

Assumption: that a part carries much of the score means that the model did not expect it, not that it is the cause: a
broken sensor spoils the reconstruction of its neighbours. Of a step of a series the window is shown that ends with it,
and what is done to scores afterwards (`deepad.scoring.eventrule`) is left out: contributions sum to the score before.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.base import BLOCK
from deepad.data.windows import StepRule, windows_of
from deepad.detectors.base import Detector
from deepad.errors import InputError
from deepad.scoring.blocks import (
    Model,
    blockwise,
    contributions_of_block,
    rebuilt_of_block,
    scaled_of_block,
    score_block,
)
from deepad.scoring.inputs import as_series
from deepad.scoring.models import Schema
from deepad.scoring.parts import Part, parts_of, sentence_of, summed, told_parts

Array = NDArray[Any]

NEAREST = 3
"""Reference samples that are named."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a sample has its score.

    Attributes:
        score: the sum of the contributions; of a model that does not split it, what it gave.
        sentence: the explanation in plain words.
        parts: what adds most first; empty if the model does not split its score.
        x: the sample (*shape); of a step of a series the window that is shown.
        rebuilt: what the model expected in its place (*shape); None if it expects nothing.
        contributions: (*shape); None if the model does not split its score.
        nearest: places in the reference of the samples nearest to this one, nearest first.
        distances: theirs, in the units in which the model compares.
    """

    score: float
    sentence: str
    parts: tuple[Part, ...]
    x: Array
    rebuilt: Array | None
    contributions: Array | None
    nearest: tuple[int, ...]
    distances: tuple[float, ...]

    def to_dict(self, most: int | None = None) -> dict[str, Any]:
        """Plain values, without the arrays; at most so many parts."""
        near = [{"reference": i, "distance": d} for i, d in zip(self.nearest, self.distances, strict=True)]
        parts = [{name: plain(value) for name, value in asdict(part).items()} for part in self.parts[:most]]
        return {"score": plain(self.score), "sentence": self.sentence, "parts": parts, "nearest": near}


def explains(model: Model) -> bool:
    """Whether a model splits its score over its input."""
    return isinstance(model, Detector) or model.explains


def maps_and_rebuilt(model: Model, x: Array) -> tuple[Array, Array] | None:
    """Contributions and what the model expected, both (N, *shape); None of a model that has not both."""
    rebuilt = _rebuilt(model, x)
    return None if rebuilt is None or not explains(model) else (_maps(model, x), rebuilt)


def explain_samples(
    model: Model, blocks: Iterable[Array], rows: Sequence[int], inputs: Schema | None, reference: Array | None
) -> list[Explanation]:
    """Explain the scores of some samples.

    Args:
        model: that gives them.
        blocks: all samples, (B, *shape) at a time.
        rows: numbers of those to explain.
        inputs: names of columns or channels, if they are known.
        reference: normal samples (n, *shape) to compare with, if there are any.

    Raises:
        InputError: rows that are not there.
    """
    found, seen = dict[int, Array](), 0
    for block in blocks:
        found |= {row: block[row - seen] for row in rows if seen <= row < seen + len(block)}
        seen += len(block)
    _require_rows_of(rows, seen, "samples")
    x = np.stack([found[row] for row in rows])
    maps = _maps(model, x) if explains(model) else None
    usual = None if reference is None or maps is None else _maps(model, reference)
    return _explained(model, x, maps, inputs, reference, usual)


def explain_recording(
    model: Model, rule: StepRule, x: Any, rows: Sequence[int], inputs: Schema | None, reference: Array | None
) -> list[Explanation]:
    """Explain the scores of some steps of a series.

    The p-values of channels compare with what the same rule makes of single reference windows; a rule that takes
    several windows together, which single ones say nothing about, gives none.

    Args:
        model: takes windows.
        rule: how they score steps.
        x: what `as_series` takes.
        rows: numbers of steps, or of the rows of a data frame.
        inputs: names of the channels, if they are known.
        reference: normal windows (n, *shape) to compare with, if there are any.

    Raises:
        InputError: rows that are not there, or steps that no window scores.
    """
    stretches, step_of_row = as_series(x, model.shape[1], inputs)
    ends = np.cumsum([len(stretch) for stretch in stretches])
    _require_rows_of(rows, int(ends[-1]) if step_of_row is None else len(step_of_row), "steps")
    shown = []
    for row in rows:
        step = row if step_of_row is None else int(step_of_row[row])
        if step < 0:
            raise InputError(f"row {row} became no step: explain one that has a score")
        which = int(np.searchsorted(ends, step, side="right"))
        begin = int(ends[which - 1]) if which else 0
        if not rule.reached(len(stretches[which]))[step - begin]:
            raise InputError(f"row {row} is scored by no window: explain one that has a score")
        shown.append(_window_of_step(model, rule, stretches[which], step - begin))
    windows = np.stack([window for window, _ in shown])
    maps = np.stack([parts for _, parts in shown]) if explains(model) else None
    usual = None
    if reference is not None and maps is not None and rule.causal:
        usual = _maps(model, reference)
        if rule.rule == "last":
            usual[:, :-1] = 0
    return _explained(model, windows, maps, inputs, reference, usual)


def require_reference(reference: Array, shape: tuple[int, ...]) -> None:
    """Refuse samples to compare with that the model could not take.

    Raises:
        ValueError: no sample, another shape, or values that are not finite numbers.
    """
    wanted = (max(1, len(reference)), *shape)
    if reference.dtype.kind != "f" or reference.shape != wanted or not np.isfinite(reference).all():
        raise ValueError(f"the reference must be finite samples {wanted}, got {reference.dtype} {reference.shape}")


def _require_rows_of(rows: Sequence[int], n: int, what: str) -> None:
    """Refuse row numbers that n samples or steps do not have.

    Raises:
        InputError: no row, or one that is not there.
    """
    if not len(rows) or not all(0 <= row < n for row in rows):
        given = ", ".join(map(str, rows)) or "none"
        raise InputError(f"got the rows {given}: there are {n} {what}, give some from 0 to {n - 1}")


def _explained(
    model: Model, x: Array, maps: Array | None, inputs: Schema | None, reference: Array | None, usual: Array | None
) -> list[Explanation]:
    names, part_of = parts_of(model.shape, inputs)
    rebuilt = _rebuilt(model, x)
    u = blockwise(partial(scaled_of_block, model), x)
    with np.errstate(invalid="ignore"):  # of what overflows
        deviations = None if rebuilt is None else u - blockwise(partial(scaled_of_block, model), rebuilt)
    nearest, distances = _nearest(model, u, reference)
    scores = blockwise(partial(score_block, model), x) if maps is None else maps.reshape(len(x), -1).sum(1)
    sums = None if usual is None else summed(usual.reshape(len(usual), -1), part_of, len(names))
    found = []
    for place, sample in enumerate(x):
        parts: tuple[Part, ...] = ()
        sentence = sentence_of(model, parts, None)
        if not np.isfinite(scores[place]):
            most = names[part_of[int(np.argmax(np.abs(u[place])))]]
            sentence = f"the score is too large for a number: {most} is furthest from what the model has seen"
        elif maps is not None:
            near = None if reference is None else reference[nearest[place][0]].ravel()
            expected = None if rebuilt is None else rebuilt[place].ravel()
            deviation = None if deviations is None else deviations[place]
            flat = maps[place].ravel()
            parts = told_parts(names, part_of, flat, sample.ravel(), inputs, expected, deviation, sums, near)
            sentence = sentence_of(model, parts, maps[place])
        found.append(
            Explanation(
                float(scores[place]),
                sentence,
                parts,
                sample,
                None if rebuilt is None else rebuilt[place],
                None if maps is None else maps[place],
                tuple(nearest[place].tolist()),
                tuple(distances[place].tolist()),
            )
        )
    return found


def channels_of_steps(model: Model, rule: StepRule, series: Array, steps: Array) -> Array:
    """What each channel of an unbroken series (n, C) adds to the scores of steps (K,), ascending: (K, C).

    Of a step that no window scores it is NaN.
    """
    size, found = rule.window_size, np.full((len(steps), series.shape[1]), np.nan)
    reached = rule.reached(len(series))[steps]
    windows = windows_of(series, size) if reached.any() else np.empty((0, size, 1))
    for begin in range(0, len(steps), BLOCK):
        chosen = np.arange(begin, min(begin + BLOCK, len(steps)))[reached[begin : begin + BLOCK]]
        covering = [_covering(rule, len(series), int(step)) for step in steps[chosen]]
        starts = np.unique(np.concatenate([np.empty(0, np.int64), *covering]))
        if not len(starts):
            continue
        parts = _maps(model, windows[starts])
        for place, own in zip(chosen, covering, strict=True):
            mine = parts[np.searchsorted(starts, own)]
            at = mine.sum(1) if rule.whole else mine[np.arange(len(own)), steps[place] - own]
            found[place] = _combined(rule.rule, at)
    return found


def _covering(rule: StepRule, n: int, step: int) -> NDArray[np.int64]:
    """Where the windows begin that score a step of an unbroken series of n steps."""
    if rule.causal:
        return np.array([step - rule.window_size + 1])
    first = max(0, -(-(step - rule.window_size + 1) // rule.stride)) * rule.stride
    return np.arange(first, min(step, n - rule.window_size) + 1, rule.stride)


def _window_of_step(model: Model, rule: StepRule, series: Array, step: int) -> tuple[Array, Array]:
    """The window (T, C) that is shown for a step, and what adds to the step's score (T, C).

    The window ends with the step where the series is long enough before it. What several windows add to a step stands
    at the step itself.
    """
    size = rule.window_size
    shown = max(step - size + 1, 0)
    kept, chosen = series[shown : shown + size], np.zeros((size, series.shape[1]))
    if explains(model) and rule.rule == "window":
        chosen = _maps(model, kept[None])[0]
    elif explains(model):
        chosen[step - shown] = channels_of_steps(model, rule, series, np.array([step]))[0]
    return kept, chosen


def _combined(rule: str, parts: Array) -> Array:
    """The row (C,) of those of several windows (K, C) whose sum is what the rule makes of their sums."""
    if rule not in ("median", "max"):
        return np.asarray(parts.mean(0))
    order = np.argsort(parts.sum(1), kind="stable")
    middle = [(len(order) - 1) // 2, len(order) // 2]
    return np.asarray(parts[order[-1:] if rule == "max" else order[middle]].mean(0))


def _maps(model: Model, x: Array) -> Array:
    """Contributions (N, *shape), in float64."""
    return np.asarray(blockwise(partial(contributions_of_block, model), x), np.float64)


def _rebuilt(model: Model, x: Array) -> Array | None:
    """What a model expects in place of samples (N, *shape); None if nothing."""
    if not isinstance(model, Detector) and not model.expects:
        return None
    return blockwise(lambda block: np.asarray(rebuilt_of_block(model, block)), x)


def _nearest(model: Model, u: Array, reference: Array | None) -> tuple[NDArray[np.int64], Array]:
    """Which reference samples are nearest to rows (N, D) in the model's units, and how far."""
    if reference is None:
        return np.empty((len(u), 0), np.int64), np.empty((len(u), 0))
    from scipy.spatial.distance import cdist

    distances = cdist(u, blockwise(partial(scaled_of_block, model), reference))
    order = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST]
    return order, np.take_along_axis(distances, order, 1)


def plain(value: Any) -> Any:
    """The value as JSON has it: no infinite numbers, no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
