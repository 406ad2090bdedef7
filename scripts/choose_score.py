"""Which score of a detector finds a group of normal samples that training has not seen? Evidence for defaults.

No anomaly and no test label is used: one group (a class of images, a cluster of table rows) is left out of the normal
rows, and ranked against a held-out part of the rest. All scores of a model come from one training. The labels of MNIST
used here are those of its official training images; digits that are anomalies in other protocols occur among them.

    python scripts/choose_score.py --root $DEEPAD_DATA --output docs/results/score-choice.csv
"""

import argparse
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

TABLES = ["6_cardio", "28_pendigits", "31_satimage-2", "23_mammography", "2_annthyroid", "26_optdigits", "40_vowels"]
SCORES = {
    DenseAutoencoder: ("error", "relative"),
    ConvolutionalAutoencoder: ("error", "relative"),
    VariationalAutoencoder: ("probability", "elbo", "importance"),
}


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
        """60 % train, 10 % validate, 5 % stand by, 25 % are held out."""
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
    digits = load_digits()
    for digit in (1, 3, 6):
        yield f"digits-{digit}", LeftOut(torch.from_numpy(digits.images)[:, None], digits.target == digit, 64), 60
    for name in TABLES:
        with np.load(root / "adbench" / f"{name}.npz") as held:
            rows = held["X"][held["y"] == 0][:8000].astype(np.float32)
        group = KMeans(6, n_init=3, random_state=0).fit_predict((rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-6))
        yield name, LeftOut(torch.from_numpy(rows), group == np.argsort(np.bincount(group))[2], 64), 40


def main(root: str, only: list[str], output: str) -> None:
    """Train each model on each problem, and write the AUROC of each of its scores."""
    quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
    table = ["problem,model,score,auroc"]
    for name, data, epochs in problems(Path(root)):
        if only and name not in only:
            continue
        x, y = torch.cat([x for x, _ in data.test_dataloader()]), data.test_labels()
        for member, scores in SCORES.items():
            if member is ConvolutionalAutoencoder and len(data.shape) == 1:
                continue
            pl.seed_everything(0)
            detector = member(data.shape, latent_dim=8)
            with tempfile.TemporaryDirectory() as folder:
                pl.Trainer(max_epochs=epochs, default_root_dir=folder, **quiet).fit(detector, data)
            for score in scores:
                chosen = member.from_state({**detector.hparams, "score": score}, detector.state_arrays())
                with torch.inference_mode():
                    ranked = torch.cat([chosen.score(part) for part in x.split(256)]).numpy()
                table.append(f"{name},{member.__name__},{score},{roc_auc_score(y, ranked):.4f}")
                print(table[-1], flush=True)
    Path(output).write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--only", nargs="+", default=[], help="names of problems; all if not given")
    parser.add_argument("--output", default="docs/results/score-choice.csv")
    main(**vars(parser.parse_args()))
