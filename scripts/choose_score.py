"""Which score of a detector finds a group of normal samples that training has not seen? Evidence for defaults.

No anomaly and no test label is used: one group (a class of images, a cluster of table rows) is left out of the normal
rows, the rest is dealt into training, validation and a held-out part, and the held-out part is ranked against the group
left out. All scores of a model come from one training.

    python scripts/choose_score.py --root $DEEPAD_DATA --output docs/results/score-choice.csv
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from deepad.data.base import DataModule, Rows, Splits
from deepad.detectors import ConvolutionalAutoencoder, DenseAutoencoder, VariationalAutoencoder

TABLES = ("6_cardio", "28_pendigits", "31_satimage-2", "23_mammography", "2_annthyroid", "26_optdigits", "40_vowels", "47_yeast")
ERRORS = [{"score": "error"}, {"score": "relative"}]
NATS = [{"score": "probability"}, {"score": "elbo"}, {"score": "importance"}]


class LeftOut(DataModule):
    """Rows x (N, *shape) of which one group is anomalous by decree."""

    def __init__(self, x: torch.Tensor, odd: np.ndarray, batch_size: int) -> None:
        super().__init__(batch_size=batch_size)
        self.x, self.odd = x, odd

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.x.shape[1:])

    def load(self) -> Splits:
        """60 % train, 10 % validate, 5 % stand by for calibration, 25 % are held out."""
        normal = np.random.default_rng(0).permutation(np.flatnonzero(~self.odd))
        parts = np.split(normal, (np.array([0.6, 0.7, 0.75]) * len(normal)).astype(int))
        y, test = torch.from_numpy(self.odd.astype(np.int64)), np.concatenate([parts[3], np.flatnonzero(self.odd)])
        return Splits(Rows(self.x, parts[0]), Rows(self.x, parts[1]), Rows(self.x, parts[2]), Rows(self.x, test, y))


def problems(root: Path) -> Iterator[tuple[str, LeftOut, int]]:
    """Name, data and epochs of each problem; the cluster left out is the third smallest of six."""
    from torchvision.datasets import MNIST

    mnist = MNIST(root / "mnist", train=True)
    some = np.random.default_rng(0).permutation(60_000)[:24_000]
    for digit in (0, 1, 4, 7):
        yield f"mnist-{digit}", LeftOut(mnist.data[some][:, None], mnist.targets.numpy()[some] == digit, 256), 10
    images, labels = load_digits(return_X_y=True)
    for digit in (1, 3, 6):
        yield f"digits-{digit}", LeftOut(torch.from_numpy(images.astype(np.uint8)).view(-1, 1, 8, 8), labels == digit, 64), 60
    for name in TABLES:
        with np.load(root / "adbench" / f"{name}.npz") as held:
            x = held["X"][held["y"] == 0][:8000].astype(np.float32)
        group = KMeans(6, n_init=3, random_state=0).fit_predict((x - x.mean(0)) / np.maximum(x.std(0), 1e-6))
        odd = group == np.argsort(np.bincount(group))[2]
        yield name, LeftOut(torch.from_numpy(x), odd, 64), 40


def main(root: str, output: str) -> None:
    """Train each model on each problem, and write the AUROC of each of its scores."""
    with open(output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["problem", "model", "score", "auroc"])
        for name, data, epochs in problems(Path(root)):
            hidden = (512, 256) if name.startswith("mnist") else (256, 64)
            models = [(DenseAutoencoder, {"hidden_dims": hidden, "latent_dim": 8}, ERRORS),
                      (VariationalAutoencoder, {"hidden_dims": hidden, "latent_dim": 8}, NATS)]  # fmt: skip
            if len(data.shape) == 3:
                models.append((ConvolutionalAutoencoder, {"latent_dim": 8}, ERRORS))
            for member, arguments, scores in models:
                pl.seed_everything(0)
                detector = member(data.shape, **arguments)
                with tempfile.TemporaryDirectory() as folder:
                    pl.Trainer(max_epochs=epochs, default_root_dir=folder, logger=False, enable_progress_bar=False,
                               enable_model_summary=False).fit(detector, data)  # fmt: skip
                x, y = torch.cat([x for x, _ in data.test_dataloader()]), data.test_labels()
                for score in scores:
                    chosen = member.from_state({**detector.hparams, **score}, detector.state_arrays())
                    with torch.inference_mode():
                        ranked = torch.cat([chosen.score(part) for part in x.split(256)]).numpy()
                    auroc = roc_auc_score(y, ranked)
                    writer.writerow([name, member.__name__, score["score"], f"{auroc:.4f}"])
                    print(f"{name:16} {member.__name__:26} {score['score']:12} {auroc:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--output", default="docs/results/score-choice.csv")
    main(**vars(parser.parse_args()))
