"""The parts of a sample, what each adds to its score, and the sentence about it; see `deepad.scoring.explaining`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.base import Baseline
from deepad.channels import SeriesSchema
from deepad.detectors.base import Detector
from deepad.schema import TableSchema
from deepad.scoring.blocks import Model
from deepad.scoring.composed import Composed
from deepad.scoring.models import Schema

Array = NDArray[Any]

NAMED = 0.05
"""Least share of the score with which a part is named beside the first."""
MOST = 100
"""Parts that are told of a sample; an image has more pixels."""
UNITS = {"standard": "s.d.", "robust": "interquartile ranges", "quantile": "normal scores", "range": "of its range"}


@dataclass(frozen=True)
class Part:
    """A part of a sample.

    Attributes:
        name: column, channel or pixel.
        contribution: what it adds to the score.
        share: of all that raises the score, in [0, 1]; 0 for what lowers it.
        value: of it, as text; of several (steps of a channel, features of a column) the one that adds most.
        expected: what the model expected in its place; None if it expects nothing.
        deviation: of the value from that in the unit in which the model compares, positive above; None likewise.
        p_value: p-value of the contribution among those of normal samples; None without a reference.
        near: the same value of the nearest reference sample, as text; None without a reference.
    """

    name: str
    contribution: float
    share: float
    value: str
    expected: float | None
    deviation: float | None
    p_value: float | None
    near: str | None = None


def parts_of(shape: tuple[int, ...], inputs: Schema | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the parts of samples, and the part (D,) that each of their D values belongs to."""
    if isinstance(inputs, TableSchema):
        return tuple(column.name for column in inputs.columns), np.array(inputs.columns_of_features)
    if len(shape) == 2:
        known = inputs.channels if isinstance(inputs, SeriesSchema) else [f"channel {c}" for c in range(shape[1])]
        return tuple(known), np.tile(np.arange(shape[1]), shape[0])
    if len(shape) == 3:
        pixels = [f"pixel {row}, {column}" for row in range(shape[1]) for column in range(shape[2])]
        return tuple(pixels), np.tile(np.arange(len(pixels)), shape[0])
    return tuple(f"x{place}" for place in range(shape[0])), np.arange(shape[0])


def summed(flat: Array, part_of: NDArray[np.int64], count: int) -> Array:
    """Contributions (N, P) of parts out of those of values (N, D)."""
    summed = np.zeros((count, len(flat)))
    np.add.at(summed, part_of, flat.T)
    return summed.T


def told_parts(
    names: tuple[str, ...],
    part_of: NDArray[np.int64],
    flat: Array,
    sample: Array,
    inputs: Schema | None,
    rebuilt: Array | None,
    deviations: Array | None,
    usual: Array | None,
    near: Array | None,
) -> tuple[Part, ...]:
    """The parts of a sample (D,), what adds most first, at most `MOST`; `near` is the nearest reference sample."""
    sums = summed(flat[None], part_of, len(names))[0]
    raises = np.maximum(sums, 0).sum() or 1.0
    told = dict(zip(part_of[order := np.argsort(flat, kind="stable")].tolist(), order.tolist(), strict=True))
    parts = []
    for place in np.argsort(-sums, kind="stable")[:MOST].tolist():
        at, name = told[place], names[place]  # the value that adds most, which comes last
        text, numeric = f"{sample[at]:.5g}", True
        normal = None if near is None else f"{near[at]:.5g}"
        if isinstance(inputs, TableSchema):
            mine = part_of == place
            text, numeric = _cell(inputs, place, sample[mine])
            normal = None if near is None else _cell(inputs, place, near[mine])[0]
            at = int(np.argmax(mine)) if numeric else at
        rare = None if usual is None else (1 + int((usual[:, place] >= sums[place]).sum())) / (len(usual) + 1)
        parts.append(
            Part(
                name,
                float(sums[place]),
                float(np.maximum(sums[place], 0) / raises),
                text,
                float(rebuilt[at]) if rebuilt is not None and numeric else None,
                float(deviations[at]) if deviations is not None and numeric else None,
                rare,
                normal,
            )
        )
    return tuple(parts)


def _cell(schema: TableSchema, place: int, features: Array) -> tuple[str, bool]:
    """What stood in a column, from the features it became, and whether that was a number."""
    column = schema.columns[place]
    if column.kind == "category":
        return (*column.categories, "unknown")[int(np.argmax(features))], False
    missing = len(features) > 1 and features[1] > 0
    return ("missing", False) if missing else (f"{features[0]:.5g}", True)


def sentence_of(model: Model, parts: tuple[Part, ...], contributions: Array | None) -> str:
    """The explanation in plain words."""
    if contributions is None:
        return f"{type(model).__name__} does not split its score over its input: see the nearest normal samples"
    if not any(part.contribution > 0 for part in parts):
        return "nothing raises the score: each value is as expected"
    whole = "the score" if all(part.contribution >= 0 for part in parts) else "what raises the score"
    if contributions.ndim == 3:
        return _region(contributions, whole)
    first, *others = parts
    text = f"{_told(model, first)} carries {_percent(first.share)} of {whole}"
    if first.p_value is not None:
        text += f" (p = {first.p_value:.2g})"
    rest = [f"{part.name} {_percent(part.share)}" for part in others[:2] if part.share >= NAMED]
    return text + (f", then {' and '.join(rest)}" if rest else "")


def _told(model: Model, part: Part) -> str:
    """A part, and how far it is from what was expected."""
    if part.deviation is None:
        return f"{part.name} = {part.value}"
    kind, size = _unit(model), abs(part.deviation)
    far = f"{size:.3g}" if kind == "none" else _percent(size) if kind == "range" else f"{size:.1f}"
    way = "above" if part.deviation >= 0 else "below"
    expected = "its reconstruction" if isinstance(model, Detector) else model.expects
    return " ".join(filter(None, (part.name, far, UNITS.get(kind, ""), way, expected)))


def _unit(model: Model) -> str:
    """The kind of scaling of a model."""
    while isinstance(model, Composed):
        model = model.comparing
    return model.scaling if isinstance(model, Baseline) else model.scaling.kind


def _region(contributions: Array, whole: str) -> str:
    """Where half of the score of an image lies."""
    pixels = np.maximum(contributions.sum(0), 0)
    order = np.argsort(-pixels, axis=None, kind="stable")
    most = np.cumsum(pixels.ravel()[order])
    half = order[: int(np.searchsorted(most, most[-1] / 2)) + 1]
    rows, columns = np.unravel_index(half, pixels.shape)
    return (
        f"half of {whole} comes from {len(half)} of {pixels.size} pixels, in rows {rows.min()} to {rows.max()} and "
        f"columns {columns.min()} to {columns.max()}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
