"""Tables in files: CSV, Parquet, and arrays whose columns are numbered, in batches or whole."""

import csv
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepad.data.arrays import (
    BATCH,
    in_proportion,
    npy_slices,
    npz_slices,
    proportion,
    read_array,
    reading,
    require_file,
    require_proportion,
    require_table,
    require_width,
)
from deepad.errors import InputError
from deepad.frames import is_text, listed

TABLES = frozenset({".csv", ".parquet"})
ARRAYS = frozenset({".npy", ".npz"})
TEXT = 1 << 26
"""Most bytes of text in a column of a batch: 16 KB a row."""
LINE = 1_500_000
"""Most characters of the first line of a CSV file: 50 for the name of each of 30 000 columns."""
FIELD = 1 << 17
"""Most characters of one field of it."""


def read_table(path: Path, *, label: str | None = None, text: Collection[str] = ()) -> Any:
    """A whole table as a `pyarrow.Table`; see `record_batches`. `text`: such columns of whole numbers or truth values
    in a Parquet file become text, too.

    Raises:
        InputError: the file is missing, unreadable, of another kind, without rows or out of proportion to them.
    """
    import pyarrow as pa

    batches = in_proportion(path, record_batches(path, label=label, text=text))
    with reading(path):
        if not sum(map(len, batches)):
            raise InputError(f"{path} holds no rows")
        return _with_text(pa.Table.from_batches(batches), text)


