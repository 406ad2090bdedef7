"""Arrays in files that may be compressed: the members of `.npz`, and IDX, the format of MNIST.

What a file announces is not believed. A few kilobytes can unpack to gigabytes, so rows come in slices as they are
unpacked, and nothing is made larger than a slice, or than one sample of the shape that is asked for.
"""

import gzip
import io
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError, reason_of
from deepad.frames import listed

BATCH = 4096
"""Most rows a batch."""
COLUMN = 9000
"""Bytes that Arrow takes for a column of a table, whatever is in it."""
SLICE = 1 << 20
"""Bytes a slice, or one row where that is larger."""
ROW = 1 << 24
"""Most bytes a row, where nobody says how large it must be."""
HELD = 1 << 28
"""Bytes that may be held whole of a file of any size, of the order of what importing torch takes."""
EXPANSION = 100
"""How many times its file may be held whole beyond that: most tables unpack to 15 times, bombs to 1000."""
SHARE = 2
"""Any file may take the memory of the machine by so much: tables of zeros and ones unpack as bombs do."""
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Stored:
    """An array in an open file, read once from the first row to the last.

    Attributes:
        path: the file.
        shape: of the array.
        dtype: of its values.
        stream: what follows its header.
        fortran: whether its last axis comes first.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: IO[bytes]
    fortran: bool = False

    def slices(self, most: int = SLICE, *, row: int = ROW) -> Iterator[NDArray[Any]]:
        """The array in slices of at most `most` rows (B, ...).

        Raises:
            InputError: no rows of numbers or text, rows of more than `row` bytes, or fewer or more than are announced.
        """
        size = prod(self.shape[1:]) * self.dtype.itemsize
        if not self.shape or not self.dtype.itemsize:
            raise InputError(f"{self.path} does not hold an array of samples")
        if size > row:
            raise InputError(f"{self.path} announces rows of {size} bytes: at most {row} are read")
        if self.fortran and len(self.shape) > 1 and size:
            yield from self._turned(most)
            return
        most = self.rows_in_a_slice(most)
        for start in range(0, self.shape[0] if size else 0, most):
            count = min(most, self.shape[0] - start)
            yield np.frombuffer(self._read(count * size), self.dtype).reshape(count, *self.shape[1:])
        self._require_end()

    def rows_in_a_slice(self, most: int) -> int:
        """How many rows a slice has, if it may have so many."""
        return max(1, min(most, SLICE // max(1, prod(self.shape[1:]) * self.dtype.itemsize)))

    def _turned(self, most: int) -> Iterator[NDArray[Any]]:
        """Slices of an array whose rows are spread over the file, which therefore is held whole."""
        require_proportion(self.path, size := prod(self.shape) * self.dtype.itemsize)
        x = np.frombuffer(self._read(size), self.dtype).reshape(self.shape, order="F")
        self._require_end()
        yield from (x[start : start + most] for start in range(0, len(x), most))

    def _read(self, size: int) -> bytearray:
        data = bytearray()  # which grows by what is there, not by what is announced
        while len(data) < size:
            piece = self.stream.read(min(SLICE, size - len(data)))
            if not piece:
                raise InputError(f"{self.path} {self.announces} but holds fewer: it was cut short")
            data += piece
        return data

    def _require_end(self) -> None:
        if self.stream.read(1):  # this also lets an archive compare its checksum
            raise InputError(f"{self.path} {self.announces} but holds more")

    @property
    def announces(self) -> str:
        """What its header says, in words."""
        return f"announces {prod(self.shape)} values of {self.dtype.itemsize} bytes"


def require_sample(path: Path, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse an array of this shape if its rows are no samples of that shape; a grey image may leave out its channel.

    Raises:
        InputError: they are none.
    """
    accepted = [shape, *([shape[1:]] if len(shape) == 3 and shape[0] == 1 else [])]
    if not found or found[1:] not in accepted:
        wanted = ", ".join(map(str, shape))
        raise InputError(f"{path}: samples must have shape (N, {wanted}), got {found}")


def proportion(path: Path) -> int:
    """How many bytes may be taken for what is in a file, by its size: what is bounded before any row is read."""
    return max(HELD, EXPANSION * path.stat().st_size)


