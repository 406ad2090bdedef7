"""The door of scoring: what is accepted as raw samples, and the one line that says why something is not."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.channels import Timeline
from deepad.errors import InputError
from deepad.frames import as_frame, as_numbers, refuse_samples
from deepad.schema import TableSchema

Array = NDArray[Any]


def as_samples(x: Any, shape: tuple[int, ...], *, first: int = 0, missing: bool = False) -> Array:
    """Samples as a numeric array (N, *shape); the input is neither changed nor copied without need.

    A single grey channel may be left out: (N, H, W) is taken for (N, 1, H, W).

    Args:
        x: array, tensor on any device, nested list or data frame.
        shape: shape of one sample.
        first: row number of x[0], for messages.
        missing: whether values may be NaN.

    Raises:
        InputError: wrong shape, what `as_numbers` refuses, or NaN or infinite values.
    """
    array = as_numbers(x)
    if len(shape) == 3 and shape[0] == 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        hint = f": reshape one sample to (1, {', '.join(map(str, shape))})" if array.shape == shape else ""
        raise InputError(f"samples must have shape (N, {', '.join(map(str, shape))}), got {array.shape}{hint}")
    if array.dtype.kind == "f":
        finite = ~np.isinf(array) if missing else np.isfinite(array)
        bad = ~finite.all(axis=tuple(range(1, array.ndim)))
        if bad.any():
            refuse_samples(bad, ~finite[np.argmax(bad)], "NaN or infinite values", first)
    return array


def as_series(x: Any, width: int, inputs: Any) -> tuple[list[Array], NDArray[np.int64] | None]:
    """Unbroken stretches (n, C) of a series, and which of all their steps each row became (-1: none), None if its own.

    Args:
        x: one array or tensor (N, C), or, where the channels are known, a data frame of a recording or the `Timeline`
            that was read from one; or a list of such.
            Where the schema holds or splits at missing values it does so in arrays too, whose rows are taken to be in
            order and equally far apart.
        width: number of channels C.
        inputs: the `SeriesSchema` that reads data frames; None if the channels are not known.

    Raises:
        InputError: wrong shape or type, NaN or infinite values, a faulty recording, or no steps.
    """
    many = isinstance(x, list | tuple) and len(x) > 0 and not any(isinstance(part, list | tuple) for part in x)
    many = many and all(getattr(part, "ndim", 2) == 2 for part in x)
    stretches: list[Array] = []
    rows, seen, mapped = [np.empty(0, np.int64)], 0, False
    for part in x if many else [x]:
        read = part if isinstance(part, Timeline) else _recorded(part, width, inputs)
        if isinstance(read, Timeline):
            stretches += [read.values[segment] for segment in read.segments()]
            rows.append(np.where(read.step_of_row < 0, -1, read.step_of_row + seen))
            mapped = True
        else:
            stretches.append(read)
            rows.append(np.arange(seen, seen + len(read)))
        seen = sum(map(len, stretches))
    if not seen:
        raise InputError("got no steps to judge")
    return stretches, np.concatenate(rows) if mapped else None


def _recorded(part: Any, width: int, inputs: Any) -> Array | Timeline:
    """One recording: an array (n, C) as it is, unless values are missing that the schema may hold or split at."""
    frame = None if isinstance(part, np.ndarray | list | tuple) else as_frame(part)
    if frame is None:
        filled = inputs is not None and inputs.missing != "refuse"
        array = as_samples(part, (width,), missing=filled)
        line: Array | Timeline = inputs.read_array(array) if filled and np.isnan(array).any() else array
        return line
    if inputs is None:
        raise InputError("this scorer does not know its channels by name: pass the values as an array (N, C)")
    read: Timeline = inputs.read(frame)
    return read


def in_blocks(
    x: Any, shape: tuple[int, ...], size: int, *, labelled: bool = True, table: Any = None
) -> Iterator[Array]:
    """Samples in blocks of exactly `size` rows, but for the last, whatever the batches they arrive in.

    Args:
        x: samples as one array, or an iterable of batches (a DataLoader); of a labelled batch (x, y) only x is taken.
            Where the columns are known, a data frame, or an iterable of them.
        shape: shape of one sample.
        size: rows a block.
        labelled: whether batches (x, y) may come.
        table: the `TableSchema` that encodes data frames, if the columns are known; another schema counts as none.

    Raises:
        InputError: what `as_samples` refuses, or a labelled batch where none may come.
    """
    table = table if isinstance(table, TableSchema) else None
    whole = hasattr(x, "__array__") or hasattr(x, "tocsr") or isinstance(x, list) or not isinstance(x, Iterable)
    if isinstance(x, str | Path):
        raise InputError(f"got the path {x}: load it first, or use `deepad score`")
    if table is not None:
        frames = isinstance(x, list) and len(x) > 0 and as_frame(x[0]) is not None
        whole = as_frame(x) is not None or (whole and not frames)
    batches: Iterable[Any] = [x] if whole else x
    held: list[Array] = []
    count = row = 0
    for batch in batches:
        if isinstance(batch, tuple | list) and batches is x:
            if len(batch) > 1 and not labelled:
                raise InputError("got labelled batches (x, y) where x alone is taken: labels belong to test")
            batch = batch[0]
        for samples in _arrays(batch, shape, size, table, row):
            row += len(samples)
            held.append(samples)
            count += len(samples)
            if count >= size:
                joined = np.concatenate(held) if len(held) > 1 else held[0]
                full = count - count % size
                yield from (joined[start : start + size] for start in range(0, full, size))
                held, count = ([joined[full:]] if count % size else []), count % size
    if count:
        yield np.concatenate(held)


def _arrays(batch: Any, shape: tuple[int, ...], size: int, table: Any, first: int) -> Iterator[Array]:
    """A batch as an array, or the rows of a data frame encoded some at a time; `first`: number of its first row."""
    frame = None if table is None else as_frame(batch)
    if frame is None:
        yield as_samples(batch, shape, first=first)
        return
    for start in range(0, len(frame), size):
        encoded = table.encode(frame.slice(start, size), first=first + start)
        yield as_samples(encoded, shape, first=first + start)
