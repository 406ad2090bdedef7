"""Files of samples: image folders, PNG and other images, `.npy`, `.npz`, CSV, Parquet and IDX, read in batches.

Nothing here unpickles. Samples come out in raw units; images are neither resized nor rescaled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.data.arrays import (
    BATCH,
    ROW,
    in_proportion,
    npy_slices,
    npz_slices,
    open_idx,
    read_array,
    read_idx,
    reading,
    require_sample,
)
from deepad.data.images import IMAGES, images_below, read_images
from deepad.data.tables import TABLES, is_number, record_batches
from deepad.errors import InputError
from deepad.frames import listed

READABLE = "an image or a folder of images, .npy, .npz, .csv, .parquet or IDX"


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
        return _numbered(path, npy_slices(path, read_array(path), shape))
    if suffix == ".npz":
        return _numbered(path, npz_slices(path, label, shape))
    if "idx" in path.name:
        return _numbered(path, _idx(path, shape))
    raise InputError(f"{path} is of a kind deepad does not read: give {READABLE}")


def read_labels(path: Path) -> NDArray[Any]:
    """Labels (N,) from an `.npy` or IDX file, or from a CSV or Parquet file of one column.

    Raises:
        InputError: the file cannot be read or holds more than one value a row.
    """
    if not path.is_file():
        raise InputError(f"no labels at {path}: give a file, or the name of a column or array of the input")
    with reading(path):
        if path.suffix.lower() in TABLES:
            parts = in_proportion(path, (x for x, _ in _table(path, (1,), None)))
            labels = np.concatenate([np.empty((0, 1)), *parts])[:, 0]
        else:
            labels = read_array(path) if path.suffix.lower() == ".npy" else read_idx(path)
    if labels.ndim != 1 or len(labels) == 0:
        raise InputError(f"{path} holds an array of shape {labels.shape}: labels are one value a sample, shape (N,)")
    return labels


def _idx(path: Path, shape: tuple[int, ...]) -> Iterator[tuple[NDArray[Any], None]]:
    with open_idx(path) as found:
        require_sample(path, found.shape, shape)
        yield from ((x, None) for x in found.slices(BATCH, row=max(ROW, 8 * prod(shape))))


def _numbered(path: Path, batches: Iterator[tuple[NDArray[Any], NDArray[Any] | None]]) -> Iterator[Batch]:
    row = 0
    for x, y in batches:
        yield Batch(x, [str(path)] * len(x), np.arange(row, row + len(x)), y)
        row += len(x)
    if row == 0:
        raise InputError(f"{path} holds no samples")


def _table(path: Path, shape: tuple[int, ...], label: str | None) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Rows laid out as samples, column by position; empty cells are NaN."""
    for batch in record_batches(path):
        names = batch.schema.names
        if label is not None and names.count(label) != 1:
            raise InputError(f"{path} must have one column {label!r} for labels, it has {listed(names)}")
        chosen = [place for place, name in enumerate(names) if name != label]
        text = [names[place] for place in chosen if not is_number(batch.schema.field(place).type)]
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


def _images(paths: list[Path], shape: tuple[int, ...]) -> Iterator[Batch]:
    for x, chosen in read_images(paths, shape, BATCH):
        yield Batch(x, [str(path) for path in chosen], np.zeros(len(chosen), np.int64))
