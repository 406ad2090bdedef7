"""What a table looks like to a model: which columns it has, and the numbers that each of them becomes.

    column of numbers       amount                       the value
      with a fill           amount, amount is missing    the value or the fill (the training median); 1 where missing
    column of categories    kind=a, kind=b, ...          1 for the value at hand, 0 for the others
                            kind=(unknown)               1 for a value that no training row had

A missing category, or empty text, is the value `(missing)`: one of the categories if training rows had it, else
unknown. A category is what is written: `3`, `3.0` and the number 3 are the same one, as are `True` and true; `03` and
`3` differ, so do `1.10` and `1.1`. A data frame that was read with `03` as a number
has lost the difference. A schema is learned from training rows only and kept with the model, so a saved scorer takes a
raw table without the training config. Text, true/false and dictionary columns are categories by themselves; dates are
refused, since what matters about them (the hour, the time since the last event) is not in the table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError
from deepad.frames import (
    EXACT,
    MISSING,
    as_frame,
    kind_of,
    listed,
    numbers_of,
    refuse_where,
    require_frame,
    spelling,
    type_name,
    words_of,
)

__all__ = ["Column", "TableSchema", "as_frame"]

UNKNOWN = "(unknown)"
MAX_FEATURES = 1 << 20
"""Most features of a schema: one that announces more was not learned from data."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: its name.
        kind: `"number"` or `"category"`.
        categories: the values that training rows had, as text; a whole number is written without a point.
        fill: what stands for a missing number; without it, a missing number is refused.

    Raises:
        ValueError: values of other types, repeated categories, or what belongs to the other kind.
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()
    fill: float | None = None

    def __post_init__(self) -> None:
        if type(self.categories) is not tuple or not all(type(text) is str for text in (self.name, *self.categories)):
            raise ValueError("the name and the categories of a column must be text")
        for text in (self.name, *self.categories):
            text.encode()  # half a surrogate pair, which JSON can spell, is no text: UnicodeEncodeError, a ValueError
        if self.kind not in ("number", "category"):
            raise ValueError(f"a column is a number or a category, got {self.kind!r}")
        if (self.kind == "category") != bool(self.categories):
            raise ValueError(f"column {self.name!r}: categories belong to every category column, and to no other")
        if len(set(self.categories)) != len(self.categories) or UNKNOWN in self.categories:
            raise ValueError(f"column {self.name!r}: categories must differ from each other and from {UNKNOWN}")
        numeric = type(self.fill) is float and math.isfinite(self.fill)
        if self.fill is not None and not (numeric and self.kind == "number"):
            raise ValueError(f"column {self.name!r}: fill must be a finite number, in a column of numbers")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features it becomes."""
        if self.kind == "category":
            return tuple(f"{self.name}={value}" for value in (*self.categories, UNKNOWN))
        return (self.name,) if self.fill is None else (self.name, f"{self.name} is missing")

    def write(self, values: Any, features: NDArray[np.float64], first: int) -> None:
        """Encode an Arrow column (N,) into zeros (N, F).

        Raises:
            InputError: values of another kind, or that cannot be encoded.
        """
        kind = kind_of(self.name, values.type)
        if self.kind == "category":
            codes, words = words_of(values)
            place = {_category(word): position for position, word in enumerate(self.categories)}
            chosen = np.array([place.get(_category(word), len(self.categories)) for word in words])
            features[np.arange(len(codes)), chosen[codes]] = 1
            return
        if kind != "number":
            raise InputError(
                f"column {self.name!r} holds {type_name(values.type)}, numbers were learned: convert it to numbers"
            )
        numbers = numbers_of(self.name, values, first)
        missing = np.isnan(numbers)
        if self.fill is None:
            advice = "fill or drop them, or train with missing='median'"
            refuse_where(missing, self.name, "missing values", advice, first)
            features[:, 0] = numbers
        else:
            features[:, 0], features[:, 1] = np.where(missing, self.fill, numbers), missing


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table in order, and how they become features.

    Raises:
        ValueError: no column, two of one name, or too many features.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise ValueError("a table must have columns, each with a name of its own")
        if sum(len(column.categories) + 2 for column in self.columns) > MAX_FEATURES:
            raise ValueError(f"a table becomes at most {MAX_FEATURES} features")

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features, in order."""
        return tuple(name for column in self.columns for name in column.features)

    @cached_property
    def columns_of_features(self) -> tuple[int, ...]:
        """Which of the columns each feature belongs to, by its place: contributions add up over it."""
        return tuple(place for place, column in enumerate(self.columns) for _ in column.features)

    @cached_property
    def indicators(self) -> tuple[int, ...]:
        """Places of the features that say whether something is so, by 0 or 1: all but the numbers themselves."""
        numbers = {column.name for column in self.columns if column.kind == "number"}
        return tuple(place for place, name in enumerate(self.features) if name not in numbers)

    @property
    def size(self) -> int:
        """Number of encoded features."""
        return len(self.features)

    @classmethod
    def learn(
        cls,
        frame: Any,
        *,
        rows: Any = None,
        categorical: Sequence[str] | None = None,
        missing: Literal["refuse", "median"] = "refuse",
        max_categories: int = 64,
    ) -> "TableSchema":
        """Learn a schema from the training rows of a table; the values themselves are checked by `encode`.

        Args:
            frame: what `as_frame` takes.
            rows: the training rows, as positions or as a mask (N,); all if not given.
            categorical: columns of numbers that are categories nevertheless, such as codes.
            missing: `"refuse"` missing numbers, or let the `"median"` of the training rows stand for them, in any
                column of numbers. Missing categories are values of their own either way.
            max_categories: most distinct values of a column of categories.

        Raises:
            InputError: a column that is neither number nor category, has too many categories or no values at all.
            ValueError: an argument out of range.
        """
        if missing not in ("refuse", "median") or max_categories < 1:
            raise ValueError(
                f"need missing='refuse' or 'median' and max_categories >= 1, got {missing!r} and {max_categories}"
            )
        table = require_frame(frame)
        absent = [name for name in categorical or () if name not in table.column_names]
        if absent:
            raise InputError(
                f"no columns {listed(absent)} to take as categories: there are {listed(table.column_names)}"
            )
        if rows is not None:
            chosen = np.asarray(rows)
            table = table.take(np.flatnonzero(chosen) if chosen.dtype == bool else chosen)
        if not table.num_rows or not table.num_columns:
            raise InputError(f"a schema needs rows and columns, got {table.num_rows} x {table.num_columns}")
        columns = []
        for name, values in zip(table.column_names, table.columns, strict=True):
            if kind_of(name, values.type) == "category" or name in (categorical or ()):
                columns.append(Column(name, "category", _categories(name, values, max_categories)))
            else:
                median = _median(name, values)
                columns.append(Column(name, "number", fill=median if missing == "median" else None))
        return cls(tuple(columns))

    def encode(self, frame: Any, *, first: int = 0) -> NDArray[np.float64]:
        """The rows of a table as features (N, size).

        Args:
            frame: what `as_frame` takes, with the columns of the schema in their order.
            first: number of its first row, for messages.

        Raises:
            InputError: other columns, other types, missing or infinite numbers, whole numbers beyond 2**53.
        """
        table = require_frame(frame)
        self._require_columns(table.column_names)
        encoded = np.zeros((table.num_rows, self.size))
        at = 0
        for column in self.columns:
            stop = at + len(column.features)
            column.write(table.column(column.name), encoded[:, at:stop], first)
            at = stop
        return encoded

    def _require_columns(self, names: list[str]) -> None:
        known = [column.name for column in self.columns]
        lacking = [name for name in known if name not in set(names)]
        extra = [name for name in names if name not in set(known)]
        if lacking or extra:
            parts = [f"lacks the columns {listed(lacking)}"] * bool(lacking)
            parts += [f"has the columns {listed(extra)}, which the model does not know: drop them"] * bool(extra)
            raise InputError(f"the table {' and '.join(parts)}; the model takes {listed(known)}")
        if names != known:
            place = next(i for i, pair in enumerate(zip(names, known, strict=True)) if pair[0] != pair[1])
            raise InputError(
                f"the columns are in another order than in training (column {place} is {names[place]!r}, was "
                f"{known[place]!r}): put them in the order {listed(known)}"
            )

    # ---- keeping it --------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `from_dict` reads them."""
        columns = [vars(column) | {"categories": list(column.categories)} for column in self.columns]
        return {"kind": "table", "columns": columns}

    @classmethod
    def from_dict(cls, document: Any) -> "TableSchema":
        """Read what `to_dict` wrote, from a file that others may have written.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(document, dict) or document.keys() != {"kind", "columns"} or document["kind"] != "table":
            raise ValueError("this does not describe a table")
        described = document["columns"]
        if not isinstance(described, list) or len(described) > MAX_FEATURES:
            raise ValueError(f"the columns of a table are a list of at most {MAX_FEATURES}")
        columns = []
        for entry in described:
            if not isinstance(entry, dict) or entry.keys() != {"name", "kind", "categories", "fill"}:
                raise ValueError("a column has a name, a kind, categories and a fill, and nothing else")
            if not isinstance(entry["categories"], list) or not isinstance(entry["kind"], str):
                raise ValueError("the kind of a column is text and its categories are a list")
            fill = entry["fill"]
            if type(fill) is int and abs(fill) <= EXACT:  # JSON may write 3.0 as 3
                fill = float(fill)
            columns.append(Column(entry["name"], entry["kind"], tuple(entry["categories"]), fill))  # type: ignore[arg-type]
        return cls(tuple(columns))


def _category(word: str) -> str:
    """The category a value is, whatever file or frame it came from: an empty cell is a missing one."""
    return spelling(word) if word else MISSING


def _categories(name: str, values: Any, most: int) -> tuple[str, ...]:
    codes, words = words_of(values)
    found = sorted({_category(words[code]) for code in np.unique(codes)} - {UNKNOWN})
    if not set(found) - {MISSING}:
        raise InputError(f"column {name!r} has no values in the training rows: drop it")
    if len(found) > most:
        raise InputError(
            f"column {name!r} has {len(found)} distinct values in the training rows, at most max_categories={most} "
            "become features: drop it (ignore), or raise max_categories"
        )
    return tuple(found)


def _median(name: str, values: Any) -> float:
    import pyarrow as pa

    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        raise InputError(f"column {name!r} has no values in the training rows: drop it")
    return float(np.median(present))
