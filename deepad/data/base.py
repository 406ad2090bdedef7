"""The contract of every data module: four disjoint splits, three of them normal and without labels.

| split       | rows                | loader yields | used for                                        |
|-------------|---------------------|---------------|-------------------------------------------------|
| train       | normal              | x             | weights, scaling                                |
| val         | normal              | x             | early stopping, best checkpoint, model choice   |
| calibration | normal              | x             | the threshold, and nothing before it            |
| test        | normal and anomaly  | (x, y)        | evaluation; y = 1 means anomaly                 |

Rows are held once, in raw units, and a batch is gathered by one indexing operation instead of sample by sample.
A row that equals a calibration or test row is dropped from train and val: a copy of a row is the same row. Dropping
by calibration and test alike keeps the two exchangeable. Values that recur by themselves (`deepad.fingerprint`) stay: a
model that never saw the most common row of a table would not know what is normal. `DataModule.dropped` counts the rest.
Only the calibration split that was dealt with them may hold such values: in other rows they are taken for a leak.
Where many other rows coincide, new rows may still equal training rows, and then raise fewer false alarms than promised.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deepad.errors import DataLeakError, InputError, InsufficientCalibrationError
from deepad.fingerprint import Fingerprints, digest_of, fingerprint_rows, recurring

Index = NDArray[np.int64]


class Rows(Dataset[Any]):
    """Some rows of a tensor that is held once.

    Args:
        x: (N, *shape), raw units.
        index: which rows, (n,).
        y: labels (N,) of x, 1 = anomaly; only a test split has them.
    """

    def __init__(self, x: Tensor, index: Index, y: Tensor | None = None) -> None:
        self.x, self.y, self.index = x, y, torch.as_tensor(index)
        self.recurring: Fingerprints = np.empty(0, np.int64)
        """Values that these rows share with those that train or select, because they recur by themselves."""
        self._fingerprints: Fingerprints | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Any:
        row = self.index[i]
        return self.x[row] if self.y is None else (self.x[row], self.y[row])

    def __getitems__(self, batch: Sequence[int]) -> Any:
        """A whole batch at once: x (B, *shape), or (x, y)."""
        rows = self.index.index_select(0, torch.as_tensor(batch))
        x = self.x.index_select(0, rows)  # copies whole rows, ten times faster than self.x[rows]
        return x if self.y is None else (x, self.y[rows])

    def labels(self) -> Index:
        """Labels (n,) of the rows, in order."""
        if self.y is None:
            raise InputError("these rows have no labels: only the test split has")
        return self.y[self.index].numpy()

    def fingerprints(self) -> Fingerprints:
        """Fingerprints (n,) of the rows, in order; computed once."""
        if self._fingerprints is None:
            blocks = (fingerprint_rows(self.x[rows].numpy()) for rows in torch.split(self.index, 4096))
            self._fingerprints = np.concatenate([np.empty(0, np.int64), *blocks])
        return self._fingerprints

    def keep(self, mask: NDArray[np.bool_]) -> "Rows":
        """The rows where mask (n,) is true."""
        kept = Rows(self.x, self.index.numpy()[mask], self.y)
        kept._fingerprints = self.fingerprints()[mask]
        return kept


@dataclass(frozen=True)
class Splits:
    """The four splits of a data module, see the module docstring."""

    train: Rows
    val: Rows
    calibration: Rows
    test: Rows


@dataclass(frozen=True)
class Stretch:
    """Steps of a split that follow each other without a break, and the context before them.

    Attributes:
        source: name of the recording.
        values: (n, C) raw values, the context first.
        scored: (n,) True for the steps of the split, False for context, which is there for windows to reach back into.
        y: labels (m,) of the steps that are scored, 1 = anomaly.
        time: (n,) nanoseconds, None without timestamps.
        first: number of the first scored step in its recording.
    """

    source: str
    values: NDArray[np.float32]
    scored: NDArray[np.bool_]
    y: Index
    time: Index | None
    first: int


class EpochShuffle(Sampler[int]):
    """A new order every epoch that depends on seed and epoch alone, so that a resumed training sees the same one."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist())