def _with_text(table: Any, text: Collection[str]) -> Any:
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.name in text and (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


def record_batches(path: Path, *, label: str | None = None, text: Collection[str] = ()) -> Iterator[Any]:
    """Arrow record batches of a table: CSV, Parquet, or an array (N, D) as columns x0, x1, and so on: that of an `.npy`
    file, or x or X of an `.npz` file, with the array `label` (N,) as a further column.

    CSV is separated by comma, semicolon or tab, whichever its first line holds most of; if that line is a row of
    numbers, there is no header. Whole numbers of a CSV file come as float64.

    Args:
        path: the file.
        label: of an `.npz` file.
        text: columns of a CSV file that are taken as they are written; the types of others are guessed from the first
            rows, so what `01` is depends on its neighbours.

    Raises:
        InputError: the file is missing, or none of that kind.
    """
    require_file(path)
    suffix = path.suffix.lower()
    if suffix not in (*TABLES, *ARRAYS):
        raise InputError(f"{path} is no table: give .csv, .parquet, .npz or .npy")
    with reading(path):
        if suffix in ARRAYS:
            yield from _columns(path, label)
        else:
            yield from _parquet(path) if suffix == ".parquet" else _csv(path, text)


def _columns(path: Path, label: str | None) -> Iterator[Any]:
    import pyarrow as pa

    if path.suffix.lower() == ".npz":
        parts = npz_slices(path, label, None)
    else:
        x = read_array(path)
        require_table(path, x)
        parts = npy_slices(path, x, x.shape[1:])
    for x, y in parts:
        columns = [pa.array(column) for column in np.ascontiguousarray((x * 1).T)]  # true and false become 1 and 0
        names = [f"x{place}" for place in range(len(columns))]
        if y is not None and label is not None:
            columns, names = [*columns, pa.array(y)], [*names, label]
        yield pa.RecordBatch.from_arrays(columns, names)


def _parquet(path: Path) -> Iterator[Any]:
    """Row groups are believed, within bounds; a text of a megabyte that a million rows repeat is not written out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    # room is made at once for as many entries as are announced; those there can be many of take more bytes than this
    bounds = {"thrift_string_size_limit": size, "thrift_container_size_limit": min(64 + size // 4, 1_000_000)}
    with pq.ParquetFile(path, **bounds) as file:
        require_width(path, file.metadata.num_columns)
        _require_pages(path, file.metadata)
        schema = file.schema_arrow
        # column chunks are read piece by piece, not a row group at a time, which may be the whole file
        how = {"pre_buffer": False, "buffer_size": 1 << 14, "metadata": file.metadata, **bounds}
    texts = [field.name for field in schema if is_text(field.type)]
    long: set[str] = set()
    if texts:
        with pq.ParquetFile(path, read_dictionary=texts, **how) as file:
            long = _long_texts(file, texts)
    with pq.ParquetFile(path, read_dictionary=sorted(long), **how) as file:
        for batch in file.iter_batches(BATCH):
            columns = batch.columns
            for place, field in enumerate(schema):
                if field.name in long:
                    columns[place] = _written_out(path, field.name, columns[place], field.type)
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _require_pages(path: Path, metadata: Any) -> None:
    """Refuse a column that could be one page out of proportion to its file: a page is unpacked whole, and pyarrow says
    neither how many there are nor how large they are."""
    most = proportion(path)
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.total_byte_size > most:
            require_proportion(path, group.total_byte_size)
            if any(group.column(place).total_uncompressed_size > most for place in range(group.num_columns)):
                raise InputError(
                    f"{path} of {path.stat().st_size} bytes unpacks to more than {most} bytes in a column of a row "
                    "group: write it with smaller row groups"
                )


def _long_texts(file: Any, names: list[str]) -> set[str]:
    """Columns of text of which rows may share a text so long that it must not be written out unseen.

    Others are read without their dictionary, which is ten times as fast where no two texts are the same. It comes with
    the first row of a row group.
    """
    import pyarrow.compute as pc

    long: set[str] = set()
    for group in range(file.num_row_groups):
        short = [name for name in names if name not in long]
        for batch in file.iter_batches(1, row_groups=[group], columns=short):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                # asked for a, pyarrow gives a.b as well
                longest = pc.max(pc.binary_length(column.dictionary)).as_py() if name in short else 0
                if (longest or 0) * BATCH > TEXT:
                    long.add(name)
            break
    return long


def _written_out(path: Path, name: str, column: Any, kind: Any) -> Any:
    """A column of text, of which the file may hold each value once."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if not types.is_dictionary(column.type):
        return column
    size = pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
    if size > TEXT:
        raise InputError(
            f"{path} holds {size} bytes of text in {len(column)} rows of {listed([name])}: drop that column"
        )
    return column.cast(pa.large_string()).cast(kind)  # by way of it, since Arrow casts none to a view


def _csv(path: Path, text: Collection[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    line = _first_line(path)
    delimiter, first = max(((mark, _fields(line, mark)) for mark in ",;\t"), key=lambda pair: len(pair[1]))
    if len(line) > FIELD and not first:
        raise InputError(f"{path} has a first line with a field of more than {FIELD} characters: give shorter names")
    require_width(path, len(first))
    # a row must fit into a block
    block = max(1 << 20, 64 * len(first), 4 * len(line))
    options = arrow_csv.ReadOptions(autogenerate_column_names=_is_data(first), block_size=block)
    parse = arrow_csv.ParseOptions(delimiter=delimiter)
    with arrow_csv.open_csv(path, read_options=options, parse_options=parse) as reader:
        guessed = reader.schema
    del reader  # which holds as much again as the next one
    # types are guessed from the first rows: whole numbers may turn to fractions, and empty columns to numbers, later
    numbers = [is_number(kind) and not pa.types.is_boolean(kind) for kind in guessed.types]
    types = {name: pa.float64() for name, number in zip(guessed.names, numbers, strict=True) if number}
    types |= dict.fromkeys(text, pa.string())
    convert = arrow_csv.ConvertOptions(column_types=types)
    with arrow_csv.open_csv(path, read_options=options, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def text_columns(path: Path) -> set[str]:
    """Names of the columns of a table that hold text, by the first rows of a CSV file.

    Raises:
        InputError: the file is missing, or unreadable.
    """
    if path.suffix.lower() not in TABLES:
        return set()
    first = next(record_batches(path), None)
    return set() if first is None else {field.name for field in first.schema if is_text(field.type)}


def _fields(line: str, mark: str) -> list[str]:
    """Fields of a line that are separated by a mark; none if one of them is too long for that to be the right mark."""
    try:
        return next(csv.reader(io.StringIO(line, newline=""), delimiter=mark), [])
    except csv.Error:
        return []


def _first_line(path: Path) -> str:
    """The first line of a CSV file, or more."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        start = file.read(FIELD)
        if "\n" not in start and "\r" not in start:
            start += file.readline(LINE - len(start))
    if len(start) == LINE and start[-1] not in "\r\n":
        raise InputError(f"{path} has a first line of more than {LINE} characters: a line is a row of a table")
    return start


def is_number(kind: Any) -> bool:
    """Whether this Arrow type is one of numbers or truth values, or of nothing but missing values."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind))


def _is_data(first: list[str]) -> bool:
    """Whether the first line of a table is a row of it: all numbers, but not the column numbers 0, 1, 2, ..."""
    counted = len(first) > 2 and first == [str(place) for place in range(len(first))]
    return bool(first) and all(map(_parses_as_number, first)) and not counted


def _parses_as_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def find_tables(path: str, *, kinds: frozenset[str] = TABLES) -> list[Path]:
    """The file a path names, or the files of such kinds in the folder it names; what is not found is looked for below
    `$DEEPAD_DATA`.

    Raises:
        InputError: neither is there, or the folder holds none.
    """
    below = os.environ.get("DEEPAD_DATA")
    places = [Path(path)] + ([Path(below, path)] if below else [])
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise InputError(f"no file or folder at {' or at '.join(map(str, places))}")
    if not found.is_dir():
        return [found]
    files = sorted(file for file in found.rglob("*") if file.suffix.lower() in kinds and file.name[0] not in "._")
    if not files:
        raise InputError(f"{found} holds no tables ({', '.join(sorted(kinds))})")
    return files
