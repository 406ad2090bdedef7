"""Throughput of `deepad fit` with its default features on, against a bare PyTorch loop over the same tensors.

Both sides train the same network with the same optimizer on the same uint8 images in one process, taking turns epoch
by epoch, so that a machine whose speed drifts slows both; the figures are ratios of rows per second, deepad / bare.
deepad's side is `Trainer.fit` as the command line sets it up: scaling pass, progress bar, logging, early stopping,
checkpoints and validation. The bare side also computes the validation loss after each epoch.

    python scripts/benchmark_training.py --config configs/mnist-dense.yaml --epochs 20
"""

import argparse
import tempfile
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from deepad.fit import FitCLI


class BareLoop(pl.Callback):
    """Trains the loop one would write by hand, one epoch before each of the Trainer's, and keeps both times."""

    def __init__(self, train: torch.Tensor, val: torch.Tensor, dims: list[int], batch: int) -> None:
        layers = [layer for a, b in pairwise(dims) for layer in (nn.Linear(a, b), nn.SiLU())][:-1]
        del layers[len(dims) - 2]  # the latent code is linear
        self.net = nn.Sequential(*layers)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 2e-3, fused=True)
        self.train, self.val, self.batch = train, val, batch
        self.bare: list[float] = []
        self.ours: list[float] = []

    def _loss(self, x: torch.Tensor) -> torch.Tensor:
        u = x.flatten(1).float() / 255
        return nn.functional.mse_loss(self.net(u), u)

    def _epoch(self) -> float:
        started = time.perf_counter()
        for rows in torch.randperm(len(self.train)).split(self.batch):
            loss = self._loss(self.train[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        with torch.no_grad():
            for x in self.val.split(self.batch):
                self._loss(x)
        return time.perf_counter() - started

    def on_train_epoch_start(self, *_: Any) -> None:
        """The bare epoch; the Trainer's begins when it is over."""
        self.bare.append(self._epoch())
        self.started = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """End of the Trainer's epoch, validation included."""
        self.ours.append(time.perf_counter() - self.started)


def main(config: str, epochs: int) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        cli = FitCLI([f"--config={config}", f"--trainer.max_epochs={epochs}", f"--run={folder}"])
        splits, arguments = cli.datamodule.splits, cli.model.hparams
        train, val = (rows.x[rows.index] for rows in (splits.train, splits.val))
        hidden = list(arguments["hidden_dims"])
        dims = [train[0].numel(), *hidden, arguments["latent_dim"], *reversed(hidden), train[0].numel()]
        bare = BareLoop(train, val, dims, cli.datamodule.batch_size)
        bare._epoch()  # warm-up
        cli.trainer.callbacks.append(bare)
        started = time.perf_counter()
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, weights_only=True)
        whole = time.perf_counter() - started - sum(bare.bare)
    ratios = np.array(bare.bare) / np.array(bare.ours)
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    print(
        f"epoch by epoch, deepad / bare: median {middle:.3f}, 80 % of {len(ratios)} epochs in {low:.3f} to {high:.3f}"
    )
    print(f"whole fit of {len(ratios)} epochs, start and end included: {sum(bare.bare) / whole:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/mnist-dense.yaml")
    parser.add_argument("--epochs", type=int, default=20)
    main(**vars(parser.parse_args()))
