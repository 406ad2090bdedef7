"""Data frames of any library as one Arrow table, what its columns hold (numbers or categories), arrays of numbers."""

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError, visible

Frame = Any  # a pyarrow.Table, which has no types to import
MISSING = "(missing)"
"""How a missing category is written."""
EXACT = 1 << 53
"""Whole numbers beyond this are not exact as float64, so different ids would look the same."""
_WHOLE = re.compile(r"(0|-?[1-9][0-9]*)\.0+")


def as_frame(x: Any) -> Frame | None:
    """A data frame as a `pyarrow.Table`, its index dropped; None if x is no data frame.

    Args:
        x: a frame of pandas, polars, pyarrow, or any other with `__arrow_c_stream__` or `__dataframe__`.

    Raises:
        InputError: column names that are not text or that repeat, or a column of mixed types.
    """
    pandas = any(base.__module__.partition(".")[0] == "pandas" for base in type(x).__mro__)
    framed = hasattr(x, "columns") or hasattr(x, "schema")
    if not framed or not (pandas or hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__")):
        return None
    import pyarrow as pa

    names = list(getattr(x, "columns", ())) if pandas else []
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"the columns of a table must be named by text, got {listed(list(map(repr, names)))}")
    _require_unique(names)
    try:
        if pandas:
            table = pa.Table.from_pandas(x, preserve_index=False)
        elif hasattr(x, "__arrow_c_stream__"):
            table = x if isinstance(x, pa.Table) else pa.table(x)
        else:
            from pyarrow.interchange import from_dataframe

            table = from_dataframe(x)
    except (pa.ArrowException, TypeError, ValueError) as error:  # what follows the first words are the data themselves
        where = [text for text in map(str, error.args) if text.startswith("Conversion failed for column")]
        reason = where[0] if where else type(error).__name__
        raise InputError(f"the data frame cannot be read ({reason}): give each column one type") from None
    _require_unique(table.column_names)
    return table


