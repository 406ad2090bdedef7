"""Verdicts as rows of a file: CSV, Parquet or JSON lines, complete or not there at all."""

import io
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepad.atomic import replacing
from deepad.errors import InputError
from deepad.scoring.verdict import Verdict

KINDS = (".csv", ".parquet", ".jsonl")


def as_table(verdict: Verdict, source: list[str], index: NDArray[np.int64], model: str, **extra: Any) -> pa.Table:
    """One row a sample: source, index, score, p_value, flagged, alpha, threshold, model, and what else is given.

    `flagged` is null for a step of a series that no window scores. With tiers there is a column `tier`, with groups one
    `group`.
    """
    n = len(verdict)
    if verdict.tier is not None:
        extra = {"tier": pa.array(verdict.tier_names, pa.string(), mask=verdict.unscored), **extra}
    if verdict.group is not None:
        extra = {"group": pa.array(verdict.group.tolist(), pa.string()), **extra}
    return pa.table(
        {
            "source": pa.array(list(map(printable, source)), pa.string()),
            "index": index,
            "score": verdict.score,
            "p_value": verdict.p_value,
            "flagged": pa.array(verdict.flagged, mask=verdict.unscored),
            "alpha": np.full(n, verdict.alpha),
            "threshold": np.broadcast_to(verdict.threshold, n),
            "model": pa.array([model] * n, pa.string()),
            **extra,
        }
    )


def printable(name: str) -> str:
    """The name of a file as text, which it need not be."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class _WholeRows(io.RawIOBase):
    """Lines on their way to a pipe, some at a time: so few bytes are written as a whole or not at all, whenever the
    process is interrupted or killed. A line break inside a name counts as an end."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.rest = file, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        given = bytes(data)
        if end := given.rfind(b"\n") + 1:
            self._tell(self.rest + given[:end])
            self.rest = bytearray()
        self.rest += given[end:]
        return len(given)

    def close(self) -> None:
        if self.rest and not self.closed:
            self.file.write(self.rest)
            self.file.flush()
        super().close()

    def _tell(self, held: bytearray) -> None:
        """Write whole lines, as many at once as fit; one that does not fit by itself."""
        begin = 0
        while begin < len(held):
            within = held.rfind(b"\n", begin, begin + select.PIPE_BUF)
            end = 1 + (within if within >= 0 else held.find(b"\n", begin))
            self.file.write(held[begin:end])
            self.file.flush()
            begin = end


Sink = IO[bytes] | _WholeRows


class TableWriter(Protocol):
    """What takes tables one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""


class _JsonLines:
    def __init__(self, file: Sink) -> None:
        self.file = file

    def write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            plain = {name: None if value != value else value for name, value in row.items()}  # NaN is not JSON
            plain = {name: repr(value) if value in (np.inf, -np.inf) else value for name, value in plain.items()}
            self.file.write(json.dumps(plain, allow_nan=False).encode() + b"\n")


class _Arrow:
    """CSV or Parquet; the writer is made when the first table tells the columns."""

    def __init__(self, file: Sink, kind: str) -> None:
        self.file, self.kind = file, kind
        self.writer: Any = None

    def write(self, table: pa.Table) -> None:
        if self.writer is None:
            import pyarrow.csv
            import pyarrow.parquet

            opened = pyarrow.csv.CSVWriter if self.kind == ".csv" else pyarrow.parquet.ParquetWriter
            self.writer = opened(self.file, table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


@contextmanager
def open_table(path: str | Path | None, *, kind: str = ".csv") -> Iterator[TableWriter]:
    """A writer of tables to a file, or to standard output as `kind` if path is None.

    The file appears, under its name, when everything was written; if anything fails it does not appear and an older
    one is kept.

    Raises:
        InputError: an ending that is not .csv, .parquet or .jsonl, or a folder that cannot be written.
    """
    if path is None:
        sys.stdout.flush()
        with _WholeRows(sys.stdout.buffer) as whole, _writer(whole, kind) as writer:
            yield writer
        return
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"cannot write {path}: the ending must be one of {', '.join(KINDS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file, _writer(file, kind) as writer:
            yield writer
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


@contextmanager
def _writer(file: Sink, kind: str) -> Iterator[TableWriter]:
    if kind == ".jsonl":
        yield _JsonLines(file)
        return
    writer = _Arrow(file, kind)
    try:
        yield writer
    finally:
        writer.close()
