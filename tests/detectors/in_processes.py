"""Trains, calibrates and predicts in one process or in several, and writes down what came out.

python in_processes.py FOLDER DEVICES
"""

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DistributedSampler

from deepad import Scorer
from deepad.data.base import DataModule, Rows, Splits
from deepad.detectors import DenseAutoencoder


class Plane(DataModule):
    """Rows near a plane, in an order such that all processes together see the batches of one."""

    shape = (6,)

    def __init__(self, devices):
        super().__init__(batch_size=32 // devices)

    def load(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(320, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(320, 6))
        x, index = torch.from_numpy(x.astype(np.float32)), np.split(np.arange(320), [128, 160, 240])
        return Splits(*(Rows(x, part) for part in index[:3]), Rows(x, index[3], torch.zeros(320, dtype=torch.int64)))

    def train_dataloader(self):
        rows, trainer = self.splits.train, self.trainer
        return self._loader(rows, DistributedSampler(rows, trainer.world_size, trainer.global_rank, shuffle=False))


def main(folder, devices):
    """Leave `found.npz` and the folder `scorer`."""
    torch.manual_seed(0)
    data, detector = Plane(devices), DenseAutoencoder((6,), hidden_dims=(8,), latent_dim=2)
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=3, logger=False,
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(detector, data)
    own = torch.cat([batch["score"] for batch in trainer.predict(detector, data.calibration_dataloader())])
    shares = [torch.empty_like(own) for _ in range(devices)]
    if devices > 1:
        torch.distributed.all_gather(shares, own)
    else:
        shares = [own]
    if trainer.is_global_zero:
        scorer = Scorer.calibrate(detector, data.calibration_dataloader(), alpha=0.1)
        scorer.save(Path(folder) / "scorer")
        verdict = scorer(data.test_dataloader())
        found = {name: value.numpy() for name, value in detector.state_dict().items()}
        found |= {"fit_rows": detector.fit_rows, "score": verdict.score, "flagged": verdict.flagged}
        found |= {"predicted": torch.stack(shares, 1).flatten().numpy()}  # rows are dealt in turn
        found |= {"direct": scorer(data.calibration_dataloader()).score}
        np.savez(Path(folder) / "found.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
