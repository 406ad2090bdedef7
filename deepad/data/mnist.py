"""MNIST and its relatives, read by torchvision.

The official training images give train, val and calibration; the official 10 000 test images are the test split.
The two parts were written by different people, so calibration and test are only nearly exchangeable: what that costs
is measured in the configs' headers.

Source: LeCun, Bottou, Bengio, Haffner, *Gradient-based learning applied to document recognition*, 1998; Xiao, Rasul,
Vollgraf, *Fashion-MNIST*, 2017; Clanuwat et al., *Deep learning for classical Japanese literature*, 2018.
"""

import os
from abc import ABC
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepad.data.base import DataModule, Rows, Splits, deal
from deepad.data.classes import choose_classes, classes_title
from deepad.errors import IncompatibleInstallError, InputError


class _TorchvisionImages(DataModule, ABC):
    """What the three sets share: ten classes of 28 x 28 grey images.

    Samples are uint8 images (1, 28, 28) with values 0..255.

    Args:
        root: folder that holds `MNIST/raw` (or `FashionMNIST/raw`, `KMNIST/raw`); if not given, the folder in
            `$DEEPAD_DATA` that does, else `data`.
        held_out: classes that are anomalies; 9 if neither this nor `normal` is given.
        normal: the mirror protocol: classes that are normal, all others being anomalies.
        download: fetch the files by torchvision if they are missing.
        val_size: see `DataModule`.
        calibration_size: see `DataModule`.
        batch_size: see `DataModule`.
        num_workers: see `DataModule`.
        seed: see `DataModule`.
    """

    shape = (1, 28, 28)

    def __init__(
        self,
        *,
        root: str | None = None,
        held_out: int | Sequence[int] | None = None,
        normal: int | Sequence[int] | None = None,
        download: bool = True,
        val_size: int | float = 0.1,
        calibration_size: int | float = 0.1,
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
        self.anomalous = choose_classes(9 if held_out is None and normal is None else held_out, normal, 10)
        found = sorted(Path(os.environ.get("DEEPAD_DATA", "data")).glob(f"*/{type(self).__name__}/raw"))
        self.root = Path(root) if root else found[0].parents[1] if found else Path("data")
        self.download = download

    @property
    def title(self) -> str:
        """Name of the set and the classes left out."""
        return classes_title(type(self).__name__, self.anomalous, 10)

    def prepare_data(self) -> None:
        """Find the files, or download them.

        Raises:
            InputError: no files and no network (or no permission to download).
            IncompatibleInstallError: torchvision is missing.
        """
        if self._splits is None:
            self._read()

    def _read(self) -> list[Any]:
        """The official training and test sets."""
        try:
            from torchvision import datasets
        except ImportError as error:
            raise IncompatibleInstallError(
                f"{type(self).__name__} is read by torchvision: pip install 'deepad[images]' ({error})"
            ) from None
        name = type(self).__name__
        member = getattr(datasets, name)
        where = self.root / name / "raw"
        try:
            return [member(self.root, train=train, download=False) for train in (True, False)]
        except RuntimeError:
            advice = f"put {', '.join(Path(url).stem for url, _ in member.resources)} (or their .gz) into {where}"
            if not self.download:
                raise InputError(f"no {name} files in {where} and download is off: {advice}, or set root") from None
        new = [folder for folder in (where, *where.parents) if not folder.exists()]
        try:
            return [member(self.root, train=train, download=True) for train in (True, False)]
        except (OSError, RuntimeError) as error:
            for folder in new:  # made by the attempt; one that is not empty stays
                with suppress(OSError):
                    folder.rmdir()
            raise InputError(
                f"{name} is not in {where} and could not be downloaded ({str(error).splitlines()[0][:80]}): "
                f"{advice}, or set root to the folder above {name}/raw"
            ) from None

    def load(self) -> Splits:
        """Deal the normal training images; the official test images are the test split."""
        train, test = self._read()
        x = torch.cat([train.data, test.data])[:, None]
        labels = torch.cat([train.targets, test.targets]).numpy()
        anomaly = np.isin(labels, list(self.anomalous))
        y = torch.from_numpy(anomaly.astype(np.int64))
        pool = np.flatnonzero(~anomaly[: len(train.data)])
        val, calibration, rest = deal(pool, [self.val_size, self.calibration_size], self.seed)
        official = np.arange(len(train.data), len(x))
        return Splits(Rows(x, rest), Rows(x, val), Rows(x, calibration), Rows(x, official, y))


class MNIST(_TorchvisionImages):
    """Handwritten digits."""


class FashionMNIST(_TorchvisionImages):
    """Articles of clothing."""


class KMNIST(_TorchvisionImages):
    """Cursive Japanese characters."""


for _member in (MNIST, FashionMNIST, KMNIST):
    _member.__doc__ = f"{_member.__doc__}\n\n{_TorchvisionImages.__doc__}"
