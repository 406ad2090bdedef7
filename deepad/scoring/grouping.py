"""Where the groups of raw input come from: a column of a table, or the clock of a series."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepad.channels import SeriesSchema, Timeline
from deepad.clock import time_column, times_of
from deepad.errors import InputError
from deepad.frames import as_frame, listed
from deepad.schema import TableSchema
from deepad.scoring.groups import CLOCK, as_groups
from deepad.scoring.models import Schema

GIVEN = "(given)"
"""Name of groups that the caller gave by hand."""


class Grouping(NamedTuple):
    """Groups of samples.

    Attributes:
        name: the column they are of, `"hour"` or `"weekday"` of a time, or `"(given)"`.
        labels: (N,) names of groups, one a sample; for a series one a step, those of all stretches.
    """

    name: str
    labels: NDArray[np.str_]


def grouped(x: Any, groups: Any, inputs: Schema | None, *, stepwise: bool) -> tuple[Any, Grouping]:
    """The input without the column that groups it (unless the model takes that too), and its groups.

    Args:
        x: as a scorer takes it.
        groups: name of a column or of a part of the clock; or groups (N,) themselves.
        inputs: columns of the table or channels of the series that the model takes.
        stepwise: whether the steps of a series are scored.

    Raises:
        InputError: no such column, or no times.
    """
    if isinstance(groups, Grouping):
        return x, groups
    if not isinstance(groups, str):
        return x, Grouping(GIVEN, as_groups(groups))
    if stepwise:
        return x, Grouping(groups, _of_series(x, groups, inputs))
    table = as_frame(x)
    if table is None:
        raise InputError(f"groups={groups!r} is a column of a data frame, got {type(x).__name__}: give the groups (N,)")
    return split_table(table, groups, inputs)


def split_table(table: Any, name: str, inputs: Schema | None) -> tuple[Any, Grouping]:
    """A table without the column that groups its rows, unless the model takes that too, and the groups."""
    taken = {column.name for column in inputs.columns} if isinstance(inputs, TableSchema) else set()
    if name in table.column_names:
        column = table.column(name)
        labels = as_groups(np.asarray(column) if _is_number(column) else np.array(column.to_pylist(), object))
        return (table if name in taken else table.drop_columns([name])), Grouping(name, labels)
    clock = time_column(table) if name in CLOCK else None
    if clock is None:
        raise InputError(f"there is no column {name!r} to group by: there are {listed(table.column_names)}")
    times, _ = times_of(table, clock)
    return (table if clock in taken else table.drop_columns([clock])), Grouping(name, as_groups(CLOCK[name](times)))


def _is_number(column: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(column.type) or types.is_integer(column.type)) and column.null_count == 0


def _of_series(x: Any, name: str, inputs: Schema | None) -> NDArray[np.str_]:
    """Groups of the steps of all recordings, in their order."""
    if name not in CLOCK:
        raise InputError(f"the steps of a series are grouped by {' or '.join(CLOCK)}, got {name!r}")
    found = []
    for part in x if isinstance(x, list | tuple) else [x]:
        frame = None if isinstance(part, np.ndarray | Timeline) else as_frame(part)
        read = inputs.read(frame) if frame is not None and isinstance(inputs, SeriesSchema) else part
        time = getattr(read, "time", None)
        if time is None:
            raise InputError(f"groups={name!r} needs timestamps: give recordings with them, not arrays")
        found.append(CLOCK[name](time))
    return as_groups(np.concatenate(found))


def regrouped(
    x: Any, groups: Any, name: str | None, inputs: Any, *, stepwise: bool
) -> tuple[Any, NDArray[np.str_] | None]:
    """Input for a scorer whose groups have this name, as its model takes it, and the group of each sample or step.

    Args:
        x: the input; None for scores alone.
        groups: of the samples or steps, where they cannot be read from x.
        name: None for a scorer without groups.
        inputs: the schema of the input.
        stepwise: whether it is a series.

    Raises:
        InputError: groups that are not asked for, or none where they are needed.
    """
    if name is None:
        if groups is not None:
            raise InputError("this scorer was calibrated without groups: leave them out")
        return x, None
    if groups is None and (x is None or name == GIVEN):
        raise InputError(f"this scorer decides by groups ({name}): give the groups of the samples")
    x, grouping = grouped(x, name if groups is None else groups, inputs, stepwise=stepwise)
    return x, grouping.labels
