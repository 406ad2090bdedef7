"""Tables: files or generated data whose rows are samples, with columns of numbers and of categories.

What each column becomes is learned from the training rows alone, see `deepad.schema`. Rows are dealt at random, so
calibration and test are exchangeable. Two other orders show what drift does to a promise that rests on that: `"rows"`
deals all normal rows in the order of the table, the later ones to test, and `"test-last"` takes the last ones for test
and deals the others at random, which is the split of benchmarks that train on the first half (with `test_size=0.5`).

Source of the sets in `.npz` files: Han et al., *ADBench: Anomaly Detection Benchmark*, NeurIPS 2022.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deepad.data.base import DataModule, Index, Rows, Splits, deal, require_size
from deepad.data.tables import find_tables, read_table, text_columns
from deepad.errors import InputError
from deepad.frames import is_anomaly, listed, require_frame, several
from deepad.schema import TableSchema

Value = str | int | float
BLOCK = 1 << 16
"""Rows encoded at once."""


class Table(DataModule):
    """A labelled or unlabelled table; its normal rows are dealt into the four splits, its anomalies go to test.

    Samples are the encoded rows (size,) as float32, in raw units. Without labels all rows are taken for normal and the
    test split holds no anomalies: its false alarms can be counted, ranking cannot be judged.

    Args:
        path: a `.csv`, `.parquet` or `.npz` file (arrays x or X of (N, D), and the labels), several files with the
            same columns, or a folder of CSV or Parquet files. What is not found is looked for below `$DEEPAD_DATA`.
        generator: instead of a path, one of `deepad.data.synthetic.GENERATORS`.
        generator_args: its arguments; the seed is the data module's unless given here.
        label: the column (or array of `.npz`) that says what is anomalous; for a generator, `"label"`.
        anomalous: values of the label that mean anomaly; all others mean normal.
        ignore: columns to leave out.
        categorical: columns of numbers that are categories nevertheless. In CSV such columns, and those that are text
            in any file, are taken as they are written, see `deepad.schema`.
        missing: see `TableSchema.learn`.
        max_categories: see `TableSchema.learn`.
        test_size: share or number of normal rows kept for the test split.
        order: deal the normal rows at `"random"`, by `"rows"`: train, val, calibration, test in the table's order, or
            `"test-last"`: the last ones are test, the others are dealt at random, and the sizes of val and calibration
            are shares of these.
        max_rows: most rows of the table that are used, a random sample in random order if there are more, >= 1.
        val_size: see `DataModule`.
        calibration_size: see `DataModule`.
        batch_size: see `DataModule`.
        num_workers: see `DataModule`.
        seed: see `DataModule`.

    Raises:
        ValueError: both or neither of path and generator, or a value out of range.
    """

    _schema: TableSchema

    def __init__(
        self,
        path: str | Sequence[str] | None = None,
        *,
        generator: str | None = None,
        generator_args: dict[str, Any] | None = None,
        label: str | None = None,
        anomalous: Sequence[Value] | Value = (1,),
        ignore: Sequence[str] = (),
        categorical: Sequence[str] = (),
        missing: Literal["refuse", "median"] = "refuse",
        max_categories: int = 64,
        test_size: int | float = 0.2,
        order: Literal["random", "rows", "test-last"] = "random",
        max_rows: int | None = None,
        val_size: int | float = 0.1,
        calibration_size: int | float = 0.2,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            val_size=val_size,
            calibration_size=calibration_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if (path is None) == (generator is None) or (generator is None and generator_args):
            raise ValueError("give either path or generator, and generator_args with a generator only")
        if order not in ("random", "rows", "test-last"):
            raise ValueError(f"order must be random, rows or test-last, got {order!r}")
        if max_rows is not None and (type(max_rows) is not int or max_rows < 1):
            raise ValueError(f"max_rows must be a whole number of at least 1, got {max_rows!r}")
        self.paths = [path] if isinstance(path, str) else list(path or [])
        self.generator, self.generator_args = generator, generator_args or {}
        self.label = "label" if label is None and generator is not None else label
        self.anomalous = several(anomalous)
        self.ignore = [*several(ignore), *["pattern"] * (generator is not None)]
        self.categorical = several(categorical)
        self.missing, self.max_categories = missing, max_categories
        self.test_size, self.order, self.max_rows = test_size, order, max_rows

    @property
    def schema(self) -> TableSchema:
        """What the columns become, learned from the training rows; reads the data on first use."""
        _ = self.splits
        return self._schema

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of features,); reads the data on first use."""
        return (self.schema.size,)

    @property
    def title(self) -> str:
        """Name of the first file, or of the generator."""
        if self.generator is not None:
            return self.generator
        more = len(self.paths) - 1
        return Path(self.paths[0]).stem + (f" and {more} more" if more else "")

    def load(self) -> Splits:
        """Deal the normal rows, learn the schema from those that train, and encode all of them.

        Raises:
            InputError: no such file or column, values that cannot be encoded, or no normal row left.
            InsufficientCalibrationError: the splits ask for more rows than there are.
        """
        table = self._read()
        if self.max_rows is not None and table.num_rows > self.max_rows:
            table = table.take(np.random.default_rng(self.seed).permutation(table.num_rows)[: self.max_rows])
        y = self._labels(table)
        unknown = [name for name in self.ignore if name not in table.column_names]
        if unknown:
            raise InputError(f"no columns {listed(unknown)} to ignore: there are {listed(table.column_names)}")
        table = table.drop_columns([name for name in {*self.ignore, self.label} if name is not None])
        train, val, calibration, test = self._deal(np.flatnonzero(y == 0))
        self._schema = TableSchema.learn(
            table,
            rows=train,
            categorical=self.categorical,
            missing=self.missing,
            max_categories=self.max_categories,
        )
        x = _encoded(self._schema, table)
        test = np.sort(np.concatenate([test, np.flatnonzero(y)]))
        return Splits(Rows(x, train), Rows(x, val), Rows(x, calibration), Rows(x, test, torch.from_numpy(y)))

    def _read(self) -> Any:
        """All rows as one `pyarrow.Table`, the label column among them."""
        if self.generator is not None:
            from deepad.data.synthetic import generate

            return generate(self.generator, **{"seed": self.seed, **self.generator_args})
        import pyarrow as pa

        files = [file for path in self.paths for file in find_tables(path)]
        text = set(self.categorical).union(*map(text_columns, files))  # as written, whatever is beside them in a file
        tables = [require_frame(read_table(file, label=self.label, text=text)) for file in files]
        for file, table in zip(files, tables, strict=True):
            if table.column_names != tables[0].column_names:
                raise InputError(
                    f"{file} has the columns {listed(table.column_names)}, {files[0]} has "
                    f"{listed(tables[0].column_names)}: all files of a table need the same ones in the same order"
                )
        if not tables:
            raise InputError("got an empty list of paths: give at least one file")
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(f"a column has other types in one file than in another: {str(error)[:120]}") from None

    def _labels(self, table: Any) -> Index:
        """1 where a row is an anomaly, (N,)."""
        if self.label is None:
            return np.zeros(table.num_rows, np.int64)
        if table.column_names.count(self.label) != 1:
            raise InputError(f"no column {self.label!r} for labels: there are {listed(table.column_names)}")
        y = is_anomaly(self.label, table.column(self.label), self.anomalous, present=self.generator is None)
        if y.all():
            raise InputError(f"all {len(y)} rows are anomalies: normal rows are needed to train and calibrate")
        return y

    def _deal(self, normal: Index) -> list[Index]:
        """Rows of train, val, calibration and test out of the normal rows (n,)."""
        sizes = [self.val_size, self.calibration_size]
        if self.order == "test-last":
            require_size(self.test_size)
            share = isinstance(self.test_size, float)
            first = round((1 - self.test_size) * len(normal)) if share else max(len(normal) - int(self.test_size), 0)
            val, calibration, train = deal(normal[:first], sizes, self.seed)
            return [train, val, calibration, normal[first:]]
        val, calibration, test, train = deal(normal, [*sizes, self.test_size], self.seed)
        if self.order == "rows":
            return np.split(normal, np.cumsum([len(train), len(val), len(calibration)]))
        return [train, val, calibration, test]


def _encoded(schema: TableSchema, table: Any) -> Tensor:
    """All rows as float32 (N, size)."""
    x = torch.empty((table.num_rows, schema.size))
    for start in range(0, table.num_rows, BLOCK):
        wide = schema.encode(table.slice(start, BLOCK), first=start)
        with np.errstate(over="ignore"):
            block = torch.from_numpy(wide.astype(np.float32))
        large = ~torch.isfinite(block)
        if large.any():
            row, feature = (int(place) for place in large.nonzero()[0])
            raise InputError(
                f"column {schema.columns[schema.columns_of_features[feature]].name!r} holds values too large for "
                f"float32 (first at row {start + row}): rescale it"
            )
        x[start : start + BLOCK] = block
    return x
