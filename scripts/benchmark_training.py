"""Throughput of `deepad fit` with its default features on, against a bare PyTorch loop over the same tensors.

Both sides train the same network with the same optimizer on the same uint8 images in this process, in turn; the figure
is the ratio of their training rows per second (median over rounds), since absolute times depend on the machine.
deepad's side is the whole `Trainer.fit` of the command line: scaling pass, progress bar, logging, checkpoints,
validation and all. The bare loop also computes the validation loss after each epoch, once with that and once without.

    python scripts/benchmark_training.py --rounds 5 --epochs 3
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from deepad.data import MNIST
from deepad.fit import FitCLI


def bare_loop(x: torch.Tensor, val: torch.Tensor | None, epochs: int, batch: int = 256) -> float:
    """Rows per second of the loop one would write by hand."""
    torch.manual_seed(0)
    dims = [784, 512, 256, 8, 256, 512, 784]
    layers = [layer for a, b in zip(dims, dims[1:], strict=False) for layer in (nn.Linear(a, b), nn.SiLU())][:-1]
    del layers[5]  # the latent code is linear
    net = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2, fused=True)
    started = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            u = x[rows].flatten(1).float() / 255
            loss = (u - net(u)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if val is not None:
            with torch.no_grad():
                for block in val.split(batch):
                    u = block.flatten(1).float() / 255
                    (u - net(u)).square().mean()
    return epochs * len(x) / (time.perf_counter() - started)


def deepad_fit(epochs: int, folder: str) -> float:
    """Rows per second of what `deepad fit` runs."""
    cli = FitCLI([
        "--data=MNIST", "--model=DenseAutoencoder", "--model.hidden_dims=[512,256]", "--model.latent_dim=8",
        f"--trainer.max_epochs={epochs}", f"--run={folder}",
    ])  # fmt: skip
    rows = len(cli.datamodule.splits.train)
    started = time.perf_counter()
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, weights_only=True)
    return epochs * rows / (time.perf_counter() - started)


def main(rounds: int, epochs: int) -> None:
    """Print the ratios."""
    pl.seed_everything(0, verbose=False)
    data = MNIST()
    x, val = (data.splits.train.x[rows.index] for rows in (data.splits.train, data.splits.val))
    bare_loop(x, val, 1)  # warm-up
    ratios: dict[str, list[float]] = {"with validation": [], "without validation": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = deepad_fit(epochs, folder)
        for name, rows in (("with validation", val), ("without validation", None)):
            ratios[name].append(ours / bare_loop(x, rows, epochs))
    for name, values in ratios.items():
        low, high = np.min(values), np.max(values)
        print(f"deepad fit / bare loop {name}: {statistics.median(values):.3f} ({low:.3f} to {high:.3f}, {rounds} rounds)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    main(**vars(parser.parse_args()))