class DataModule(pl.LightningDataModule, ABC):
    """A LightningDataModule with four disjoint splits.

    Args:
        val_size: share (float in (0, 1)) or number (int) of the normal rows of the training pool kept for validation.
        calibration_size: likewise for calibration.
        batch_size: rows a training batch.
        num_workers: loader processes; 0 is fastest for rows held in memory.
        seed: of splits and order.
    """

    sequential: ClassVar[bool] = False
    """Whether samples are overlapping windows of a series, which depend on each other: `stretches` gives its steps."""

    def __init__(
        self,
        *,
        val_size: int | float = 0.1,
        calibration_size: int | float = 0.2,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.val_size, self.calibration_size = val_size, calibration_size
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.dropped = 0
        """Training and validation rows dropped because they equal a calibration or test row."""
        self._splits: Splits | None = None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, known without reading the data where possible."""

    @property
    def title(self) -> str:
        """What the data are, in a few words for tables and pages."""
        return type(self).__name__

    @property
    def schema(self) -> Any:
        """Columns of the table or channels of the series (`TableSchema`, `SeriesSchema`), None where there are none."""
        return None

    @abstractmethod
    def load(self) -> Splits:
        """Read the data and deal the rows."""

    @property
    def splits(self) -> Splits:
        """The four splits, loaded on first use.

        Raises:
            DataLeakError: every row of train or val is also a calibration or test row.
            InputError: the data cannot be read, or a split is empty.
        """
        if self._splits is None:
            raw = self.load()  # windows recur by themselves; splits of a series are disjoint in time
            self._splits = raw if self.sequential else self._without_copies(raw)
        return self._splits

    def stretches(self, split: str) -> list[Stretch]:
        """The steps of a split of a series, with their context.

        Raises:
            InputError: the samples are no windows of a series.
        """
        raise InputError(f"{self.title} is no series: its samples have no order in time")

    def setup(self, stage: str | None = None) -> None:
        """Load the splits; see `splits`."""
        _ = self.splits

    def _without_copies(self, raw: Splits) -> Splits:
        """Drop copied rows from train and val, and check what is left.

        Raises:
            DataLeakError: every row of train or val is also a calibration or test row.
            InputError: an empty split.
        """
        parts = {id(rows): rows.fingerprints() for rows in vars(raw).values()}  # one may stand for two
        stay = recurring(np.concatenate(list(parts.values())))
        lost = np.setdiff1d(np.concatenate([raw.calibration.fingerprints(), raw.test.fingerprints()]), stay)
        train, val = (rows.keep(~np.isin(rows.fingerprints(), lost)) for rows in (raw.train, raw.val))
        fitted = np.concatenate([train.fingerprints(), val.fingerprints()])
        raw.calibration.recurring = np.intersect1d(np.intersect1d(stay, fitted), raw.calibration.fingerprints())
        self.dropped = len(raw.train) + len(raw.val) - len(train) - len(val)
        for name, before, after in (("train", raw.train, train), ("val", raw.val, val)):
            if len(before) and not len(after):
                raise DataLeakError(
                    f"each of the {len(before)} {name} rows is also a calibration or test row: remove duplicates first"
                )
        splits = Splits(train, val, raw.calibration, raw.test)
        for name, rows in vars(splits).items():
            if not len(rows):
                raise InputError(f"the {name} split is empty: give more rows or change the split sizes")
        return splits

    def fit_fingerprints(self) -> Fingerprints:
        """Fingerprints of all rows that train or select a model."""
        return np.concatenate([self.splits.train.fingerprints(), self.splits.val.fingerprints()])

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of x in an order that changes every epoch."""
        return self._loader(self.splits.train, EpochShuffle(len(self.splits.train), self.seed))

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Batches of x in order."""
        return self._loader(self.splits.val)

    def calibration_dataloader(self) -> DataLoader[Tensor]:
        """Batches of x in order."""
        return self._loader(self.splits.calibration)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches of (x, y) in order."""
        return self._loader(self.splits.test)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """The test batches."""
        return self.test_dataloader()

    def _loader(self, rows: Rows, sampler: Sampler[int] | None = None) -> DataLoader[Any]:
        return DataLoader(
            rows,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=_as_fetched,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator().manual_seed(self.seed),  # else each pass draws from the global one
        )

    def describe(self) -> dict[str, Any]:
        """Title, sizes of the splits and fingerprints of their rows, for the run folder.

        `dropped` counts copies that left train and val, `recurring` calibration rows that equal training rows because
        their value recurs.
        """
        report: dict[str, Any] = {"title": self.title, "shape": list(self.shape), "dropped": self.dropped}
        held = self.splits.calibration
        report["recurring"] = int(np.isin(held.fingerprints(), held.recurring).sum())
        for name, rows in vars(self.splits).items():
            report[name] = {"n": len(rows), "digest": digest_of(rows.fingerprints())}
        if self.schema is not None:
            report["inputs"] = self.schema.to_dict()
        report["test"]["n_anomalies"] = int(self.test_labels().sum())
        return report

    def test_labels(self) -> NDArray[np.int64]:
        """Labels (n_test,) in the order of the test loader, 1 = anomaly."""
        return self.splits.test.labels()


def _as_fetched(batch: Any) -> Any:
    """Collate nothing: `Rows.__getitems__` has made the batch."""
    return batch


def deal(index: Index, sizes: Sequence[int | float], seed: int) -> list[Index]:
    """Deal rows at random into parts of the given sizes; the last part of the result is what is left.

    Args:
        index: rows to deal, (n,).
        sizes: of each part, a share of n (float in (0, 1)) or a number of rows (int >= 1).
        seed: of the permutation.

    Raises:
        ValueError: a size out of range.
        InsufficientCalibrationError: the parts ask for more rows than there are.
    """
    counts = []
    for size in sizes:
        require_size(size)
        counts.append(round(size * len(index)) if isinstance(size, float) else int(size))
    if sum(counts) >= len(index):
        raise InsufficientCalibrationError(
            f"splits of {counts} rows leave nothing to train on out of {len(index)}: make them smaller",
            n=len(index), needed=sum(counts) + 1,
        )  # fmt: skip
    shuffled = np.random.default_rng(seed).permutation(index)
    return np.split(shuffled, np.cumsum(counts))


def require_size(size: Any) -> None:
    """Raise `ValueError` unless a split size is a share (float in (0, 1)) or a number of rows (int >= 1)."""
    share = isinstance(size, float)
    if (
        not isinstance(size, float | int | np.integer)
        or isinstance(size, bool)
        or not (0 < size < 1 if share else size >= 1)
    ):
        raise ValueError(f"a split size is a share in (0, 1) or a number of rows >= 1, got {size!r}")