def _require_unique(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(f"the columns {listed(repeated)} occur more than once: rename or drop them")


def require_frame(x: Any) -> Frame:
    """What `as_frame` gives.

    Raises:
        InputError: x is no data frame, or one that cannot be read.
    """
    table = as_frame(x)
    if table is None:
        raise InputError(
            f"got {type(x).__name__} where a table is taken: give a data frame of pandas, polars or pyarrow"
        )
    return table


def kind_of(name: str, kind: Any) -> str:
    """`"number"` or `"category"`: what a column of this Arrow type holds.

    Raises:
        InputError: neither.
    """
    from pyarrow import types

    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return "number"
    if types.is_dictionary(kind):
        kind_of(name, kind.value_type)
        return "category"
    if is_text(kind) or types.is_boolean(kind):
        return "category"
    if types.is_temporal(kind):
        advice = "turn it into numbers (the hour, seconds since the last event) or drop it"
    else:
        advice = "turn it into numbers or text, or drop it"
    raise InputError(f"column {name!r} holds {type_name(kind)}: {advice}")


def is_text(kind: Any) -> bool:
    """Whether this Arrow type is text."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def type_name(kind: Any) -> str:
    """What values of this Arrow type are called in messages."""
    from pyarrow import types

    known = {types.is_temporal: "dates or times", types.is_boolean: "true and false", is_text: "text"}
    return next((name for test, name in known.items() if test(kind)), f"values of type {kind}")


def numbers_of(name: str, values: Any, first: int) -> NDArray[np.float64]:
    """A column of numbers (N,), NaN where missing.

    Raises:
        InputError: infinite values, or whole numbers beyond 2**53.
    """
    import pyarrow as pa

    if pa.types.is_integer(values.type):
        whole = values.fill_null(0).to_numpy()
        large = whole > EXACT
        if whole.dtype.kind == "i":
            large |= whole < -EXACT
        advice = "take an id as text or drop it; subtract an offset from a count"
        refuse_where(large, name, "whole numbers beyond 2**53", advice, first)
    numbers = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    refuse_where(np.isinf(numbers), name, "infinite values", "drop or replace them", first)
    return numbers


def refuse_where(bad: NDArray[np.bool_], name: str, what: str, advice: str, first: int) -> None:
    """Raise `InputError` if some values (N,) of a column are bad, with their number and the first row."""
    if bad.any():
        where = f"first at row {first + int(np.argmax(bad))}"
        raise InputError(f"column {name!r} has {int(bad.sum())} {what} ({where}): {advice}")


def refuse_samples(bad: NDArray[np.bool_], inside: NDArray[np.bool_], what: str, first: int = 0) -> None:
    """Raise `InputError` if some samples (N,) are bad, with their number and the place of the first bad value.

    Args:
        bad: which samples are, (N,).
        inside: which values (*shape) of the first such sample are.
        what: what they hold.
        first: number of the first sample.
    """
    if not bad.any():
        return
    place = [int(axis) for axis in np.unravel_index(int(np.argmax(inside)), inside.shape)]
    inner = f"column {place[0]}" if len(place) == 1 else f"place {tuple(place)}"
    where = f"first at row {first + int(np.argmax(bad))}, {inner}"
    raise InputError(f"{int(bad.sum())} of {len(bad)} samples hold {what} ({where}): drop or fill them first")


def as_numbers(x: Any) -> NDArray[Any]:
    """Real numbers of any width as an array, neither changed nor copied without need.

    Whole numbers that float64 does not tell from their neighbours are taken with a warning.

    Args:
        x: array, tensor on any device, nested list or data frame.

    Raises:
        InputError: a sparse or masked array, lists of different lengths, or values that are no real numbers.
    """
    if hasattr(x, "tocsr") or "sparse" in str(getattr(x, "layout", "")):
        raise InputError("got a sparse matrix: pass a dense one (toarray() or to_dense())")
    x = from_tensor(x)
    if isinstance(x, np.ma.MaskedArray):
        raise InputError("got a masked array: fill or drop the masked values first")
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise InputError(f"samples do not all have the same shape: {error}") from None
    if array.dtype.kind == "O" and hasattr(x, "to_numpy"):
        try:
            array = np.asarray(x.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError):
            raise InputError("the data frame has columns that are not numbers: encode or drop them") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"samples must be real numbers, got dtype {array.dtype}")
    if (
        array.dtype.kind in "iu"
        and array.itemsize == 8
        and array.size
        and max(int(array.max()), -int(array.min())) > EXACT
    ):
        warnings.warn(
            "whole numbers beyond 2**53 are not exact in float64, so different ones may look the same: subtract an "
            "offset from a count, leave an id out",
            stacklevel=3,
        )
    return array


def from_tensor(x: Any) -> Any:
    """A torch tensor on any device as an array, half widths as float32 (NumPy has no bfloat16); all else as it is."""
    if not hasattr(x, "detach"):
        return x
    x = x.detach().cpu()
    return x.float().numpy() if x.is_floating_point() and x.dtype.itemsize == 2 else x.numpy()


def words_of(values: Any) -> tuple[NDArray[np.int64], list[str]]:
    """A column of categories as codes (N,) into distinct values, written as text; a missing value is the last."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_text(values.type):
        values = values.cast(pa.large_string())
    if pa.types.is_null(values.type) or not len(values):
        return np.full(len(values), -1), [MISSING]
    encoded = values.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes, [*map(written, encoded.dictionary.to_pylist()), MISSING]


def written(value: Any) -> str:
    """A category as text: whole numbers without a point, NaN as missing."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return MISSING
    return str(int(number)) if number.is_integer() and abs(number) <= EXACT else repr(number)


def spelling(word: str) -> str:
    """One spelling for what files spell in several ways: `3.0` is `3`, `True` is `true`; `03` and `1.10` are codes."""
    if word in ("True", "TRUE", "False", "FALSE"):
        return word.lower()
    whole = _WHOLE.fullmatch(word)
    return word if whole is None else whole[1]


def is_anomaly(name: str, labels: Any, anomalous: Sequence[int | float | str], *, present: bool) -> NDArray[np.int64]:
    """1 where a label is one of the anomalous values, (N,).

    Args:
        name: what the labels are called in messages.
        labels: Arrow column of numbers, text or truth values (N,).
        anomalous: values that mean anomaly; numbers and truth values may be given as text.
        present: whether each of them must occur.

    Raises:
        InputError: missing labels, labels that are dates, or no label that is one of the values.
    """
    kind_of(name, labels.type)  # refuses dates
    codes, words = words_of(labels)
    refuse_where(np.array([word == MISSING for word in words])[codes], name, "labels missing", "fill or drop them", 0)
    spelled = [spelling(word) for word in words]
    occur = sorted({spelled[code] for code in np.unique(codes)})
    wanted = {spelling(written(int(value) if isinstance(value, bool) else value)) for value in anomalous}
    if str(labels.type) == "bool":
        wanted = {{"1": "true", "0": "false"}.get(value, value) for value in wanted}
    absent = sorted(wanted - set(occur)) if present else []
    if absent or not wanted:
        raise InputError(
            f"no label is {' or '.join(absent) or 'given as anomalous'}: the values of {name!r} are {listed(occur)}; "
            "give some of them as anomalous"
        )
    return np.array([word in wanted for word in spelled], np.int64)[codes]


def several(given: Any) -> list[Any]:
    """A list of what was given, which may be one text or number."""
    return [given] if isinstance(given, str | int | float) else list(given)


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are; of one that would not fit into a line of text its beginning."""
    shown = (visible(name[:60]) + "..." * (len(name) > 60) for name in names[:6])
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
