"""Train, calibrate, judge and save with the Python API.

python scripts/train.py --held-out 9 --output runs/digits-scorer
"""

import argparse

import pytorch_lightning as pl

from deepad import Scorer
from deepad.data import Digits
from deepad.detectors import DenseAutoencoder
from deepad.evaluation.metrics import evaluate


def main(held_out: int, alpha: float, epochs: int, output: str) -> None:
    """Train on the digits without one of them and print what the scorer promises and keeps."""
    pl.seed_everything(0)
    data = Digits(held_out=held_out)
    detector = DenseAutoencoder(data.shape)
    pl.Trainer(max_epochs=epochs, default_root_dir="runs").fit(detector, data)

    scorer = Scorer.calibrate(detector, data.calibration_dataloader(), alpha=alpha)
    verdict = scorer(data.test_dataloader())
    scorer.save(output)

    result = evaluate(verdict, data.test_labels())
    at = result["at_threshold"]
    print(f"promised: {verdict.guarantee}")
    print(f"kept: {at['false_alarms']} of {at['n_normal']} normal samples flagged, 99 % range {at['law_99']}")
    print(f"AUROC {result['ranking']['auroc']:.3f}, recall {at['recall']:.1%}; scorer in {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=int, default=9)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--output", default="runs/digits-scorer")
    main(**vars(parser.parse_args()))
