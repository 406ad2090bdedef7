"""What the verbs of the command line read: files as a scorer takes them, in parts.

| a scorer of      | takes                                                                                     |
|------------------|-------------------------------------------------------------------------------------------|
| samples          | images, arrays, tables whose rows are laid out as samples, by position                    |
| rows of a table  | CSV and Parquet, or a folder of them, by the names of the columns; `.npz` and `.npy`: rows  |
|                  | of columns x0, x1, ... if it was trained on such (a table from `.npz`), else encoded rows  |
| steps of a series| one recording a file, or a folder of them: CSV and Parquet by the names of the channels,   |
|                  | `.npy` of shape (N, C)                                                                    |

Categories are read from CSV as they are written, so a row means the same whatever stands beside it.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.compute import replace_substring_regex
from tqdm import tqdm

from deepad.channels import SeriesSchema
from deepad.data.arrays import BATCH
from deepad.data.files import read_samples
from deepad.data.recordings import FILES, Reader
from deepad.data.tables import ARRAYS, TABLES, find_tables, read_table, record_batches
from deepad.data.windows import StepRule
from deepad.errors import InputError, naming
from deepad.frames import listed
from deepad.schema import TableSchema
from deepad.scoring.grouping import Grouping, grouped, split_table
from deepad.scoring.models import Schema


@dataclass(frozen=True)
class Part:
    """Some of the input, as a scorer takes it.

    Attributes:
        x: samples, or a series.
        source: (B,) the file each came from.
        index: (B,) its row in that file.
        y: (B,) labels, if they were asked for by name.
        time: (B,) timestamps as text, where rows have them.
        notes: what was done to a recording, in words.
        groups: of its rows, for a series of its steps, if they were asked for.
    """

    x: Any
    source: list[str]
    index: NDArray[np.int64]
    y: NDArray[Any] | None = None
    time: pa.Array | None = None
    notes: tuple[str, ...] = ()
    groups: Grouping | None = None


def read_parts(
    options: Namespace,
    shape: tuple[int, ...],
    inputs: Schema | None,
    steps: StepRule | None,
    notes: list[str],
    label: str | None = None,
    groups: str | None = None,
) -> Iterator[Part]:
    """Parts of the inputs under a progress bar, which shows on terminals only.

    Args:
        options: of the command line: `inputs`, `ignore` and `intervals`.
        shape: of one sample.
        inputs: columns of the table or channels of the series.
        steps: how steps are scored; None for samples.
        notes: what was done to recordings is added to them.
        label: name of the column or array of labels.
        groups: name of the column, or of a part of the clock, that groups rows.
    """
    parts: Iterator[Part]
    if groups is not None and (inputs is None or not (steps is not None or isinstance(inputs, TableSchema))):
        raise InputError(f"groups={groups!r} is for columns of tables and times of series, this model takes neither")
    if options.ignore and inputs is None:
        raise InputError(
            "--ignore is for columns of tables and series, this model takes samples by position: leave it out"
        )
    if steps is not None:
        paths = chain.from_iterable(_files(path, FILES) for path in options.inputs)
        intervals = getattr(options, "intervals", None)
        parts = (_recording(path, shape, inputs, label, groups, options.ignore, intervals) for path in paths)
    elif isinstance(inputs, TableSchema):
        paths = chain.from_iterable(_files(path, TABLES) for path in options.inputs)
        parts = chain.from_iterable(_rows(path, inputs, options.ignore, label, groups) for path in paths)
    else:
        parts = map(_sample_part, read_samples(options.inputs, shape, label=label))
    first = next(parts, None)
    with tqdm(unit=" rows", unit_scale=True, disable=None, desc="reading") as bar:
        for part in chain([] if first is None else [first], parts):
            notes += part.notes
            yield part
            bar.update(len(part.source))


def _sample_part(batch: Any) -> Part:
    return Part(batch.x, batch.source, batch.index, batch.y)


def _files(path: str, kinds: frozenset[str]) -> list[Path]:
    """The file, or the files of such kinds in the folder."""
    return find_tables(path, kinds=kinds) if Path(path).is_dir() else [Path(path)]


def _rows(
    path: Path, schema: TableSchema, ignore: Sequence[str], label: str | None, groups: str | None
) -> Iterator[Part]:
    """Encoded rows of a table by the names of its columns, or of an array by position."""
    suffix = path.suffix.lower()
    counted = all(column.name[0:1] == "x" and column.name[1:].isdecimal() for column in schema.columns)
    if suffix in TABLES or (suffix in ARRAYS and counted):
        text = {column.name for column in schema.columns if column.kind == "category"}
        batches = (pa.Table.from_batches([batch]) for batch in record_batches(path, label=label, text=text))
    else:
        if ignore:
            raise InputError(f"{path} holds encoded rows, whose columns have no names to --ignore: leave it out")
        if groups is not None:
            raise InputError(f"{path} holds encoded rows, whose columns have no names to group by {groups!r}")
        yield from map(_sample_part, read_samples([path], (schema.size,), label=label))
        return
    row = 0
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            with naming(path):
                table, y = _chosen(batch.slice(start, BATCH), label, ignore)
                table, grouping = (table, None) if groups is None else split_table(table, groups, schema)
                x = schema.encode(table, first=row)
            yield Part(x, [str(path)] * len(x), np.arange(row, row + len(x)), y, groups=grouping)
            row += len(x)
    if row == 0:
        raise InputError(f"{path} holds no rows")


def _recording(
    path: Path,
    shape: tuple[int, ...],
    inputs: Schema | None,
    label: str | None,
    groups: str | None,
    ignore: Sequence[str],
    intervals: str | None,
) -> Part:
    """One recording, with one entry a row."""
    time = y = None
    notes: tuple[str, ...] = ()
    if path.suffix.lower() == ".npy" or not isinstance(inputs, SeriesSchema):
        if ignore or intervals:
            raise InputError(f"{path} has neither names of columns nor timestamps: leave out --ignore and --intervals")
        batches = list(read_samples([path], shape[1:], label=label))
        x: Any = np.concatenate([batch.x for batch in batches])
        y = None if label is None else np.concatenate([batch.y for batch in batches if batch.y is not None])
        if isinstance(inputs, SeriesSchema) and inputs.time is not None:
            time = pa.nulls(len(x), pa.string())  # the same columns for every file
        rows = len(x)
    else:
        table = read_table(path)
        with naming(path):
            table, y = _chosen(table, label, ignore)
            x = inputs.read(table)
            done = list(x.notes)
            if intervals is not None:
                source = "/".join(path.parts[-2:])
                labels, missed = Reader(intervals=intervals).labels(source, table, x, inputs.zoned)
                y, done = labels[x.place_of_row], [*done, *missed]
        notes = tuple(f"{path}: {note}" for note in done)
        if inputs.time is not None:
            written = table.column(inputs.time).cast(pa.string()).combine_chunks()
            time = replace_substring_regex(written, r"(:\d\d)\.0+(Z?)$", r"\1\2")  # no fraction where it is 0
        rows = len(table)
    with naming(path):
        grouping = None if groups is None else grouped(x, groups, inputs, stepwise=True)[1]
    return Part(x, [str(path)] * rows, np.arange(rows), y, time, notes, grouping)


def _chosen(table: pa.Table, label: str | None, ignore: Sequence[str]) -> tuple[pa.Table, NDArray[Any] | None]:
    """The table without its labels and what is ignored; and the labels, if they are asked for."""
    names = table.column_names
    if unknown := [name for name in ignore if name not in names]:
        raise InputError(f"no columns {listed(unknown)} to ignore: there are {listed(names)}")
    if label is not None and names.count(label) != 1:
        raise InputError(f"there must be one column {label!r} for labels, there are {listed(names)}")
    y = None if label is None else table.column(label).to_numpy()
    return table.drop_columns(list({name for name in (*ignore, label) if name is not None})), y


def as_column(labels: NDArray[Any], where: str) -> Any:
    """Labels of all files as one Arrow column."""
    try:
        return pa.chunked_array([labels.tolist() if labels.dtype.kind in "OU" else labels])
    except pa.ArrowException:
        raise InputError(f"the labels {where} are of several types: give each file the same") from None
