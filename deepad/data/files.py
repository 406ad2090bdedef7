"""Files of samples: image folders, PNG and other images, `.npy`, `.npz`, CSV, Parquet and IDX, read in batches.

Nothing here unpickles. Samples come out in raw units; images are neither resized nor rescaled.
"""

import csv
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.data.images import IMAGES, images_below, read_idx, read_images
from deepad.errors import InputError
from deepad.frames import is_text, listed

TABLES = frozenset({".csv", ".parquet"})
ARRAYS = frozenset({".npy", ".npz"})
READABLE = "an image or a folder of images, .npy, .npz, .csv, .parquet or IDX"
BATCH = 4096
"""Most rows a batch."""


@dataclass(frozen=True)
class Batch:
    """Some samples of one or several files.

    Attributes:
        x: samples (B, *shape), raw units; the scorer checks them.
        source: (B,) the file each came from.
        index: (B,) its row in that file.
        y: (B,) the label column or array, if one was asked for.
    """

    x: NDArray[Any]
    source: list[str]
    index: NDArray[np.int64]
    y: NDArray[Any] | None = None


def read_samples(paths: Sequence[str | Path], shape: tuple[int, ...], *, label: str | None = None) -> Iterator[Batch]:
    """Read samples of the given shape from files, in order.

    Args:
        paths: files or folders of images, see the module docstring.
        shape: shape of one sample; a table row of `prod(shape)` columns is laid out as that shape, row by row.
        label: name of the column (tables) or array (`.npz`) that holds labels and is not part of a sample.

    Raises:
        InputError: a file is missing, unreadable, of an unknown kind or of another shape.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"no file or folder at {path}")
        with reading(path):
            yield from _samples(path, shape, label)


def _samples(path: Path, shape: tuple[int, ...], label: str | None) -> Iterator[Batch]:
    suffix = path.suffix.lower()
    if path.is_dir():
        return _images(images_below(path), shape)
    if suffix in IMAGES:
        return _images([path], shape)
    if suffix in TABLES:
        return _numbered(path, _table(path, shape, label))
    if suffix == ".npy":
        return _numbered(path, _slices(path, read_array(path)))
    if suffix == ".npz":
        return _numbered(path, _npz(path, label))
    if "idx" in path.name:
        return _numbered(path, _slices(path, read_idx(path)))
    raise InputError(f"{path} is of a kind deepad does not read: give {READABLE}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on a broken file into one line; parsers raise what they like."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        reason = re.sub(r"(got \d+|invalid value).*", r"\1", reason)  # what follows are the data themselves
        raise InputError(f"cannot read {path}, which is broken or of another kind: {reason[:120]}") from None


def read_labels(path: Path) -> NDArray[Any]:
    """Labels (N,) from an `.npy` or IDX file, or from a CSV or Parquet file of one column.

    Raises:
        InputError: the file cannot be read or holds more than one value a row.
    """
    if not path.is_file():
        raise InputError(f"no labels at {path}: give a file, or the name of a column or array of the input")
    with reading(path):
        if path.suffix.lower() in TABLES:
            labels = np.concatenate([np.empty((0, 1)), *(x for x, _ in _table(path, (1,), None))])[:, 0]
        else:
            labels = read_array(path) if path.suffix.lower() == ".npy" else read_idx(path)
    if labels.ndim != 1 or len(labels) == 0:
        raise InputError(f"{path} holds an array of shape {labels.shape}: labels are one value a sample, shape (N,)")
    return labels


def read_array(path: Path) -> NDArray[Any]:
    """The array of an `.npy` file, left on disk until it is used.

    Raises:
        InputError: the file is missing, or none of that kind.
    """
    _require_file(path)
    with reading(path):
        return np.lib.format.open_memmap(path, mode="r")


def read_table(path: Path, *, label: str | None = None, text: Collection[str] = ()) -> Any:
    """A whole table as a `pyarrow.Table`: CSV, Parquet, or an array (N, D) as columns x0, x1, and so on: that of an
    `.npy` file, or x or X of an `.npz` file, with the array `label` (N,) as a further column. `text`: see
    `record_batches`; such columns of whole numbers or truth values in a Parquet file become text, too.

    Raises:
        InputError: the file is missing, unreadable or of another kind.
    """
    import pyarrow as pa

    suffix = path.suffix.lower()
    _require_file(path)
    if suffix not in (*TABLES, *ARRAYS):
        raise InputError(f"{path} is no table: give .csv, .parquet, .npz or .npy")
    with reading(path):
        if suffix in TABLES:
            if not sum(map(len, batches := list(record_batches(path, text=text)))):
                raise InputError(f"{path} holds no rows")
            return _with_text(pa.Table.from_batches(batches), text)
        parts = list(_npz(path, label) if suffix == ".npz" else _slices(path, read_array(path)))
        x = np.concatenate([part for part, _ in parts]) if parts else np.empty((0, 0))
        if x.ndim != 2 or not x.size or x.dtype.kind not in "biuf":
            raise InputError(f"{path} holds {x.dtype} of shape {x.shape}: a table has numbers of shape (N, D)")
        columns = {f"x{place}": x[:, place] * 1 for place in range(x.shape[1])}  # a copy; true and false become 1 and 0
        if label is not None and suffix == ".npz":
            columns[label] = np.concatenate([part for _, part in parts if part is not None])
        return pa.table(columns)


def _with_text(table: Any, text: Collection[str]) -> Any:
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.name in text and (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


def _slices(path: Path, x: Any, y: Any = None) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        raise InputError(f"{path} does not hold an array of samples")
    if y is not None and (not isinstance(y, np.ndarray) or y.shape != (len(x),)):
        raise InputError(f"{path} holds {len(x)} samples: the labels must be one value for each")
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH], None if y is None else y[start : start + BATCH]


def _numbered(path: Path, batches: Iterator[tuple[NDArray[Any], NDArray[Any] | None]]) -> Iterator[Batch]:
    row = 0
    for x, y in batches:
        yield Batch(x, [str(path)] * len(x), np.arange(row, row + len(x)), y)
        row += len(x)
    if row == 0:
        raise InputError(f"{path} holds no samples")


def _npz(path: Path, label: str | None) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        names = [name for name in archive.files if name != label]
        chosen = next((name for name in ("x", "X", *names[:1]) if name in names), None)
        if chosen is None or (len(names) > 1 and chosen not in ("x", "X")):
            raise InputError(f"{path} holds the arrays {', '.join(archive.files)}: call the samples x")
        if label is not None and label not in archive.files:
            raise InputError(f"{path} holds no array {label!r} for labels, only {', '.join(archive.files)}")
        x, y = archive[chosen], None if label is None else archive[label]
    yield from _slices(path, x, y)


def _table(path: Path, shape: tuple[int, ...], label: str | None) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Rows laid out as samples, column by position; empty cells are NaN."""
    for batch in record_batches(path):
        names = batch.schema.names
        if label is not None and names.count(label) != 1:
            raise InputError(f"{path} must have one column {label!r} for labels, it has {listed(names)}")
        chosen = [place for place, name in enumerate(names) if name != label]
        text = [names[place] for place in chosen if not _is_number(batch.schema.field(place).type)]
        if text:
            raise InputError(f"{path} has columns that are not numbers: {listed(text)}; drop or encode them")
        if len(chosen) != prod(shape):
            raise InputError(f"{path} has {len(chosen)} columns, a sample has {prod(shape)} values: {listed(names)}")
        x = np.stack([_as_floats(batch.column(place)) for place in chosen], axis=1)
        y = None if label is None else batch.column(names.index(label)).to_numpy(zero_copy_only=False)
        yield x.reshape(len(x), *shape), y