def require_proportion(path: Path, size: int) -> None:
    """Refuse to hold so many bytes of a file that is far smaller, unless the machine has memory to spare for them.

    Raises:
        InputError: it is, and has not.
    """
    if size > max(proportion(path), _memory() // SHARE):
        raise InputError(
            f"{path} of {path.stat().st_size} bytes unpacks to more than {EXPANSION} times as many ({size} or more), "
            f"and to more than 1/{SHARE} of the memory of this machine: give it uncompressed, or in parts"
        )


def _memory() -> int:
    """Bytes of memory of this machine, 0 if it does not say."""
    try:
        return max(0, os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # there is no such call, or no such answer
        return 0


def in_proportion(path: Path, parts: Iterable[Any]) -> list[Any]:
    """Arrays, or batches of a table, all of them, unless they are out of proportion to their file.

    Raises:
        InputError: they are.
    """
    held, size = [], 0
    for part in parts:
        size += part.nbytes
        require_proportion(path, size)
        held.append(part)
    return held


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on a broken file into one line; parsers raise what they like."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = re.sub(r"(got \d+|invalid value).*", r"\1", reason_of(error))  # what follows are the data themselves
        raise InputError(f"cannot read {path}, which is broken or of another kind: {reason[:120]}") from None


def require_file(path: Path) -> None:
    """Refuse what is not there, or is no file.

    Raises:
        InputError: so it is.
    """
    if not path.is_file():
        raise InputError(f"{path} is a folder: give a file" if path.is_dir() else f"no file at {path}")


def require_table(path: Path, x: NDArray[Any] | Stored) -> None:
    """Refuse an array that is not one of numbers (N, D), D columns of a table.

    Raises:
        InputError: it is none.
    """
    if len(x.shape) != 2 or 0 in x.shape or x.dtype.kind not in "biuf":
        raise InputError(f"{path} holds {x.dtype} of shape {x.shape}: a table has numbers of shape (N, D)")
    require_width(path, x.shape[1])


def require_width(path: Path, columns: int) -> None:
    """Refuse a table of more columns than are in proportion to its file: each takes `COLUMN` bytes.

    Raises:
        InputError: it has more.
    """
    most = proportion(path) // COLUMN
    if columns > most:
        raise InputError(
            f"{path} has {columns} columns, a table of {path.stat().st_size} bytes at most {most}: "
            "give more rows in one file, or fewer columns"
        )


def read_array(path: Path) -> NDArray[Any]:
    """The array of an `.npy` file, left on disk until it is used.

    Raises:
        InputError: the file is missing, or none of that kind.
    """
    require_file(path)
    with reading(path):
        return np.lib.format.open_memmap(path, mode="r")


def npy_slices(path: Path, x: NDArray[Any], shape: tuple[int, ...]) -> Iterator[tuple[NDArray[Any], None]]:
    """Slices of samples that `read_array` has left on disk, and no labels.

    Raises:
        InputError: they are no samples of this shape.
    """
    require_sample(path, x.shape, shape)
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH], None


@contextmanager
def open_idx(path: Path) -> Iterator[Stored]:
    """The array of an IDX file, plain or gzip-compressed.

    Source: LeCun, Cortes, Burges, *The MNIST database*, file format section.

    Raises:
        InputError: not an IDX file.
    """
    compressed = path.suffix == ".gz"
    with path.open("rb") as file:
        stream: Any = gzip.GzipFile(fileobj=file) if compressed else file
        magic = stream.read(4)
        kind, dimensions = (magic[2], magic[3]) if len(magic) == 4 and magic[:2] == b"\0\0" else (0, 0)
        sizes = stream.read(4 * dimensions)
        if kind not in _IDX_TYPES or not 1 <= dimensions <= 8 or len(sizes) < 4 * dimensions:
            raise InputError(f"{path} is not an IDX file")
        found = Stored(path, struct.unpack(f">{dimensions}I", sizes), np.dtype(_IDX_TYPES[kind]), stream)
        if not compressed:
            rest = path.stat().st_size - 4 - len(sizes)
            if rest != prod(found.shape) * found.dtype.itemsize:
                raise InputError(f"{path} {found.announces} but holds {rest} bytes")
        yield found


def read_idx(path: Path) -> NDArray[Any]:
    """The whole array of an IDX file, see `open_idx`.

    Raises:
        InputError: not an IDX file, cut short, or out of proportion to it.
    """
    with open_idx(path) as found:
        require_proportion(path, prod(found.shape) * found.dtype.itemsize)
        whole = np.concatenate([np.empty((0, *found.shape[1:]), found.dtype), *found.slices()])
        return whole.astype(found.dtype, copy=False)


class _Sparing(io.FileIO):
    """A file that is not read in large pieces: a list of more members than fit into one is none of arrays."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > SLICE:
            raise InputError(f"{self.name!s} lists more than arrays: {size} bytes of names")
        return super().read(SLICE if size is None or size < 0 else size)


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
    """An array of an archive. Only what NumPy writes is read: other ways to compress take what memory the file says."""
    name = member.filename[:40]
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path} is compressed in a way NumPy does not write: save it with numpy.savez")
    stream = archive.open(member)
    old = np.lib.format.read_magic(stream) == (1, 0)  # the version after the second one is that of named fields
    header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise InputError(f"{path} holds no numbers or text in {name!r}, but objects, which would run code")
    if stream.tell() + prod(shape) * dtype.itemsize != member.file_size or any(size < 0 for size in shape):
        raise InputError(f"{path} holds an array called {name!r} of another size than it announces")
    return Stored(path, shape, dtype, stream, fortran)


def npz_slices(
    path: Path, label: str | None, shape: tuple[int, ...] | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Slices of the samples of an `.npz` file, of rows (N, D) of a table if no shape is given, and of their labels.

    Raises:
        InputError: no such arrays, or arrays that do not fit the shape, each other, or what is announced.
    """
    with _Sparing(path) as file, zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        names = [name for name in members if name != label]
        chosen = next((name for name in ("x", "X", *names[:1]) if name in names), None)
        if chosen is None or (len(names) > 1 and chosen not in ("x", "X")):
            raise InputError(f"{path} holds the arrays {listed(list(members))}: call the samples x")
        if label is not None and label not in members:
            raise InputError(f"{path} holds no array {label!r} for labels, only {listed(list(members))}")
        x = _member(path, archive, members[chosen])
        y = None if label is None else _member(path, archive, members[label])
        if shape is None:
            require_table(path, x)
        else:
            require_sample(path, x.shape, shape)
        if y is not None and y.shape != x.shape[:1]:
            raise InputError(f"{path} holds {x.shape[0]} samples: the labels must be one value for each")
        most = min(part.rows_in_a_slice(BATCH) for part in (x, y) if part is not None)
        parts = x.slices(most, row=max(ROW, 8 * prod(shape or ())))
        yield from ((part, None) for part in parts) if y is None else zip(parts, y.slices(most), strict=True)
