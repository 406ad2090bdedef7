"""Seconds a window of training and scoring: windows as views, against a bare loop over windows that were copied out.

Both sides take turns in one process and train and validate the same default network on the same windows; the ratio is
deepad divided by the bare loop, below 1 is faster. deepad's side is `Trainer.fit` with early stopping and checkpoints.

    python scripts/benchmark_series.py
"""

import argparse
import tempfile
import time

import numpy as np
import pytorch_lightning as pl
import torch

from deepad import detectors
from deepad.baselines.base import BLOCK
from deepad.data import Series
from deepad.data.windows import StepRule
from deepad.scoring.steps import score_series

WINDOW = 64


class Watch(pl.Callback):
    """Seconds of each epoch, its validation included."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, list[float]()

    def on_train_epoch_start(self, *_: object) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.began)


def ours(member: type, data: Series, epochs: int) -> tuple[pl.LightningModule, list[float]]:
    """A trained detector and the seconds of each epoch after the first."""
    detector, watch = member(data.shape), Watch()
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        pl.Trainer(max_epochs=epochs, default_root_dir=folder, callbacks=[watch], **quiet).fit(detector, data)
    return detector, watch.seconds[1:]


def bare(member: type, train: torch.Tensor, val: torch.Tensor, batch_size: int, epochs: int) -> list[float]:
    """Seconds of each epoch of a bare loop over copied windows, after the first."""
    detector, seconds = member(tuple(train.shape[1:])), []
    detector.scaling.fit(train.split(1024))
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3, fused=True)
    for _ in range(epochs):
        began = time.perf_counter()
        for batch in torch.randperm(len(train)).split(batch_size):
            optimizer.zero_grad()
            detector.loss(train[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            sum(detector.loss(batch) for batch in val.split(batch_size))
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def main(model: str, steps: int, epochs: int, rounds: int) -> None:
    """Print median and range of the ratios."""
    series = np.random.default_rng(0).normal(size=(steps, 8)).cumsum(0).astype(np.float32)
    data = Series(frames=series, window_size=WINDOW, fit_until=0.9, batch_size=256)
    train, val = (rows.x[rows.index] for rows in (data.splits.train, data.splits.val))
    member = getattr(detectors, model)
    pairs = [(ours(member, data, epochs), bare(member, train, val, data.batch_size, epochs)) for _ in range(rounds)]
    ratio = np.concatenate([np.divide(mine, theirs) for (_, mine), theirs in pairs])
    print(f"training: {np.median(ratio):.2f} ({np.quantile(ratio, 0.1):.2f} to {np.quantile(ratio, 0.9):.2f})")
    detector, windows, ratio = pairs[0][0][0], torch.from_numpy(series).unfold(0, WINDOW, 1).transpose(1, 2), []
    copied = windows.contiguous()
    for _ in range(3 * rounds):
        began = time.perf_counter()
        score_series(detector, StepRule(WINDOW), series)
        middle = time.perf_counter()
        with torch.inference_mode():
            for batch in copied.split(BLOCK):
                detector.contributions(batch).sum(2, dtype=torch.float64)[:, -1].numpy()
        ratio.append((middle - began) / (time.perf_counter() - middle))
    print(f"scoring:  {np.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="DenseAutoencoder")
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