def _as_floats(column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def record_batches(path: Path, *, text: Collection[str] = ()) -> Iterator[Any]:
    """Arrow record batches of a CSV or Parquet file.

    CSV is separated by comma, semicolon or tab, whichever its first line holds most of; if that line is a row of
    numbers, there is no header. Whole numbers of a CSV file come as float64.

    Args:
        path: the file.
        text: columns of a CSV file that are taken as they are written; the types of others are guessed from the first
            rows, so what `01` is depends on its neighbours.

    Raises:
        InputError: the file is missing, or none of that kind.
    """
    _require_file(path)
    with reading(path):
        yield from _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, text)


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # column chunks are read piece by piece, not a row group at a time, which may be the whole file
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 14) as file:
        yield from file.iter_batches(BATCH)


def _csv(path: Path, text: Collection[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    delimiter, first = max(((mark, _first_line(path, mark)) for mark in ",;\t"), key=lambda found: len(found[1]))
    options = arrow_csv.ReadOptions(autogenerate_column_names=_is_data(first))
    parse = arrow_csv.ParseOptions(delimiter=delimiter)
    with arrow_csv.open_csv(path, read_options=options, parse_options=parse) as reader:
        guessed = reader.schema
    # types are guessed from the first rows: whole numbers may turn to fractions, and empty columns to numbers, later
    types = {
        field.name: pa.float64() for field in guessed if _is_number(field.type) and not pa.types.is_boolean(field.type)
    }
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


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is a folder: give a file" if path.is_dir() else f"no file at {path}")


def _first_line(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=delimiter), [])


def _images(paths: list[Path], shape: tuple[int, ...]) -> Iterator[Batch]:
    for x, chosen in read_images(paths, shape, BATCH):
        yield Batch(x, [str(path) for path in chosen], np.zeros(len(chosen), np.int64))


def _is_number(kind: Any) -> bool:
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
