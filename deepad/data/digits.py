"""Handwritten digits that come with scikit-learn: 1 797 real images of 8 x 8, no download.

Source: Alpaydin, Kaynak, *Optical recognition of handwritten digits*, UCI Machine Learning
Repository, 1998 (its test part).
"""

from collections.abc import Sequence

import numpy as np
import torch

from deepad.data.base import DataModule, Rows, Splits, deal
from deepad.data.classes import choose_classes, classes_title


class Digits(DataModule):
    """One or several digits held out as anomalies (or the mirror), the rest dealt at random into the four splits.

    Samples are uint8 images (1, 8, 8) with values 0..16.

    Args:
        held_out: digits that are anomalies; 9 if neither this nor `normal` is given.
        normal: the mirror protocol: digits that are normal, all others being anomalies.
        test_size: share or number of normal rows kept for the test split.
        val_size: see `DataModule`.
        calibration_size: see `DataModule`.
        batch_size: see `DataModule`.
        num_workers: see `DataModule`.
        seed: see `DataModule`.
    """

    shape = (1, 8, 8)

    def __init__(
        self,
        *,
        held_out: int | Sequence[int] | None = None,
        normal: int | Sequence[int] | None = None,
        test_size: int | float = 0.2,
        val_size: int | float = 0.1,
        calibration_size: int | float = 0.2,
        batch_size: int = 64,
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
        self.anomalous = choose_classes(9 if held_out is None and normal is None else held_out, normal, 10)
        self.test_size = test_size

    @property
    def title(self) -> str:
        """Name of the set and the classes left out."""
        return classes_title(type(self).__name__, self.anomalous, 10)

    def load(self) -> Splits:
        """Deal the normal rows; every anomaly goes to test."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images.astype(np.uint8)).view(-1, *self.shape)
        anomaly = np.isin(labels, list(self.anomalous))
        y = torch.from_numpy(anomaly.astype(np.int64))
        val, calibration, test, train = deal(
            np.flatnonzero(~anomaly), [self.val_size, self.calibration_size, self.test_size], self.seed
        )
        test = np.sort(np.concatenate([test, np.flatnonzero(anomaly)]))
        return Splits(Rows(x, train), Rows(x, val), Rows(x, calibration), Rows(x, test, y))
